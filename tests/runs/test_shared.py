"""Errors on real runs stay within bounds, where the runs are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiconf.runs.check import check, grouped, summary
from aiconf.runs.read import read_rows

RUNS = Path(__file__).parents[3] / "shared" / "runs"
pytestmark = pytest.mark.skipif(not RUNS.is_dir(), reason="measured runs are not at hand")

# (hardware, backend, model): most mean error of TPOT, and of TTFT
BOUNDS = {
    ("H200 SXM", "vllm", "gpt-oss-120b"): (0.08, 0.30),
    ("H100 SXM", "vllm", "gpt-oss-120b"): (0.08, 0.30),
    ("B200 SXM", "vllm", "gpt-oss-120b"): (0.08, 0.30),
    ("B200 SXM", "trtllm", "gpt-oss-120b"): (0.12, 0.45),
    ("B200 SXM", "sglang", "DeepSeek-R1-0528"): (0.12, 0.40),
    ("H200 SXM", "sglang", "DeepSeek-R1-0528"): (0.12, 0.40),
}


@pytest.fixture(scope="module")
def inferencemax():
    return check(read_rows(RUNS / "inferencemax_agg_bmk_mantile.csv", {}))


@pytest.mark.parametrize("group", BOUNDS)
def test_aggregated_groups(inferencemax, group):
    found = {
        (one["hardware"], one["backend"], one["model"]): one
        for one in grouped(inferencemax)
        if one["mode"] == "agg"
    }[group]
    tpot, ttft = BOUNDS[group]
    assert found["coverage"] == 1.0
    assert found["tpot_mean"] < tpot
    assert found["ttft_mean"] < ttft


def test_all_but_speculative_rows_are_answered(inferencemax):
    total = summary(inferencemax)
    assert total["rows"] == 1289
    assert total["ok"] + total["skipped"] + total["unsupported"] == 1289
    left = [one for one in inferencemax if one.status == "unsupported"]
    assert all("speculative" in one.reason for one in left)


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.csv")), ids=lambda path: path.stem)
def test_every_file_can_be_read(path: Path):
    if path.stem in ("overlaps", "engine_settings"):
        pytest.skip("not a file of runs")
    rows = read_rows(path, {})
    assert rows and all(row.run is not None or row.reason for row in rows)
