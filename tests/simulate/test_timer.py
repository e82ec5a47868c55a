"""The timer's lists give the times of the step model they were built from."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.timer import IterationTimer

LAYOUTS = [
    ("h200_sxm", "vllm", "qwen3-32b", "fp8", "tp4"),
    ("h200_sxm", "sglang", "DeepSeek-R1", "fp8", "tp8"),
    ("gb200", "trtllm", "DeepSeek-R1", "fp4", "tp1pp1dp8ep8"),
    ("gb200", "vllm", "DeepSeek-R1", "fp4", "tp4"),
    ("b200_sxm", "sglang", "Qwen3.5-397B-A17B", "fp8", "tp4"),
    ("h200_sxm", "vllm", "Qwen3.5-397B-A17B", "fp8", "tp8"),
]


def build(system, backend, model, precision, layout):
    spec = load_model(model, precision)
    step = platform(system, backend).step(spec, Parallel.parse(layout), spec.quantization.kv)
    return step, IterationTimer(step, 4096, 256, 8192)


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("batch", [1, 7, 64, 200])
@pytest.mark.parametrize("context", [1000.0, 5000.0])
def test_decode(case, batch, context):
    step, timer = build(*case)
    want = step.seconds(Batch.of(decode=batch, context=context))[0]
    found = timer.decode(batch, context, batch * step.parallel.dp)
    assert found == pytest.approx(want, rel=0.03)


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize(("tokens", "past"), [(100, 0), (2000, 0), (2000, 3000)])
def test_prompt_beside_decodes(case, tokens, past):
    step, timer = build(*case)
    dp = step.parallel.dp
    want = step.seconds(
        Batch.of(prefill_tokens=tokens, prefill_past=past, prefill_ranks=1, decode=32, context=2000)
    )[0]
    attention = timer.prompt_attention(tokens, past)
    found = timer.mixed(tokens + 32, tokens + 32 * dp, 32, 2000.0, attention, 33)
    assert found == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize(
    ("system", "model", "layout"),
    [
        ("gb300", "zai-org/GLM-5-FP8", "tp8"),
        ("gb200", "DeepSeek-V4-Pro", "tp8"),
        ("b200_sxm", "nvidia/MiniMax-M3-NVFP4", "tp4"),
        ("h200_sxm", "Llama-4-Scout", "tp8"),
        ("h200_sxm", "gemma-3-27b", "tp2"),
    ],
)
def test_chunks_of_a_long_prompt(system, model, layout):
    """Where tokens do not see all before them, a past costs less than an equal prompt would."""
    spec = load_model(model)
    step = platform(system, "vllm").step(spec, Parallel.parse(layout), spec.quantization.kv)
    timer = IterationTimer(step, 8192, 8, 120_000)
    for chunk, past in ((8192, 0), (8192, 8192), (3000, 50_000), (8192, 106_496), (1, 60_000)):
        batch = Batch.of(prefill_tokens=chunk, prefill_past=past)
        assert timer.prompt_attention(chunk, past) == pytest.approx(
            step.attention_seconds(batch)[0], rel=0.04
        )


def test_time_never_falls(timer):
    sizes = [timer.decode(n, 2000.0, n) for n in range(1, 300)]
    # But where the message outgrows the all-reduce that norms and a faster kernel takes over.
    falls = np.flatnonzero(np.diff(sizes) < -1e-12)
    assert len(falls) <= 1
    assert (np.diff(sizes) > -0.02 * np.array(sizes[1:])).all()
    contexts = [timer.decode(32, c, 32) for c in np.linspace(1, 4000, 97)]
    assert (np.diff(contexts) >= -1e-12).all()
