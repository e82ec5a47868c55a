"""More GPUs never give less: per GPU for multiples, and in total for any number."""

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiconf.api import search

TASKS = {
    "qwen": ("QWEN3_32B", "h200_sxm", 4000, 500, 1000, 15, "vllm"),
    "llama": ("Llama-3.1-70B", "b200_sxm", 1000, 1000, 1000, 20, "sglang"),
    "gpt-oss": ("gpt-oss-120b", "h100_sxm", 2000, 300, 500, 12, "trtllm"),
    "deepseek": ("DEEPSEEK_R1", "gb200", 8000, 1000, 2000, 40, "trtllm"),
    "strict": ("QWEN3_32B", "h200_sxm", 4000, 500, 300, 6, "vllm"),
}


@cache
def best(task, gpus, mode="any"):
    """Output tokens/s of all GPUs together; 0 where no candidate meets the targets."""
    model, system, isl, osl, ttft, tpot, backend = TASKS[task]
    result = search(model, system, gpus, isl, osl, ttft, tpot, backend=backend, mode=mode)
    return result.best["output_tok_per_s"] if result.outcome.met else 0.0


@pytest.mark.parametrize("mode", ["agg", "disagg", "any"])
@pytest.mark.parametrize(("task", "least"), [("qwen", 4), ("llama", 6), ("gpt-oss", 4),
                                             ("deepseek", 8), ("strict", 8)])  # fmt: skip
def test_k_times_the_gpus_never_give_less_per_gpu(task, least, mode):
    once = best(task, least, mode)
    for k in (2, 3, 4):
        assert best(task, k * least, mode) >= k * once * (1 - 1e-9), k


@pytest.mark.parametrize("task", ["qwen", "gpt-oss", "strict"])
def test_every_added_gpu_never_lowers_the_total(task):
    totals = [best(task, gpus) for gpus in range(2, 13)]
    assert all(more >= less * (1 - 1e-9) for less, more in pairwise(totals)), totals


def test_deepseek_never_loses_from_an_added_tray():
    totals = [best("deepseek", gpus) for gpus in (8, 12, 16, 20, 24)]
    assert all(more >= less * (1 - 1e-9) for less, more in pairwise(totals)), totals


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["qwen", "gpt-oss", "llama"]), st.integers(2, 8), st.integers(2, 4))
def test_multiples_of_any_number_of_gpus(task, gpus, k):
    if best(task, gpus) > 0:
        assert best(task, k * gpus) >= k * best(task, gpus) * (1 - 1e-9)
