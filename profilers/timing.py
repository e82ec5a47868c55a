"""Timing: cold caches, warm kernels, CUDA graphs where engines use them, many samples.

Every sample empties the last-level cache by reading a buffer several times its size (reading
leaves nothing to be written back while the clock runs), then times calls on as many different
sets of inputs, so that no call finds its inputs in the cache. CUDA events stand around the
replay of a graph of these calls, or around the calls themselves queued behind a sleeping kernel,
so that the host's launches cost nothing where an engine would hide them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.operator import Call

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """How a point is timed; stored with the tables that it gives.

    Attributes
    ----------
    samples
        Timed repetitions of which the median counts: fewest and most.
    sample_seconds
        Aim of one sample, so that clock steps and launch gaps vanish in it.
    timed_seconds
        Aim of all samples of a point together.
    most_sets
        Sets of inputs (and calls of one sample) at most.
    memory_share
        Share of the device's memory that all sets may take.
    spread
        Widest (90th - 10th percentile) / median that is accepted.
    flush
        Bytes read between samples, in sizes of the last-level cache.
    """

    samples: tuple[int, int] = (11, 51)
    sample_seconds: float = 3e-4
    timed_seconds: float = 0.03
    most_sets: int = 48
    memory_share: float = 0.35
    spread: float = 0.10
    flush: float = 3.0

    def calls(self, seconds: float, set_bytes: float, memory_bytes: float) -> int:
        """Calls of one sample, each on inputs of its own, for a call of about ``seconds``."""
        room = self.memory_share * memory_bytes / max(set_bytes, 1.0)
        wanted = self.sample_seconds / max(seconds, 1e-9)
        return max(1, int(min(np.ceil(wanted), self.most_sets, room)))

    def repeats(self, sample_seconds: float) -> int:
        """Samples to take when one takes about ``sample_seconds``."""
        return int(np.clip(self.timed_seconds / max(sample_seconds, 1e-9), *self.samples))


def method_of(kind: str) -> Method:
    """How a kind of device is measured: a CPU is shared, so its samples spread wide."""
    return Method() if kind == "cuda" else Method(most_sets=4, memory_share=0.05, spread=1.0)


@dataclass(frozen=True)
class Samples:
    """Seconds of one call, one per sample, and the last output of the first set of inputs."""

    seconds: Array
    output: Tensor

    @property
    def median(self) -> float:
        """What the table holds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """(90th - 10th percentile) / median."""
        low, high = np.quantile(self.seconds, [0.1, 0.9])
        return float((high - low) / self.median)


Timer = Callable[[Sequence["Call"], bool, Method], Samples]


def once(device: str) -> Callable[[Call], float]:
    """Return what times a single warm call, roughly: to decide how many to take."""
    import torch

    def wall(call: Call) -> float:
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return wall


def cpu_timer(calls: Sequence[Call], _graph: bool, method: Method) -> Samples:
    """Time calls with the clock of the host; the sets of inputs rotate, nothing is flushed."""
    for call in calls:
        call()
    taken: list[float] = []
    repeats = method.samples[0]
    while len(taken) < repeats:
        start = time.perf_counter()
        for call in calls:
            output = call()
        taken.append((time.perf_counter() - start) / len(calls))
        repeats = method.repeats(taken[0] * len(calls))
    output.fill_(float("nan"))
    del output
    return Samples(np.array(taken), calls[0]())


def cuda_timer(flushed: Tensor) -> Timer:
    """Return the timer of a GPU; ``flushed``: a buffer larger than its last-level cache."""
    import torch

    def timer(calls: Sequence[Call], graph: bool, method: Method) -> Samples:
        run, output = _captured(calls) if graph else _queued(calls)
        run()
        torch.cuda.synchronize()
        begin, end = _events(1)
        begin[0].record()
        run()
        end[0].record()
        torch.cuda.synchronize()
        repeats = method.repeats(begin[0].elapsed_time(end[0]) / 1e3)
        begin, end = _events(repeats)
        output().fill_(float("nan"))  # what the replays do not write shows in the check
        for start, stop in zip(begin, end, strict=True):
            flushed.sum()
            if not graph:
                torch.cuda._sleep(_SLEEP_CYCLES)
            start.record()
            run()
            stop.record()
        torch.cuda.synchronize()
        pairs = zip(begin, end, strict=True)
        taken = [start.elapsed_time(stop) / 1e3 / len(calls) for start, stop in pairs]
        return Samples(np.array(taken), output())

    return timer


# Long enough for the host to queue the calls of one sample, which are up to ``most_sets``.
_SLEEP_CYCLES = 2_000_000  # about a millisecond


def _events(count: int) -> tuple[list[torch.cuda.Event], list[torch.cuda.Event]]:  # type: ignore[name-defined]  # noqa: F821
    import torch

    def some() -> list[torch.cuda.Event]:
        return [torch.cuda.Event(enable_timing=True) for _ in range(count)]

    return some(), some()


def _captured(calls: Sequence[Call]) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """Capture all calls in one graph; return its replay, and the output of the first call."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # first calls allocate and compile, outside of the capture
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    outputs = []
    with torch.cuda.graph(graph):
        outputs += [call() for call in calls]
    return graph.replay, lambda: outputs[0]


def _queued(calls: Sequence[Call]) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """Run all calls one after the other; return that, and the output of the first call."""
    kept: list[Tensor] = []

    def run() -> None:
        first, *others = calls
        kept[:] = [first()]
        for call in others:
            call()

    run()
    return run, lambda: kept[0]
