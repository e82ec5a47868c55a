"""``aiconf simulate``: loads, figures, files, and bad input."""

from __future__ import annotations

import csv
import json

import pytest

import aiconf as package

BASE = {
    "--model": "qwen3-32b", "--precision": "fp8", "--system": "h200_sxm", "--layout": "tp4",
    "--isl": "500", "--osl": "50",
}  # fmt: skip


def words(options):
    return [w for pair in (BASE | options).items() for w in pair if w is not None]


def answered(aiconf, options):
    code, out, err = aiconf("simulate", *words(options | {"--format": "json"}))
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    rows = "".join(f"{i * 0.5},{300 + i},{20 + i}\n" for i in range(30))
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    return path


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        ({"--concurrency": "4"}, 40),
        ({"--rate": "5", "--requests": "30"}, 30),
        ({"--rate": "5", "--requests": "30", "--arrivals": "gamma", "--cv": "2"}, 30),
        ({"--static": "8"}, 8),
        ({"--offline": "50", "--length-range": "0.8"}, 50),
        ({"--concurrency": "6", "--workers": "2", "--length-cv": "0.5"}, 60),
        ({"--concurrency": "1", "--workers": "4"}, 10),
        ({"--concurrency": "4", "--prefill-layout": "tp2", "--prefill-workers": "2"}, 40),
        ({"--concurrency": "4", "--drafts": "2", "--acceptance": "0.7"}, 40),
        ({"--concurrency": "4", "--warmup": "8", "--backend": "sglang"}, 40),
        ({"--concurrency": "4", "--backend": "trtllm", "--layout": "tp2pp2"}, 40),
    ],
)
def test_loads(aiconf, options, requests):
    found = answered(aiconf, options)
    assert found["inputs"]["requests"] == requests
    times = found["times_ms"]
    assert 0 < times["ttft"]["p50"] <= times["ttft"]["p99"]
    assert 0 < times["tpot"]["mean"] < 100
    assert times["latency"]["mean"] > times["ttft"]["mean"]
    rates = found["rates"]
    assert rates["goodput"] == pytest.approx(rates["requests"])
    assert rates["output_tokens_per_gpu"] == pytest.approx(
        rates["output_tokens"] / found["inputs"]["gpus"]
    )
    for split in found["seconds"].values():
        assert min(split.values()) >= 0
    assert len(found["timeline"]["time_s"]) == len(found["timeline"]["kv"])


def test_a_trace_and_its_lengths_alone(aiconf, trace):
    found = answered(aiconf, {"--trace": str(trace)})
    assert found["inputs"]["requests"] == 30
    assert found["rates"]["duration_s"] > 14.5
    assert "Vidur CSV" in found["inputs"]["load"]
    drawn = answered(aiconf, {"--trace": str(trace), "--concurrency": "3"})
    assert drawn["inputs"]["load"] == "closed loop of 3 users, Vidur CSV, its lengths"


def test_table_and_requests(aiconf, tmp_path):
    path = tmp_path / "requests.csv"
    options = {"--concurrency": "4", "--ttft": "1", "--out": str(path), "--warmup": "3"}
    code, out, err = aiconf("simulate", *words(options))
    assert code == 0
    assert "Seen by requests" in out
    assert "0.0 % keep TTFT ≤ 1 ms" in out
    assert str(path) in err
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert [row["warmup"] for row in rows[:4]] == ["yes", "yes", "yes", "no"]
    for row in rows:
        sent, first = float(row["sent_s"]), float(row["first_token_s"])
        assert float(row["ttft_ms"]) == pytest.approx((first - sent) * 1e3, abs=0.01)


def test_equal_seeds_agree_and_others_differ(aiconf):
    options = {"--rate": "8", "--requests": "40", "--length-range": "0.5"}
    first, again, other = (answered(aiconf, options | {"--seed": s}) for s in ("1", "1", "2"))
    assert first == again
    assert first["times_ms"] != other["times_ms"]


BAD = [
    ({}, "what is the load? give one of --concurrency, --rate, --static, --offline, --trace"),
    ({"--concurrency": "4", "--rate": "2"}, "--concurrency and --rate exclude each other"),
    ({"--concurrency": "0"}, "concurrency must be a whole number of at least 1, not 0"),
    ({"--rate": "0"}, "a request rate must be a positive number"),
    ({"--rate": "nan"}, "a request rate must be a positive number"),
    ({"--rate": "1", "--arrivals": "poison"}, "'poison' is not one of poisson, gamma, constant"),
    ({"--rate": "1", "--arrivals": "gamma", "--cv": "0"}, "variation of arrivals"),
    ({"--rate": "1", "--cv": "0"}, "needs gamma arrivals of a request rate: add --rate with"),
    ({"--concurrency": "4", "--cv": "2"}, "a variation of arrivals (2) needs gamma arrivals"),
    ({"--concurrency": "4", "--arrivals": "constant"}, "constant arrivals are of a request rate"),
    ({"--concurrency": "4", "--acceptance": "3"}, "acceptance (3) needs drafts: add --drafts N (1"),
    ({"--concurrency": "4", "--model": ""}, "the name of the model is empty: give one of"),
    ({"--static": "-1"}, "static must be a whole number of at least 1, not -1"),
    ({"--static": "4", "--requests": "8"}, "leave out --requests"),
    ({"--concurrency": "4", "--warmup": "40"}, "40 warm-up requests leave none of 40"),
    ({"--concurrency": "4", "--length-range": "2"}, "shortest length is a share"),
    ({"--concurrency": "4", "--length-cv": "-1"}, "coefficient of variation"),
    ({"--concurrency": "4", "--seed": "-1"}, "seed must be a whole number"),
    ({"--concurrency": "4", "--drafts": "-1"}, "takes 1 to 64 drafts, not -1"),
    ({"--concurrency": "4", "--drafts": "1", "--acceptance": "2"}, "acceptance 2.0"),
    ({"--concurrency": "4", "--workers": "0"}, "workers must be a whole number"),
    ({"--concurrency": "4", "--layout": "tp3"}, "layout tp3pp1dp1ep1: tp 3 does not divide"),
    ({"--concurrency": "4", "--layout": "t4"}, "'t4' is not a parallel layout"),
    ({"--concurrency": "4", "--backend": "vlm"}, "did you mean vllm?"),
    ({"--concurrency": "4", "--isl": "50000"}, "exceeds the 40,960 of Qwen3-32B"),
    ({"--concurrency": "4", "--kv-dtype": "fp9"}, "unknown kv_dtype 'fp9'"),
    ({"--concurrency": "4", "--token-budget": "0"}, "token_budget must be a whole number"),
    ({"--concurrency": "200000"}, "2,000,000 requests are more than"),
    ({"--trace": "missing.csv"}, "cannot read missing.csv"),
    ({"--concurrency": "4", "--out": "no/such/folder/a.csv"}, "cannot write no/such/folder/a.csv"),
    ({"--concurency": "4"}, "did you mean --concurrency?"),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[case[1][:30] for case in BAD])
def test_bad_input_gets_one_line(aiconf, options, says):
    code, out, err = aiconf("simulate", *words(options))
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_the_function_beside_the_command():
    found = package.replay("qwen3-32b", "h200_sxm", "tp4", 500, 50, precision="fp8", concurrency=4)
    assert found.summary.requests == 40
    assert len(found.replay.ttft) == 40
    assert found.document["times_ms"]["ttft"]["mean"] == pytest.approx(
        found.summary.ttft.mean * 1e3
    )
