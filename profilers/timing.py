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
    import torch
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
    warm_seconds
        Work before the first sample, so that a GPU that idled has raised its clocks.
    """

    samples: tuple[int, int] = (11, 51)
    sample_seconds: float = 3e-4
    timed_seconds: float = 0.03
    most_sets: int = 48
    memory_share: float = 0.35
    spread: float = 0.10
    flush: float = 3.0
    warm_seconds: float = 0.01

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
class Seconds:
    """Seconds of single samples of one thing."""

    seconds: Array

    @property
    def median(self) -> float:
        """What the table holds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """(90th - 10th percentile) / median."""
        low, high = np.quantile(self.seconds, [0.1, 0.9])
        return float((high - low) / self.median)


@dataclass(frozen=True)
class Samples(Seconds):
    """Seconds of one call, one per sample, and the last output of the first set of inputs.

    window: ``time.monotonic`` at the first and after the last sample.
    """

    output: Tensor
    window: tuple[float, float] = (0.0, 0.0)


def poison(output: Tensor) -> None:
    """Fill an output with bytes of ones, NaN in every float format: what is not written shows."""
    import torch

    if output.is_contiguous():
        output.view(torch.uint8).fill_(255)
    else:
        output.fill_(float("nan"))


Timer = Callable[[Sequence["Call"], bool, Method], Samples]


def once(device: str) -> Callable[[Call], float]:
    """Return what times a single warm call, roughly: to decide how many to take."""
    return _once_cpu if device == "cpu" else _once_cuda


def _once_cpu(call: Call) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _once_cuda(call: Call) -> float:
    call()
    return _between_events(call, _host_seconds(call))


def cpu_timer(calls: Sequence[Call], _graph: bool, method: Method) -> Samples:
    """Time calls with the clock of the host; the sets of inputs rotate, nothing is flushed."""
    for call in calls:
        call()
    begin = time.monotonic()
    taken = host_seconds(calls, method)
    window = (begin, time.monotonic())
    poison(calls[0]())
    return Samples(np.array(taken), calls[0](), window)


def host_seconds(calls: Sequence[Callable[[], object]], method: Method) -> list[float]:
    """Seconds of a call by the clock of the host, one per sample of all ``calls`` in turn."""
    taken: list[float] = []
    repeats = method.samples[0]
    while len(taken) < repeats:
        start = time.perf_counter()
        for call in calls:
            call()
        taken.append((time.perf_counter() - start) / len(calls))
        repeats = method.repeats(taken[0] * len(calls))
    return taken


def cuda_timer(flushed: Tensor) -> Timer:
    """Return the timer of a GPU; ``flushed``: a buffer larger than its last-level cache."""
    import torch

    def timer(calls: Sequence[Call], graph: bool, method: Method) -> Samples:
        run, output = _captured(calls) if graph else _queued(calls)
        # A replay is one launch, which the flush hides; calls of their own queue behind a sleep.
        host = 0.0 if graph else _host_seconds(run)
        about = _between_events(run, host)
        for _ in range(int(method.warm_seconds / max(about, 1e-6))):
            run()
        torch.cuda.synchronize()
        poison(output())
        events = [_events() for _ in range(method.repeats(about))]
        begin = time.monotonic()
        for start, stop in events:
            flushed.sum()
            _sleep(host)
            start.record()
            run()
            stop.record()
        torch.cuda.synchronize()
        window = (begin, time.monotonic())
        taken = [start.elapsed_time(stop) / 1e3 / len(calls) for start, stop in events]
        return Samples(np.array(taken), output(), window)

    return timer


_FASTEST_CLOCK = 2.5e9  # Hz, more than any GPU's: a sleep may be longer than asked for
_MARGIN = 2.0  # the host may be slower the next time


def _host_seconds(run: Callable[[], object]) -> float:
    """Seconds in which the host launches what ``run`` launches."""
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken


def _sleep(host: float) -> None:
    """Keep the GPU waiting while the host launches what takes it ``host`` seconds."""
    import torch

    if host:
        torch.cuda._sleep(int(_MARGIN * host * _FASTEST_CLOCK))


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    import torch

    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def _between_events(run: Callable[[], object], host: float) -> float:
    """Seconds of one run on the GPU."""
    import torch

    start, stop = _events()
    _sleep(host)
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop)) / 1e3


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
