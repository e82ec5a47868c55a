"""``aiconf estimate``, ``support``, ``systems``, ``models``, ``--version``."""

import csv
import io
import json

import pytest

import aiconf as package

ONE = ["estimate", "--model", "qwen3-32b", "--system", "h200_sxm", "--layout", "tp4"]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_estimate_explains(aiconf):
    code, out, err = aiconf(*ONE, "--concurrency", "16")
    assert (code, err) == (0, "")
    assert "1 x tp4pp1dp1ep1 on 4 GPUs" in out
    assert "Memory of the fullest GPU, GiB" in out
    assert "% measured" in out
    found = json.loads(aiconf(*ONE, "--concurrency", "16", "--format", "json")[1])
    (memory,) = found["memory"]
    parts = ("reserved", "weights", "activations", "graphs", "kv_cache")
    assert sum(memory[f"{part}_gib"] for part in parts) <= memory["total_gib"]
    assert found["best"]["concurrency"] == 16


def test_estimate_disaggregated(aiconf, tmp_path):
    done = aiconf(
        *ONE, "--prefill-layout", "tp2", "--concurrency", "8", "--save-dir", tmp_path / "out"
    )
    assert done[0] == 0
    assert "1 x prefill tp2pp1dp1ep1 + 1 x decode tp4pp1dp1ep1" in done[1]
    assert (tmp_path / "out" / "disagg" / "deploy.yaml").is_file()
    assert (tmp_path / "out" / "result.json").is_file()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--layout", "tp3"], "tp 3 does not divide the 64 attention heads"),
        (["--layout", "four"], "'four' is not a parallel layout"),
        (["--concurrency", "0"], "concurrency must be a whole number of at least 1"),
        (["--out", "x.csv"], "--out is for --from"),
        (["--from", "missing.csv"], "cannot read missing.csv: No such file"),
    ],
)
def test_estimate_refuses(aiconf, more, says):
    code, out, err = aiconf(*ONE, *more)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_estimate_needs_a_layout(aiconf):
    assert "missing --system, --layout" in aiconf("estimate", "--model", "qwen3-32b")[2]


def test_rows_of_a_file_are_never_dropped(aiconf, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(
        "model,system,layout,concurrency,note,ttft_ms\n"
        "qwen3-32b,h200_sxm,tp4,16,first,111\n"
        "qwen3-32b,h200_sxm,tp4,lots,second,\n"
        "qwen3-33b,h200_sxm,tp4,16,third,\n"
        "qwen3-32b,h200_sxm,tp2,8.0,,\n"
        ",h200_sxm,tp2\n",
        encoding="utf-8",
    )
    code, printed, err = aiconf("estimate", "--from", source, "--out", out, "--osl", "200")
    assert (code, printed) == (2, "")
    assert "2 rows predicted, 3 with an error" in err
    assert "columns copied without effect: note, ttft_ms" in err
    rows = rows_of(out.read_text("utf-8"))
    assert [row["status"] for row in rows] == ["ok", "error", "error", "ok", "error"]
    assert rows[0]["ttft_ms"] == "111"
    assert float(rows[0]["predicted_ttft_ms"]) > 0
    assert rows[1]["reason"] == "concurrency must be a whole number, not 'lots'"
    assert "did you mean Qwen3-32B" in rows[2]["reason"]
    assert rows[4]["reason"] == "model is missing"
    one = json.loads(aiconf(*ONE, "--concurrency", "16", "--osl", "200", "--format", "json")[1])
    assert float(rows[0]["tpot_ms"]) == pytest.approx(one["best"]["tpot_ms"], rel=1e-5)
    assert "exists: name another file" in aiconf("estimate", "--from", source, "--out", out)[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "is empty"), ("model,model\n", "twice"), ("model\na,b\n", "line 2 has 2 cells for 1")],
)
def test_broken_files(aiconf, tmp_path, text, says):
    source = tmp_path / "in.csv"
    source.write_text(text)
    code, _, err = aiconf("estimate", "--from", source)
    assert code == 2
    assert says in err


def test_support(aiconf):
    line = ["support", "--model", "gpt-oss-120b", "--system", "h200_sxm", "--format", "json"]
    found = json.loads(aiconf(*line)[1])
    assert [row["backend"] for row in found] == ["sglang", "trtllm", "vllm"]
    for row in found:
        assert row["gpus"] >= 1
        assert row["measured"] + row["interpolated"] + row["fallback"] == pytest.approx(1.0)
    code, out, _ = aiconf("support", "--model", "qwen3-32b", "--backend", "vllm", "--precision",
                          "nvfp4", "--system", "h100_sxm")  # fmt: skip
    assert code == 0
    assert out.split("\n")[1].split()[:6] == [
        "nvidia/Qwen3-32B-NVFP4", "nvfp4", "h100_sxm", "vllm", out.split("\n")[1].split()[4], "no",
    ]  # fmt: skip


def test_lists(aiconf):
    systems = json.loads(aiconf("systems", "--format", "json")[1])
    assert {"h200_sxm", "gb200", "gb300"} <= {row["name"] for row in systems}
    assert all("vllm" in row["engines"] for row in systems)
    models = rows_of(aiconf("models", "--format", "csv")[1])
    sizes = {row["checkpoint"]: float(row["parameters_billion"]) for row in models}
    assert sizes["deepseek-ai/DeepSeek-R1"] == pytest.approx(671, rel=0.01)
    assert "KV kB/token" in aiconf("models")[1]


def test_version_and_help(aiconf):
    assert aiconf("--version") == (0, f"aiconf {package.__version__}\n", "")
    code, out, _ = aiconf("--help")
    assert code == 0
    for command in ("cli", "estimate", "support", "systems", "models", "db"):
        assert f"\n  {command} " in out
    assert "--total-gpus" in aiconf("cli", "--help")[1]


@pytest.mark.parametrize("command", ["check", "calibrate"])
def test_measured_runs_are_never_written_over(aiconf, tmp_path, command):
    source = tmp_path / "runs.csv"
    source.write_text("hardware,backend,model,isl,osl,concurrency_or_rate\n")
    before = source.read_text()
    for out, says in ((source, "is an input"), (tmp_path, "is a folder")):
        code, _, err = aiconf("runs", command, source, "--out", out)
        assert code == 2
        assert says in err
    assert source.read_text() == before


def test_a_calibration_needs_a_seed_and_runs_that_can_be_used(aiconf, tmp_path):
    source = tmp_path / "runs.csv"
    source.write_text("hardware,backend,model,isl,osl,concurrency_or_rate\nH200 SXM,,m,1,1,1\n")
    for more, says in ((("--seed", -1), "seed"), (("--rows", 0), "rows"), ((), "no measured run")):
        code, _, err = aiconf("runs", "calibrate", source, "--out", tmp_path / "c.yaml", *more)
        assert code == 2
        assert says in err
        assert not (tmp_path / "c.yaml").exists()
