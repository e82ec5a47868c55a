"""``aiconf profile engine``: what bad input gets, and a run against a server of known speed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profilers.engine import run as engine_run
from profilers.engine.points import Point

SCRIPT = Path(__file__).parents[1] / "profilers" / "engine" / "token_server.py"


@pytest.fixture
def url():
    words = [sys.executable, str(SCRIPT), "--base", "0.01"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        lines = (re.match(r"port (\d+)", line) for line in process.stdout)
        yield f"http://127.0.0.1:{next(found[1] for found in lines if found)}"
        process.terminate()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("Nope", "--url", "http://x"), "unknown model 'Nope'"),
        (("qwen3-0.6b", "--url", "ftp://x", "--system", "h200"), "write http://HOST:PORT"),
        (("qwen3-0.6b", "--url", "http://x"), "whose server is it? say so with --system"),
        (("qwen3-0.6b", "--backend", "ollama"), "'ollama' is no engine that can be measured"),
        (("qwen3-0.6b", "--load", "16"), "'16' is no load: write USERS:ISL:OSL"),
        (("qwen3-0.6b", "--layout", "t4"), "t4"),
        (("qwen3-0.6b", "--budget", "soon"), "'soon' is no time to spend"),
    ],
)
def test_bad_input_gets_one_line(aiconf, words, says, tmp_path):
    code, out, err = aiconf("profile", "engine", *words, "--out", tmp_path / "out")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out


def test_an_engine_that_is_not_here_is_one_line(aiconf, tmp_path):
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    code, _, err = aiconf("profile", "engine", "qwen3-0.6b", "--out", tmp_path / "out")
    assert code == 2
    assert "vllm is not installed here" in err
    assert not (tmp_path / "out").exists()


def test_a_server_is_measured_and_the_run_goes_on(aiconf, url, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(engine_run, "SPREAD", 5.0)
    monkeypatch.setattr(
        engine_run, "points",
        lambda _quick, loads: iter([Point(prefill=64), *(Point(load=load) for load in loads)]),
    )  # fmt: skip
    words = ("--url", url, "--system", "h200", "--load", "2:32:4:4", "--out", out)
    code, said, err = aiconf("profile", "engine", "qwen3-0.6b", *words)
    assert (code, err) == (0, "")
    assert "vllm/iteration.parquet: 1 rows" in said
    assert "operating_points.csv: 1 operating points" in said
    code, said, err = aiconf("profile", "resume", out)
    assert (code, err) == (0, "")
    code, said, _ = aiconf("profile", "status", out)
    assert "1 points measured" in said
    assert "in 2 sessions" in said
    code, _, err = aiconf("profile", "engine", "qwen3-0.6b", *words)
    assert code == 2
    assert f"go on with `aiconf profile resume {out}`" in err
    code, said, _ = aiconf("runs", "check", out / "operating_points.csv")
    assert code == 0
    assert "1 rows: 1 predicted" in said
