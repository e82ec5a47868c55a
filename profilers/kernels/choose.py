"""Which of a few configurations of a kernel is fastest for a shape: tried before the clock runs.

Configurations lie beside each kernel as data. Each is timed as the profiler times: captured in a
CUDA graph, after the last-level cache was overwritten. What was chosen is kept for the process,
so that many sets of inputs of one shape cost one choice. Without a GPU the first one is taken.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import TypeVar

import torch

Config = TypeVar("Config", bound=Hashable)

_REPEATS = 5
_FLUSHED = 1 << 28  # bytes: several times the last-level cache of any GPU so far
_chosen: dict[tuple[Hashable, ...], object] = {}


@lru_cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 4 for the interpreter, so that it divides work too."""
    if device.type != "cuda":
        return 4
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@lru_cache
def _flush(device: torch.device) -> torch.Tensor:
    return torch.empty(_FLUSHED, dtype=torch.uint8, device=device)


def fastest(
    shape: tuple[Hashable, ...],
    configs: Sequence[Config],
    run: Callable[[Config], object],
    device: torch.device,
) -> Config:
    """Return the configuration with which ``run`` takes least time.

    One that needs more than the GPU has, or that the compiler gives up on, is passed over.
    shape: what tells one choice from another, the kernel's name first.

    Raises
    ------
    RuntimeError
        None of them works, with why the last one does not.
    """
    if device.type != "cuda" or len(configs) == 1:
        return configs[0]
    if shape not in _chosen:
        times, why = {}, None
        for config in configs:
            try:
                times[config] = _seconds(run, config, device)
            except Exception as error:  # out of shared memory or registers, or not compiled
                why = error
        if not times:
            raise RuntimeError(f"no configuration of {shape[0]} works here: {why}") from why
        _chosen[shape] = min(times, key=lambda config: times[config])
    return _chosen[shape]  # type: ignore[return-value]


def _seconds(run: Callable[[Config], object], config: Config, device: torch.device) -> float:
    """Least time of a few replays."""
    run(config)  # compiles
    torch.cuda.synchronize(device)
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    # Not torch.cuda.graph: that collects garbage each time, which takes longer than all the rest.
    with torch.cuda.stream(side):
        graph.capture_begin()
        try:
            run(config)
        finally:
            graph.capture_end()
    times: list[float] = []
    for _ in range(_REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        _flush(device).zero_()
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize(device)
        times.append(begin.elapsed_time(end))
    return min(times)
