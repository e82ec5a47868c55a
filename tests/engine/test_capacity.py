import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel

PLACES = [
    ("QWEN3_32B", "h200_sxm", "tp2"),
    ("Llama-3.1-70B", "b200_sxm", "tp4pp2"),
    ("gpt-oss-120b", "h100_sxm", "tp4"),
    ("DEEPSEEK_R1", "gb200", "tp1pp1dp8ep8"),
    ("Qwen3.5-397B-A17B", "b200_sxm", "tp4"),
    ("GLM-5", "b200_sxm", "tp8"),
]


def room(model, system, layout, backend, budget=None, sequences=256):
    """Capacity at a budget of one rank; None: the engine's default, shared as the engine does."""
    place, spec, parallel = platform(system, backend), load_model(model), Parallel.parse(layout)
    gpu = place.system.gpu
    budget = budget or place.traits.token_budget(gpu.memory_bytes, gpu.sm, parallel.dp)
    return place.capacity(
        spec, parallel, token_budget=budget, max_sequences=sequences,
        kv_dtype=spec.quantization.kv,
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize(("model", "system", "layout"), PLACES)
def test_what_is_taken_fits_in_the_gpu(model, system, layout, backend):
    found = room(model, system, layout, backend)
    assert found.kv > 0
    parts = (found.reserved, found.weights, found.activations, found.graphs)
    assert min(parts) >= 0
    assert sum(parts) + found.kv <= found.total * 1.0001


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize(("model", "system", "layout"), PLACES)
def test_admitted_sequences_fit_in_the_cache(model, system, layout, backend):
    found = room(model, system, layout, backend)
    for isl, osl in ((1, 1), (128, 4096), (4000, 500), (30000, 1000)):
        count = found.sequences(isl, osl)
        assert count * float(found.sequence_bytes(isl + osl / 2)) <= found.kv * (1 + 1e-9)
        if count >= 1:
            assert float(found.sequence_bytes(isl + osl)) <= found.kv


def test_what_is_held_is_what_was_admitted():
    """``held`` undoes ``sequences``, and spare memory stays empty."""
    found = room("QWEN3_32B", "h200_sxm", "tp2", "vllm")
    for isl, osl in ((128, 4096), (4000, 500), (4000, 0)):
        assert found.held(found.sequences(isl, osl), isl, osl) == pytest.approx(found.kv)
        spare = 0.1 * found.total
        fewer = found.sequences(isl, osl, spare)
        assert found.held(fewer, isl, osl) == pytest.approx(found.kv - spare)
    assert found.sequences(4000, 500, found.kv) == 0.0


def test_longer_sequences_never_fit_more_often():
    found = room("QWEN3_32B", "h200_sxm", "tp2", "vllm")
    counts = [found.sequences(isl, 500) for isl in (100, 1000, 4000, 16000, 39000)]
    assert (np.diff(counts) < 0).all()
    assert found.sequences(10**9, 1) == 0.0


def test_a_window_forgets():
    found = room("gpt-oss-120b", "h200_sxm", "tp1", "vllm")
    assert {window for window, _ in found.per_token} == {None, 128}
    short, long = found.sequence_bytes([4000.0, 8000.0])
    assert long < 2 * short


def test_a_model_that_does_not_fit_leaves_no_cache():
    found = room("DEEPSEEK_R1", "h200_sxm", "tp2", "vllm")
    assert found.kv <= 0
    assert found.sequences(100, 100) == 0.0


def test_larger_budgets_take_memory_from_the_cache():
    small = room("QWEN3_32B", "h200_sxm", "tp2", "vllm", budget=2048)
    large = room("QWEN3_32B", "h200_sxm", "tp2", "vllm", budget=32768)
    assert large.activations >= small.activations
    assert large.kv <= small.kv


def test_weights_are_divided_over_the_ranks():
    one = room("QWEN3_32B", "h200_sxm", "tp1", "vllm").weights
    four = room("QWEN3_32B", "h200_sxm", "tp4", "vllm").weights
    assert one / 4 <= four < one / 3.5
