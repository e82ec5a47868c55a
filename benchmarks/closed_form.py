"""How far the closed forms of ``serving`` are from the replay of ``simulate``.

Random aggregated configurations (model, engine, layout, lengths, concurrency) in steady state:
a closed loop of requests whose lengths vary by 10 %, the first third and the last wave dropped.

    python benchmarks/closed_form.py [COUNT]
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import numpy as np

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.search.space import layouts
from aiconf.serving.aggregated import aggregated
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer
from aiconf.workload import Workload

CASES = (
    ("llama-3.1-70b", "fp8", "h200_sxm", "vllm"),
    ("qwen3-32b", "fp8", "h200_sxm", "sglang"),
    ("gpt-oss-120b", None, "h200_sxm", "trtllm"),
    ("DeepSeek-R1", "fp4", "gb200", "trtllm"),
    ("qwen3-235b-a22b", "fp8", "h200_sxm", "sglang"),
    ("DeepSeek-R1", "fp8", "h200_sxm", "vllm"),
    ("minimax-m2.5", "fp8", "b200_sxm", "vllm"),
)


Group = tuple[str, str, str]


def compare(
    random: np.random.Generator, case: tuple[str, str | None, str, str]
) -> tuple[Group, float, float] | None:
    """Signed relative error of TPOT and TTFT of one random configuration; None: does not fit."""
    model, precision, system, backend = case
    spec, place = load_model(model, precision), platform(system, backend)
    choices = layouts(place, spec, 16)
    layout = choices[random.integers(len(choices))]
    isl = int(random.choice([500, 1000, 4000, 8000]))
    osl = int(random.choice([200, 500, 1000, 2000]))
    lanes = layout.dp * layout.pp
    users = max(int(random.choice([1, 2, 4, 8, 16, 32, 64, 128, 256])), lanes)
    kv, budget = spec.quantization.kv, place.token_budget()
    room = place.capacity(spec, layout, token_budget=budget, max_sequences=1024, kv_dtype=kv)
    if users / layout.dp > room.sequences(isl, osl):
        return None
    step = place.step(spec, layout, kv)
    points = aggregated(
        step, Workload(isl, osl), np.array([float(users)]), np.array([float(budget)])
    )
    host = place.traits.host
    lane_users = max(1, round(users / layout.pp))
    count = max(8 * lane_users, 60)
    load = Load(
        random.integers(int(isl * 0.9), int(isl * 1.1) + 1, count),
        random.integers(int(osl * 0.9), int(osl * 1.1) + 1, count),
        None,
        lane_users,
    )
    limits = Limits(
        budget, 1024, 1e12, place.traits.scheduler.policy == "mixed",
        intake=IntakeCost(
            host.seconds_per_request, host.intake_per_request, host.intake_per_token
        ),
    )  # fmt: skip
    timer = IterationTimer(step, budget + 1024, 1024, int((isl + osl) * 1.2) + 1)
    replay = EngineReplay(timer, limits, layout.dp).run(load)
    steady = slice(count // 3, count - lane_users)
    group = (backend, "attention DP" if layout.dp > 1 else "TP", "PP" if layout.pp > 1 else "-")
    return (
        group,
        points.tpot[0] / np.nanmean(replay.tpot[steady]) - 1,
        points.ttft[0] / replay.ttft[steady].mean() - 1,
    )


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    random = np.random.default_rng(1)
    groups = defaultdict(list)
    start = time.perf_counter()
    for number in range(count):
        found = compare(random, CASES[number % len(CASES)])
        if found is not None:
            groups[found[0]].append(found[1:])
    print(f"{'engine':8} {'attention':13} {'pipeline':9} {'n':>4} {'TPOT %':>7} {'TTFT %':>7}  "
          "mean absolute difference, closed form against replay")  # fmt: skip
    for (backend, attention, pipeline), errors in sorted(groups.items()):
        tpot, ttft = np.abs(np.array(errors)).mean(axis=0) * 100
        print(f"{backend:8} {attention:13} {pipeline:9} {len(errors):4d} {tpot:7.1f} {ttft:7.1f}")
    every = np.abs(np.array([e for errors in groups.values() for e in errors]))
    tpot, ttft = every.mean(axis=0) * 100
    print(f"{'all':32} {len(every):4d} {tpot:7.1f} {ttft:7.1f}  "
          f"({time.perf_counter() - start:.1f} s)")  # fmt: skip


if __name__ == "__main__":
    main()
