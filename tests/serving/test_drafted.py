"""Closed forms with speculative decoding against the replay that they approximate."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.engine.drafting import decode_iterations, step_of, verified
from aiconf.engine.platform import platform
from aiconf.engine.speculation import Speculation
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.serving.aggregated import aggregated
from aiconf.simulate.deployment import aggregated as replay
from aiconf.simulate.deployment import engine
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer
from aiconf.workload import Workload

CASES = [
    ("DeepSeek-R1", "fp8", "h200_sxm", "vllm", "tp8"),
    ("DeepSeek-R1", "fp8", "b200_sxm", "sglang", "tp8"),
    ("llama-3.1-70b", "fp8", "h200_sxm", "trtllm", "tp4"),
    ("DeepSeek-R1", "fp4", "gb200", "trtllm", "tp1dp4ep4"),
]

# Prompts that the host launches one by one take as long for two as for one; the replay's users
# fall in step and share such iterations, the closed form's come evenly.
LAUNCHED = {("gb200", 32, 3): 0.12}


@pytest.mark.parametrize("drafts", [1, 3])
@pytest.mark.parametrize("users", [4, 32])
@pytest.mark.parametrize(("model", "precision", "system", "backend", "layout"), CASES)
def test_closed_form_against_replay(model, precision, system, backend, layout, users, drafts):
    spec, place, parallel = (
        load_model(model, precision), platform(system, backend), Parallel.parse(layout),
    )  # fmt: skip
    kind, work = Speculation(drafts, 0.8, 0.9), Workload(1000, 400)
    one = engine(place, spec, parallel, isl=work.isl, osl=work.osl, speculation=kind)
    random, count = np.random.default_rng(1), max(5 * users, 60)
    prompt, output = (
        random.integers(round(0.9 * mean), round(1.1 * mean) + 1, count)
        for mean in (work.isl, work.osl)
    )
    load = Load(prompt, output, None, users, warmup=min(2 * users, count // 2))
    found = replay(one, load)
    kept = slice(load.warmup, count - min(users, count // 5))
    tpot = np.mean(((found.last - found.first) / (found.output - 1))[kept])
    step = step_of(place, spec, parallel, spec.quantization.kv, kind)
    closed = aggregated(step, work, np.array([float(users)]), np.array([float(one.budget)]))
    assert closed.tpot[0] == pytest.approx(tpot, rel=LAUNCHED.get((system, users, drafts), 0.08))
    plain = aggregated(
        step.step, work, np.array([float(users)]), np.array([float(one.budget)])
    ).tpot[0]
    assert closed.tpot[0] < plain, "drafts that are mostly kept make decoding faster"


@pytest.mark.parametrize("drafts", [1, 2, 4])
@pytest.mark.parametrize(("model", "precision", "system", "backend", "layout"), CASES)
def test_an_iteration_takes_what_the_replay_takes(
    model, precision, system, backend, layout, drafts
):
    spec, place, parallel = (
        load_model(model, precision), platform(system, backend), Parallel.parse(layout),
    )  # fmt: skip
    kv = spec.quantization.kv
    step = step_of(place, spec, parallel, kv, Speculation(drafts, 0.8))
    timer = IterationTimer(step.step, 4096, 64, 8192, step.draft, drafts)
    for sequences in (1, 8, 32):
        batch = Batch.of(decode=float(sequences), context=2048.0)
        one = timer.decode(sequences, 2048.0, sequences * parallel.dp)
        assert step.seconds(batch)[0] == pytest.approx(one, rel=0.02)
        parts = step.time(batch)
        assert parts.seconds[0] == pytest.approx(step.seconds(batch)[0], rel=1e-9)
        assert parts.by_part.sum() == pytest.approx(parts.seconds[0], rel=1e-9)


def test_drafts_that_are_never_kept_only_cost():
    spec, place, parallel = load_model("QWEN3_32B"), platform("h200_sxm", "vllm"), Parallel(4)
    kv, work = spec.quantization.kv, Workload(1000, 400)
    at = np.array([8.0]), np.array([8192.0])
    plain = aggregated(step_of(place, spec, parallel, kv), work, *at)
    lost = aggregated(step_of(place, spec, parallel, kv, Speculation(3, 0.0)), work, *at)
    assert lost.tpot[0] > plain.tpot[0]
    assert lost.decoding[0] == pytest.approx(plain.decoding[0], rel=0.1)


def test_what_one_iteration_gains():
    spec, place = load_model("QWEN3_32B"), platform("h200_sxm", "vllm")
    kv = spec.quantization.kv
    plain = step_of(place, spec, Parallel(4), kv)
    sure = step_of(place, spec, Parallel(4), kv, Speculation(3, 1.0))
    assert (verified(plain), verified(sure)) == (1, 4)
    assert decode_iterations(plain, 399) == 399
    assert decode_iterations(sure, 400) == pytest.approx(100, rel=0.01)
