"""The Python interface as the README shows it, and what bad input gets."""

import subprocess
import sys

import pandas as pd
import pytest

import aiconf
from aiconf.api import estimate, search
from aiconf.errors import UserError

TASK = ("QWEN3_32B", "h200_sxm", 8, 4000, 500)


def message(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_package_offers_search_and_estimate_however_often_and_in_any_order():
    code = (
        "import aiconf\n"
        "aiconf.estimate('QWEN3_32B', 'h200_sxm', 'tp2')\n"
        "import aiconf.search.request\n"
        "for _ in range(2):\n"
        "    assert aiconf.search('QWEN3_32B', 'h200_sxm', 4).best['gpus'] <= 4\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_search_shows_a_frame_and_a_winner():
    result = search(*TASK, ttft=1000, tpot=30)
    assert isinstance(result.frame, pd.DataFrame)
    assert {"output_tok_per_s_per_gpu", "ttft_ms", "tpot_ms", "layout"} <= set(result.frame)
    assert result.best["ttft_ms"] <= 1000
    assert result.best["tpot_ms"] <= 30
    assert set(result.best) == set(result.frame)
    assert all(isinstance(v, (str, int, float, bool)) for v in result.best.values())


def test_all_backends_are_compared():
    frame = search(*TASK, backend="any").frame
    assert set(frame.backend) == {"vllm", "sglang", "trtllm"}


def test_a_family_compares_its_checkpoints_and_a_precision_keeps_to_one():
    assert len(set(search(*TASK).frame.model)) > 1
    frame = search(*TASK, precision="bf16").frame
    assert set(frame.precision) == {"bf16"}


def test_estimate_of_an_aggregated_and_a_disaggregated_configuration():
    agg = estimate("QWEN3_32B", "h200_sxm", "tp2", 4000, 500, concurrency=16, workers=2).best
    assert (agg["mode"], agg["gpus"], agg["concurrency"]) == ("agg", 4, 32)
    disagg = estimate(
        "QWEN3_32B", "h200_sxm", "tp4", 4000, 500, concurrency=16, workers=2,
        prefill_layout="tp2", prefill_workers=3,
    ).best  # fmt: skip
    assert (disagg["mode"], disagg["gpus"]) == ("disagg", 14)
    assert disagg["kv_transfer_ms"] > 0
    assert disagg["load"] <= 0.95 + 1e-9


def test_users_beyond_the_cache_wait():
    inside = estimate("QWEN3_32B", "h200_sxm", "tp1", 30000, 1000, concurrency=4).best
    beyond = estimate("QWEN3_32B", "h200_sxm", "tp1", 30000, 1000, concurrency=400).best
    assert beyond["ttft_ms"] > 10 * inside["ttft_ms"]


def test_a_users_tables_are_laid_over_the_embedded_ones(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from aiconf.perf.store import PerfDb

    rows = PerfDb.open().read("h200_sxm", "vllm", "gemm")
    rows["seconds"] = rows["seconds"] * 3.0
    folder = tmp_path / "h200_sxm" / "vllm"
    folder.mkdir(parents=True)
    pq.write_table(pa.table(rows), folder / "gemm.parquet")
    options = {"precision": "bf16", "concurrency": 8}
    plain = estimate("QWEN3_32B", "h200_sxm", "tp2", **options).best
    slowed = estimate("QWEN3_32B", "h200_sxm", "tp2", perf_db=tmp_path, **options).best
    assert slowed["tpot_ms"] > 1.8 * plain["tpot_ms"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model": "QWEN3_33B"}, "did you mean Qwen3-32B"),
        ({"system": "h300"}, "unknown system 'h300'"),
        ({"backend": "vlm"}, "vllm"),
        ({"backend_version": "0.1"}, "0.1"),
        ({"total_gpus": 0}, "at least 1"),
        ({"total_gpus": -8}, "at least 1"),
        ({"isl": 0}, "isl must be"),
        ({"osl": -1}, "osl must be"),
        ({"isl": 300_000}, "exceed the"),
        ({"prefix": 4000}, "prefix 4000 must be shorter"),
        ({"ttft": 0}, "ttft must be a positive"),
        ({"tpot": -3}, "tpot must be a positive"),
        ({"latency": float("nan")}, "latency must be a positive"),
        ({"precision": "fp3"}, "no fp3 checkpoint"),
        ({"kv_dtype": "fp4"}, "kv_dtype"),
        ({"top": 0}, "top must be a whole number of at least 1"),
        ({"isl": "4000"}, "isl must be a whole number"),
        ({"ttft": "300"}, "ttft must be a positive number"),
        ({"backend": None}, "backend must be a text"),
        ({"mode": "aggregate"}, "unknown mode 'aggregate'"),
        ({"objective": "price"}, "unknown objective 'price'"),
        ({"model": "DEEPSEEK_R1", "total_gpus": 1}, "needs at least"),
    ],
)
def test_bad_input_of_a_search_is_one_line(options, expected):
    task = {"model": "QWEN3_32B", "system": "h200_sxm", "total_gpus": 8, "isl": 4000, "osl": 500}
    assert expected in message(search, **(task | options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layout": "2x4"}, "write it like"),
        ({"layout": "tp3"}, "tp3pp1dp1ep1"),
        ({"layout": "tp2dp2"}, "no experts"),
        ({"layout": "tp2ep3"}, "does not divide"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"workers": 1.5}, "workers must be"),
        ({"token_budget": 0}, "token_budget must be"),
        ({"prefill_layout": "tp2", "osl": 1}, "nothing to decode"),
        ({"model": "DEEPSEEK_R1", "layout": "tp2"}, "does not fit"),
    ],
)
def test_bad_input_of_an_estimate_is_one_line(options, expected):
    task = {"model": "QWEN3_32B", "system": "h200_sxm", "layout": "tp2"}
    assert expected in message(estimate, **(task | options))


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = aiconf.serch


def test_an_estimate_refuses_an_unknown_kv_type():
    said = message(estimate, "QWEN3_32B", "h200_sxm", "tp2", kv_dtype="FP4")
    assert "unknown kv_dtype 'FP4'" in said
