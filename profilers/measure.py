"""One point: draw inputs, check the kernel against its reference, time it, judge the samples."""

from __future__ import annotations

from dataclasses import dataclass

from profilers.device import Device
from profilers.operator import Inputs, Point
from profilers.source import Source
from profilers.timing import Method, Samples, Timer, cpu_timer, cuda_timer, once

_ALLOWED = 0.98  # of the speed of light: clocks boost, and datasheets round


@dataclass(frozen=True)
class Timed:
    """A point that may enter a table."""

    seconds: float
    spread: float  # (90th - 10th percentile) / median
    samples: int
    sets: int  # different sets of inputs, and calls per sample
    error: float  # relative, against the float64 reference
    window: tuple[float, float] = (0.0, 0.0)  # time.monotonic of first and last sample


@dataclass(frozen=True)
class Refused:
    """A point that was tried and may not enter a table."""

    why: str


class LostDevice(RuntimeError):
    """The device no longer answers: a kernel broke its context."""


@dataclass(frozen=True)
class Bench:
    """A device ready to measure."""

    device: Device
    method: Method
    seed: int
    timer: Timer

    @classmethod
    def on(cls, device: Device, method: Method, seed: int) -> Bench:
        """Set up the timer of ``device``."""
        import torch

        if device.kind == "cpu":
            torch.set_num_threads(1)  # threads that wait for a shared core spread the samples
            return cls(device, method, seed, cpu_timer)
        torch.cuda.set_device(device.index)
        count = int(max(method.flush * device.cache_bytes, 1 << 28)) // 4
        flushed = torch.ones(count, device=device.torch)
        return cls(device, method, seed, cuda_timer(flushed))

    def measure(self, point: Point) -> Timed | Refused:
        """Measure one point.

        Raises
        ------
        LostDevice
            The kernel left the device unusable for this process.
        """
        try:
            return self._measure(point)
        except LostDevice:
            raise
        except Exception as error:  # a library may raise anything: the point is refused with it
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self._recover(why)
            return Refused(f"{type(error).__name__}: {why}")

    def _measure(self, point: Point) -> Timed | Refused:
        inputs = self._draw(point, 0)
        call = point.kernel.prepare(point.key, inputs)
        limit = point.operator.tolerance(point.key)
        error = point.operator.error(point.key, inputs, call())
        if not error <= limit:  # NaN never passes
            return Refused(f"wrong: error {error:.3g} against float64, more than {limit:.3g}")
        taken = once(self.device.torch)(call)
        work = point.operator.work(point.key)
        set_bytes = work.read + work.written
        count = self.method.calls(taken, set_bytes, self.device.memory_bytes)
        sets = [inputs, *(self._draw(point, copy) for copy in range(1, count))]
        calls = [call, *(point.kernel.prepare(point.key, one) for one in sets[1:])]
        for _ in range(2):  # a disturbed measurement gets a second chance
            timer = point.kernel.timer or self.timer
            samples = timer(calls, point.kernel.graph, self.method)
            error = point.operator.error(point.key, inputs, samples.output)
            verdict = self.judge(point, samples, error, len(calls))
            if isinstance(verdict, Timed):
                break
        return verdict

    def judge(self, point: Point, samples: Samples, error: float, sets: int) -> Timed | Refused:
        """Accept or refuse samples: a wrong output, too wide a spread, faster than light."""
        limit = point.operator.tolerance(point.key)
        if not error <= limit:
            return Refused(f"wrong while timed: error {error:.3g}, more than {limit:.3g}")
        if samples.spread > self.method.spread:
            return Refused(f"spread {samples.spread:.0%} of the median is too wide")
        device, work = self.device, point.operator.work(point.key)
        light = work.seconds(device.flops, device.bandwidth, cached=True)
        light = max(light, point.operator.least(device, point.key))
        if device.datasheet and samples.median < _ALLOWED * light:
            return Refused(
                f"{samples.median:.3g} s beats the speed of light, {light:.3g} s: "
                "something was not computed"
            )
        count = len(samples.seconds)
        return Timed(samples.median, samples.spread, count, sets, error, samples.window)

    def _draw(self, point: Point, copy: int) -> Inputs:
        source = Source.of(self.device.torch, self.seed, point.name, copy)
        return point.operator.draw(point.key, source)

    def _recover(self, why: str) -> None:
        """Free what a failed point held; raise where the device does not answer any more."""
        if self.device.kind == "cpu":
            return
        import torch

        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            raise LostDevice(why) from None
