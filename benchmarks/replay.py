"""How fast one engine is replayed: 10,000 requests in a closed loop and as a Poisson stream.

The loads are those that the mocker of ai-dynamo-runtime 1.6.1 was timed with (0.43 and 0.73 s).

    python benchmarks/replay.py [REQUESTS]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer

GOAL_SECONDS = 0.7
REPEATS = 5


def loads(count: int) -> dict[str, Load]:
    """The two loads, of ``count`` requests each."""
    gaps = np.random.default_rng(0).exponential(1 / 6.45, count)
    prompt = np.full(count, 1024, dtype=np.int64)
    return {
        "closed loop, 16 users, 1024/128": Load(prompt, np.full(count, 128), None, 16),
        "Poisson, 6.45 requests/s, 1024/256": Load(prompt, np.full(count, 256), np.cumsum(gaps)),
    }


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    spec, place = load_model("qwen3-32b", "fp8"), platform("h200_sxm", "vllm")
    step = place.step(spec, Parallel(4), spec.quantization.kv)
    start = time.perf_counter()
    timer = IterationTimer(step, 8192 + 256, 256, 2048)
    print(f"tabulating the iteration times: {time.perf_counter() - start:.3f} s")
    limits = Limits(8192, 256, 1e6, mixed=True)
    print(f"{'load':36} {'best s':>7} {'median s':>9} {'goal s':>7} {'requests/s':>11} iterations")
    for name, load in loads(count).items():
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            found = EngineReplay(timer, limits).run(load)
            times.append(time.perf_counter() - start)
        best = min(times)
        print(
            f"{name:36} {best:7.3f} {float(np.median(times)):9.3f} {GOAL_SECONDS:7.1f} "
            f"{count / best:11,.0f} {found.iterations:10,d}"
        )


if __name__ == "__main__":
    main()
