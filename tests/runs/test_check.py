"""`runs check` on synthetic rows: every status, the order, the counts, the forms."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiconf.cli.runs import app
from aiconf.errors import UserError
from aiconf.runs.check import check, grouped, summary
from aiconf.runs.history import kv_dtype
from aiconf.runs.layouts import aggregated_workers
from aiconf.runs.names import model_of, short_names
from aiconf.runs.read import read_rows
from aiconf.runs.write import ADDED, write_csv

HEADER = (
    "source", "date", "hardware", "num_gpus", "backend", "backend_version", "model", "precision",
    "serving_mode", "tp", "pp", "dp", "ep", "prefill_config", "decode_config", "mtp/spec", "isl",
    "osl", "length_range", "concurrency_or_rate", "ttft_ms_mean", "ttft_ms_p50", "tpot_ms_mean",
    "output_tok_per_s", "notes",
)  # fmt: skip
GOOD = {
    "hardware": "H200 SXM", "num_gpus": "1", "backend": "vllm", "backend_version": "0.13.0",
    "model": "Qwen/Qwen3-32B", "precision": "fp8", "serving_mode": "agg", "tp": "1",
    "mtp/spec": "none", "isl": "1024", "osl": "64", "length_range": "0.8",
    "concurrency_or_rate": "4", "ttft_ms_mean": "100", "tpot_ms_mean": "14",
    "output_tok_per_s": "250",
}  # fmt: skip
SIDES = {
    "serving_mode": "disagg", "tp": "",
    "prefill_config": "workers=1;tp=1;ep=1;dp_attn=false;gpus=1",
    "decode_config": "workers=2;tp=1;ep=1;dp_attn=false;gpus=2",
}  # fmt: skip
# What is changed in the good row, and the status and part of the reason that must follow.
CASES = [
    ({}, "ok", ""),
    ({"tp": ""}, "skipped", "tp is not stated"),
    ({"osl": ""}, "skipped", "osl is not stated"),
    ({"concurrency_or_rate": ""}, "skipped", "load is not stated"),
    ({"concurrency_or_rate": "0"}, "skipped", "concurrency"),
    ({"ttft_ms_mean": "-3"}, "skipped", "impossible value: ttft_ms_mean"),
    ({"length_range": "2"}, "skipped", "length_range"),
    ({"num_gpus": "3", "tp": "2"}, "skipped", "no multiple"),
    ({"mtp/spec": "MTP DL=3"}, "ok", ""),
    ({"mtp/spec": "mtp"}, "skipped", "number of drafts is not stated"),
    ({"mtp/spec": "none / MTP-1"}, "skipped", "more than one setting"),
    ({"mtp/spec": "EAGLE3 DL=3, AL 9.5"}, "skipped", "impossible with 3 drafts"),
    ({"concurrency_or_rate": "offline", "notes": "num_requests=64"}, "ok", ""),
    ({"concurrency_or_rate": "static=8"}, "ok", ""),
    ({"concurrency_or_rate": "static=0"}, "skipped", "static"),
    ({"concurrency_or_rate": "sessions=4"}, "unsupported", "sessions"),
    ({"hardware": "MI300X"}, "unsupported", "unknown hardware"),
    ({"model": "org/Unheard-9B"}, "unsupported", "unknown model"),
    ({"backend": "lmdeploy"}, "unsupported", "unknown backend"),
    ({"model": "deepseek-ai/DeepSeek-R1"}, "unsupported", "does not fit"),
    ({"length_range": ""}, "ok", "taken as fixed"),
    ({"concurrency_or_rate": "rate=2"}, "ok", ""),
    ({"concurrency_or_rate": "burst"}, "ok", ""),
    (SIDES, "ok", ""),
    ({**SIDES, "decode_config": "tp=1;gpus=2"}, "skipped", "number of decode workers"),
    ({"isl": "512"}, "ok", ""),
]  # fmt: skip


def _write(path: Path, changes: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows({**GOOD, "source": f"row {i}", **c} for i, c in enumerate(changes))
    return path


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory):
    path = _write(tmp_path_factory.mktemp("runs") / "a.csv", [case[0] for case in CASES])
    return check(read_rows(path, {}))


@pytest.mark.parametrize("place", range(len(CASES)))
def test_every_row_gets_its_status_and_reason(checked, place: int):
    _, status, reason = CASES[place]
    assert (checked[place].status, reason in checked[place].reason) == (status, True), checked[
        place
    ].reason


def test_counts_add_up_and_order_is_kept(checked, tmp_path: Path):
    out = tmp_path / "out.csv"
    write_csv(out, checked)
    rows = list(csv.DictReader(out.open()))
    assert [row["source"] for row in rows] == [f"row {i}" for i in range(len(CASES))]
    assert tuple(rows[0])[: len(HEADER)] == HEADER and tuple(rows[0])[len(HEADER) :] == ADDED
    total = summary(checked)
    assert total["ok"] + total["skipped"] + total["unsupported"] == total["rows"] == len(CASES)
    assert sum(group["rows"] for group in grouped(checked)) == len(CASES)
    for row in rows:
        assert bool(row["predicted_ttft_ms_mean"]) == (row["status"] == "ok")
        assert row["status"] == "ok" or row["reason"]


def test_predictions_are_consistent(checked):
    found = checked[0].prediction
    assert found is not None and found.tpot_mean is not None
    assert 0 < found.ttft_p50 <= found.ttft_p99
    assert found.output_rate < 4 / found.tpot_mean
    assert found.total_rate > found.output_rate
    assert sum(found.origin) == pytest.approx(1.0)
    # Decode on two workers of its own has about the step time of one that also prefills.
    spread = checked[[case[0] for case in CASES].index(SIDES)].prediction
    assert spread is not None and spread.tpot_mean == pytest.approx(found.tpot_mean, rel=0.5)


def test_equal_configurations_are_predicted_once(tmp_path: Path, monkeypatch):
    import aiconf.runs.check as module

    calls = []
    monkeypatch.setattr(module, "predict", lambda *key: calls.append(key) or _stop())
    rows = read_rows(_write(tmp_path / "a.csv", [{}, {"tpot_ms_mean": "20"}]), {})
    assert [one.status for one in check(rows)] == ["unsupported", "unsupported"]
    assert len(calls) == 1


def _stop():
    raise UserError("stopped")


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"a": 1}', "[1, 2]", "nothing"])
def test_unknown_form_is_named_with_the_known_ones(tmp_path: Path, text: str):
    path = tmp_path / "some.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"some\.txt is of no known form.*vllm bench serve"):
        read_rows(path, {})


def test_missing_file_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read"):
        read_rows(tmp_path / "none.csv", {})


CLIENT = {
    "mean_ttft_ms": 50.0, "median_ttft_ms": 48.0, "p99_ttft_ms": 90.0, "mean_tpot_ms": 9.0,
    "completed": 10, "total_input_tokens": 10240, "total_output_tokens": 1280,
    "output_throughput": 300.0, "max_concurrency": 4,
}  # fmt: skip
AIPERF_METRICS = {
    "time_to_first_token": {"value": 55.0}, "inter_token_latency": {"value": 6.0},
    "input_sequence_length": {"value": 128}, "output_sequence_length": {"value": 24},
}  # fmt: skip
FORMS = {
    "vllm": CLIENT | {"endpoint_type": "openai", "model_id": "x", "total_token_throughput": 9.0},
    "sglang": CLIENT | {"total_throughput": 9.0, "random_input_len": 1024,
                        "random_output_len": 128, "random_range_ratio": 1.0},
    "aiperf": {
        "aiperf_version": "0.13", "time_to_first_token": {"avg": 55.0, "p50": 54.0},
        "inter_token_latency": {"avg": 6.0}, "output_token_throughput": {"avg": 465.0},
        "input_sequence_length": {"avg": 128.0, "min": 128.0, "max": 128.0},
        "output_sequence_length": {"avg": 24.0, "min": 24.0, "max": 24.0},
        "request_count": {"avg": 24.0},
        "input_config": {"phases": [{"concurrency": 4}]},
    },
    "aiperf_requests": {
        "metadata": {"benchmark_phase": "profiling", "request_start_ns": 0,
                     "request_end_ns": 10**9},
        "metrics": AIPERF_METRICS,
    },
    "inferencex": {"hw": "h200", "conc": 4, "framework": "vllm", "isl": 1024, "osl": 128,
                   "model": "x", "precision": "fp8", "spec_decoding": "none", "tp": 1, "ep": 1,
                   "disagg": False, "mean_ttft": 0.05, "mean_tpot": 0.009,
                   "output_tput_per_gpu": 300.0, "tput_per_gpu": 900.0,
                   "image": "vllm/vllm-openai:v0.13.0"},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_other_forms_are_predicted_when_the_deployment_is_given(tmp_path: Path, name: str):
    path, out = tmp_path / "r.json", tmp_path / "o.csv"
    record = FORMS[name] | ({"model": "Qwen/Qwen3-32B"} if name == "inferencex" else {})
    record |= {"model_id": "Qwen/Qwen3-32B"} if name in ("vllm", "sglang") else {}
    lines = 2 if name == "aiperf_requests" else 1
    path.write_text("\n".join([json.dumps(record)] * lines))
    options = ["--model", "Qwen3-32B", "--system", "h200_sxm", "--backend", "vllm",
               "--precision", "fp8", "--layout", "tp1", "--concurrency", "4"]  # fmt: skip
    done = CliRunner().invoke(
        app, ["check", str(path), "--out", str(out), "--format", "json", *options]
    )
    assert done.exit_code == 0, done.output
    total = json.loads(done.stdout)["total"]
    assert total["ok"] == total["rows"] == 1, json.loads(done.stdout)
    assert total["tpot_rows"] == total["ttft_rows"] == 1


def test_client_file_without_deployment_is_skipped_with_the_reason(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(FORMS["vllm"]))
    (row,) = read_rows(path, {})
    assert row.status == "skipped" and "hardware is not stated" in row.reason


def test_table_lists_reasons_and_counts(tmp_path: Path):
    path = _write(tmp_path / "a.csv", [{}, {"osl": ""}])
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0
    assert "2 rows: 1 predicted, 1 skipped, 0 unsupported" in done.stdout
    assert "osl is not stated" in done.stdout


@pytest.mark.parametrize(
    ("backend", "version", "date", "expected"),
    [
        ("vllm", "v0.11.2", "", "bf16"),
        ("vllm", "0.12.0", "2025-01-01", None),
        ("vllm", "", "2025-11-02", "bf16"),
        ("vllm", "", "2026-01-02", None),
        ("vllm", "", "", None),
        ("sglang", "0.5.6", "2025-01-01", None),
    ],
)
def test_old_vllm_keeps_a_bf16_cache(backend, version, date, expected):
    assert kv_dtype(backend, version, date) == expected


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("AIC_fields tp=8 attn_dp=1 moe_tp=1 moe_ep=16 bs=4", "tp8pp1dp2ep16"),
        ("AIC_fields tp=16 moe_tp=4 moe_ep=4; AIC file has tp*ep folded", "tp4pp1dp1ep4"),
        ("AIC_fields tp=16 moe_tp=4 moe_ep=4; AIC_fields fold tp*ep and are WRONG", "tp4pp1dp1ep4"),
    ],
)
def test_folded_fields_say_nothing_about_attention_dp(notes: str, expected: str):
    found = expected.removeprefix("tp").split("pp")[0]
    ep = expected.rsplit("ep", 1)[1]
    cells = GOOD | {"tp": found, "num_gpus": found, "dp": "1", "ep": ep, "notes": notes}
    assert str(aggregated_workers(cells).parallel) == expected


def test_short_names_of_result_files_lead_to_families():
    assert model_of("qwen3.5", "fp8").checkpoint == "Qwen/Qwen3.5-397B-A17B-FP8"
    for family in short_names().values():
        assert model_of(family, None).layers
