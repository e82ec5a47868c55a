"""What is accepted, what is refused and why; on the CPU, with kernels made to fail."""

from dataclasses import replace

import numpy as np
import pytest

from profilers import gemm
from profilers.device import planned
from profilers.measure import Bench, Refused, Timed
from profilers.operator import Kernel, Point
from profilers.timing import Method, Samples

KEY = {"dtype": "bf16", "n": 256, "k": 128, "m": 64}
LOOSE = Method(most_sets=3, spread=1e9)
(OPERATOR,) = gemm.OPERATORS


def point(prepare=None, timer=None):
    linear = OPERATOR.kernels[0].prepare
    kernel = Kernel("k", "torch", lambda _d: "", lambda _d, _k: "", prepare or linear, timer=timer)
    return Point(OPERATOR, kernel, KEY)


@pytest.fixture
def bench(cpu):
    pytest.importorskip("torch")
    return Bench.on(cpu, LOOSE, 0)


def test_a_right_kernel_is_timed(bench):
    found = bench.measure(point())
    assert isinstance(found, Timed)
    assert found.seconds > 0
    assert 0 < found.error < 0.01
    assert found.samples >= LOOSE.samples[0]
    assert 1 <= found.sets <= 3


def test_each_call_has_inputs_of_its_own(bench):
    seen = []

    def prepare(key, inputs):
        seen.append(inputs["x"].data_ptr())
        return OPERATOR.kernels[0].prepare(key, inputs)

    patient = replace(bench, method=replace(LOOSE, sample_seconds=1.0))
    found = patient.measure(point(prepare))
    assert len(seen) == len(set(seen)) == found.sets == LOOSE.most_sets


def test_a_disturbed_measurement_gets_a_second_chance_and_no_third(bench):
    strict = replace(bench, method=replace(LOOSE, spread=0.1))

    def measured(*disturbed):
        left = list(disturbed)

        def timer(calls, graph, method):
            return Samples(np.array([1.0, 1.0, 9.0 if left.pop(0) else 1.0]), calls[0]())

        return strict.measure(point(timer=timer))

    assert isinstance(measured(True, False), Timed)
    assert isinstance(measured(True, True, False), Refused)


def test_what_is_flushed_is_larger_than_the_cache(monkeypatch):
    torch = pytest.importorskip("torch")
    made = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda _index: None)
    monkeypatch.setattr(torch, "ones", lambda count, device: made.append(4 * count))
    for cache in (50 << 20, 126 << 20):
        Bench.on(replace(planned("h200_sxm"), cache_bytes=cache), Method(), 0)
    assert made == [256 << 20, 378 << 20]


def test_a_wrong_kernel_is_refused(bench):
    def prepare(_key, inputs):
        return lambda: inputs["x"] @ inputs["w"].T * 1.05

    found = bench.measure(point(prepare))
    assert isinstance(found, Refused)
    assert found.why.startswith("wrong: error 0.05")


def test_a_kernel_that_stops_writing_is_refused(bench):
    """Right at the check, then it returns an output that it no longer fills."""

    def prepare(key, inputs):
        right = OPERATOR.kernels[0].prepare(key, inputs)()
        return lambda: right

    found = bench.measure(point(prepare))
    assert isinstance(found, Refused)
    assert found.why.startswith("wrong while timed: error nan")


def test_what_a_library_raises_is_the_reason(bench):
    def prepare(_key, _inputs):
        raise RuntimeError("no kernel\nimage is available")

    assert bench.measure(point(prepare)) == Refused("RuntimeError: no kernel image is available")


def samples(*seconds):
    return Samples(np.array(seconds), None)


def judged(device, taken, method=None):
    bench = Bench(device, method or Method(), 0, None)
    return bench.judge(point(), taken, 1e-3, 4)


def test_a_wide_spread_is_refused():
    device = planned("h200_sxm")
    assert judged(device, samples(*[1e-5] * 9, 1.02e-5, 1e-5)) == Timed(
        1e-5, pytest.approx(0.0, abs=0.03), 11, 4, 1e-3
    )
    refused = judged(device, samples(1e-5, 1e-5, 1.5e-5, 1e-5, 1.6e-5))
    assert refused == Refused("spread 56% of the median is too wide")


def test_faster_than_light_is_refused_where_the_peaks_are_known(cpu):
    light = OPERATOR.work(KEY).read / planned("h200_sxm").bandwidth
    fast = samples(*[0.9 * light] * 11)
    assert "beats the speed of light" in judged(planned("h200_sxm"), fast).why
    assert isinstance(judged(planned("h200_sxm"), samples(*[1.1 * light] * 11)), Timed)
    assert isinstance(judged(cpu, fast), Timed)  # its peaks are only what it was seen to reach


def test_outputs_may_stay_in_the_cache(cpu):
    """A large output of little work: the bytes written are no ground to refuse."""
    key = {"dtype": "bf16", "n": 8192, "k": 128, "m": 8192}
    work = OPERATOR.work(key)
    device = planned("h200_sxm")
    both = work.seconds(device.flops, device.bandwidth, cached=False)
    assert work.seconds(device.flops, device.bandwidth, cached=True) < 0.7 * both


def test_an_operator_may_bring_its_own_clock(bench):
    def timer(calls, graph, method):
        return Samples(np.full(5, 1.0), calls[0]())

    assert bench.measure(point(timer=timer)).seconds == 1.0


def test_calls_of_a_sample_fit_time_and_memory():
    method = Method()
    assert method.calls(5e-6, 1e6, 1e11) == method.most_sets
    assert method.calls(1e-4, 1e6, 1e11) == 3
    assert method.calls(1.0, 1e6, 1e11) == 1
    assert method.calls(5e-6, 1e10, 1e11) == 3
    assert method.calls(5e-6, 1e12, 1e11) == 1
    low, high = method.samples
    assert method.repeats(10.0) == low
    assert method.repeats(1e-9) == high
    assert replace(method, timed_seconds=0.03).repeats(1e-3) == 30
