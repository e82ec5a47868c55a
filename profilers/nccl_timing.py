"""Timing over ranks: all start together, the slowest counts, inputs are whole before each sample.

Samples of one call would hold how late the last rank came. So a sample is a row of calls on
different buffers behind a small all-reduce of the same ranks, which lets them all go at once;
host launches hide behind a sleeping kernel. A collective that works in place gets its input back
before each sample, outside of the time. Timed calls, and so the steps below, must be the same on
all ranks: they agree on how many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from profilers import team
from profilers.timing import Method, Samples

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.nccl_kernels import Collective

_ALLOWED = 0.98  # of the speed of light: datasheets round
_SLEEP_CYCLES = 4_000_000  # about 2 ms: the host queues what stands before and in one sample
_FLUSH_BYTES = 1 << 28  # several times the last-level cache of any GPU of ``systems/``


def timer(calls: Sequence[Any], graph: bool, method: Method) -> Samples:
    """Time collectives (``Collective``) on all ranks at once; seconds of the slowest rank."""
    ranks = team.ranks()
    row: list[Collective] = list(calls[: min(ranks.gather(len(calls)))])
    first = row[0]
    if first.x.is_cuda:
        sample, output = _cuda(row, graph) if first.member else (lambda: 0.0, lambda: first.x)
    else:
        sample, output = _host(row)
    ranks.together()
    sample()
    once = float(ranks.slowest(np.array([sample()]))[0])
    taken, begin = [], time.monotonic()
    for _ in range(method.repeats(once)):
        ranks.together()
        taken.append(sample())
    window = (begin, time.monotonic())
    slowest = ranks.slowest(np.array(taken)) / len(row)
    least = float(ranks.slowest(np.array([first.least]))[0])
    if np.median(slowest) < _ALLOWED * least:
        raise RuntimeError(
            f"{np.median(slowest):.3g} s beats the speed of light over the link, {least:.3g} s"
        )
    return Samples(slowest, output(), window)


def _host(row: list[Collective]) -> tuple[Callable[[], float], Callable[[], Tensor]]:
    """One sample by the clock of the host, and the first output of the last one."""
    kept: list[Tensor] = []

    def sample() -> float:
        for call in row:
            call.restore()
        team.ranks().together()
        start = time.perf_counter()
        outputs = [call() for call in row]
        taken = time.perf_counter() - start
        kept[:] = outputs[:1]
        return taken

    return sample, lambda: kept[0]


def _cuda(row: list[Collective], graph: bool) -> tuple[Callable[[], float], Callable[[], Tensor]]:
    """One sample by events around the calls, captured in one graph or queued one by one."""
    import torch
    import torch.distributed as dist

    kept: list[Tensor] = []

    def queue() -> None:
        kept[:] = [call() for call in row][:1]

    run = _captured(row, kept) if graph else queue
    group = team.group(row[0].gpus, "nccl")
    mark = torch.ones(1, device=row[0].x.device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample() -> float:
        for call in row:
            call.restore()
        _flush(row[0].x.device).sum()
        torch.cuda._sleep(_SLEEP_CYCLES)
        dist.all_reduce(mark, dist.ReduceOp.MAX, group=group)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return sample, lambda: kept[0]


def _captured(row: list[Collective], kept: list[Tensor]) -> Callable[[], None]:
    """Capture all calls in one graph and return its replay; the first output goes to ``kept``."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # first calls open connections, outside of the capture
        for call in row:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # NCCL's watchdog thread queries events meanwhile, which only this mode lets it do.
    with row[0].context(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        kept[:] = [call() for call in row]
    replay: Callable[[], None] = graph.replay
    return replay


@cache
def _flush(device: Any) -> Tensor:
    import torch

    return torch.ones(_FLUSH_BYTES // 4, device=device)
