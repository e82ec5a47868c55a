"""``aiconf cli``: formats, spellings, AIConfigurator's words, folders."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest

MAIN = ["cli", "--model", "QWEN3_32B", "--total-gpus", "8", "--system", "h200_sxm"]


def test_table_says_what_the_issue_asks_for(aiconf):
    code, out, err = aiconf(*MAIN, "--isl", "4000", "--osl", "500", "--ttft", "300", "--tpot", "10")
    assert (code, err) == (0, "")
    for wanted in (
        "Qwen/Qwen3-32B-FP8 (fp8_block weights, bf16 KV cache)",
        "4000 input + 500 output tokens",
        "mean TTFT ≤ 300 ms, mean TPOT ≤ 10 ms",
        "Best aggregated:",
        "Best disaggregated:",
        "more per GPU than the best",
        "Top 5 aggregated",
        "Top 5 disaggregated",
        "output tok/s/GPU",
        "TPOT target 10 ms = 100 tok/s/user",
        "GEMM",
        "attention",
        "communication",
        "% measured",
    ):
        assert wanted in out


def test_underscores_are_accepted_in_every_option(aiconf):
    plain = aiconf(*MAIN, "--kv-dtype", "fp8", "--top", "2", "--format", "csv")
    words = [word.replace("-gpus", "_gpus") for word in MAIN]
    assert aiconf(*words, "--kv_dtype=fp8", "--top", "2", "--format", "csv") == plain


def test_json_holds_what_the_table_shows(aiconf):
    code, out, _ = aiconf(*MAIN, "--format", "json", "--top", "2")
    found = json.loads(out)
    assert code == 0
    assert found["targets_met"] is True
    assert found["inputs"]["targets"] == {"ttft_ms": 2000.0, "tpot_ms": 30.0, "latency_ms": None}
    assert found["best"] in (found["best_agg"], found["best_disagg"])
    assert [len(found["top"][mode]) for mode in ("agg", "disagg")] == [2, 2]
    assert sum(found["origins"].values()) == pytest.approx(1.0)
    assert found["comparison"]["ratio"] >= 1.0
    for one in found["iterations"]:
        assert sum(one["parts_ms"].values()) == pytest.approx(one["ms"])


def test_pareto_front_falls_in_both_directions(aiconf):
    found = json.loads(aiconf(*MAIN, "--format", "json")[1])
    for front in found["pareto"].values():
        speed = [point["tok_per_s_per_user"] for point in front]
        rate = [point["output_tok_per_s_per_gpu"] for point in front]
        assert speed == sorted(speed, reverse=True)
        assert rate == sorted(rate)


def test_csv_starts_with_the_winner(aiconf):
    rows = list(csv.DictReader(io.StringIO(aiconf(*MAIN, "--format", "csv", "--top", "3")[1])))
    best = json.loads(aiconf(*MAIN, "--format", "json")[1])["best"]
    assert len(rows) == 6
    assert rows[0]["layout"] == best["layout"]
    assert float(rows[0]["tpot_ms"]) == pytest.approx(best["tpot_ms"], rel=1e-5)
    assert rows[0]["meets_targets"] == "true"


@pytest.mark.parametrize("option", ["--model-path", "--hf_id", "--model-name", "--model"])
def test_aiconfigurators_command_line_works(aiconf, option):
    code, out, err = aiconf(
        "cli", "default", option, "Qwen/Qwen3-32B", "--total-gpus", "8", "--system", "h200_sxm",
        "--backend", "vllm", "--database-mode", "HYBRID", "--top-n", "1", "--serving-mode", "agg",
        "--generated_config_version=1.0", "--strict-sla", "--log-level", "ERROR",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "--database-mode is accepted and ignored" in out
    assert "--generated-config-version is accepted and ignored" in out
    assert "Top 1 aggregated" in out


def test_request_latency_alone_drops_the_other_targets(aiconf):
    code, out, _ = aiconf(
        *MAIN, "--request-latency", "9000", "--objective", "latency", "--format", "json"
    )
    targets = json.loads(out)["inputs"]["targets"]
    assert (code, targets) == (0, {"ttft_ms": None, "tpot_ms": None, "latency_ms": 9000.0})


def test_targets_that_nothing_meets(aiconf):
    code, out, err = aiconf(*MAIN, "--tpot", "1")
    assert code == 2
    assert err.startswith("error: no configuration meets the targets: ")
    assert err.count("\n") == 1
    assert "No configuration meets the targets: TPOT 1 ms is out of reach: the lowest is" in out
    assert "Closest aggregated:" in out
    found = json.loads(aiconf(*MAIN, "--tpot", "1", "--format", "json")[1])
    assert found["targets_met"] is False
    assert found["unmet"]["breaking"] == ["tpot_ms"]
    assert found["unmet"]["lowest"]["tpot_ms"] > 1


def test_targets_that_only_break_together(aiconf):
    reach = json.loads(aiconf(*MAIN, "--tpot", "1", "--mode", "agg", "--format", "json")[1])
    lowest = reach["unmet"]["lowest"]
    goals = ["--tpot", lowest["tpot_ms"] * 1.0001, "--ttft", lowest["ttft_ms"] * 1.0001]
    found = json.loads(
        aiconf(*MAIN, "--isl", "4000", *goals, "--mode", "agg", "--format", "json")[1]
    )
    if not found["targets_met"]:
        assert "each alone can be met" in found["unmet"]["text"]


def test_one_output_token_has_no_tpot(aiconf):
    code, out, _ = aiconf(*MAIN, "--osl", "1")
    assert code == 0
    assert "no TPOT" in out
    assert "osl 1: there is no TPOT" in out
    found = json.loads(aiconf(*MAIN, "--osl", "1", "--format", "json")[1])
    assert found["best"]["tpot_ms"] is None
    assert found["pareto"] == {"agg": [], "disagg": []}


def test_saved_folder(aiconf, tmp_path):
    folder = tmp_path / "results"
    code, _, err = aiconf(*MAIN, "--save-dir", folder)
    assert (code, err) == (0, f"written to {folder}\n")
    assert {path.name for path in folder.iterdir()} == {
        "agg", "disagg", "candidates.csv", "pareto.png", "pareto.svg", "result.json",
    }  # fmt: skip
    for mode in ("agg", "disagg"):
        assert (folder / mode / "deploy.yaml").is_file()
    found = json.loads((folder / "result.json").read_text("utf-8"))
    with (folder / "candidates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["evaluated"]
    assert set(rows[0]) == set(found["best"])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # nothing half-written
    code, _, err = aiconf(*MAIN, "--save-dir", folder)
    assert code == 2
    assert err.startswith(f"error: {folder} exists and is not empty")
    code, _, err = aiconf(*MAIN, "--save-dir", folder, "--force", "--mode", "agg")
    assert code == 0
    assert not (folder / "disagg").exists()


def test_process_is_quick_and_plain():
    """One real process: nothing on standard error, no colour, ASCII where asked for."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "aiconf", *MAIN], capture_output=True, env=environment, check=True
    )
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert b"TTFT <= 2000 ms" in done.stdout


def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "aiconf", "models"],
            stdout=pipe, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.stderr == b""


def test_an_engine_that_does_not_serve_the_model_is_named(aiconf):
    words = ["cli", "--model", "DeepSeek-V4-Flash", "--total-gpus", "4", "--system", "h200_sxm"]
    code, out, _ = aiconf(*words, "--backend", "any", "--mode", "agg", "--format", "json")
    found = json.loads(out)
    assert code in (0, 2)
    assert any("TensorRT-LLM serves DeepSeek-V4-Flash" in note for note in found["notes"])
    assert "trtllm" not in json.dumps(found["top"])
