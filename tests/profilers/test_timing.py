"""The timer of a GPU, on a GPU that is made up: its clock moves only when work is given to it."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from profilers.timing import Method, cpu_timer, cuda_timer, once, poison

torch = pytest.importorskip("torch")
CALL, FLUSH = 5e-6, 50e-6  # seconds


class Gpu:
    """Counts seconds of work; what is launched in a graph is done when the graph is replayed."""

    def __init__(self):
        self.now, self.flushes, self.slept, self.capturing = 0.0, 0, 0, None
        self.ready = 0.0  # work before the first flush

    def work(self, seconds, done):
        if self.capturing is None:
            self.now += seconds
            done()
        else:
            self.capturing.append((seconds, done))

    def flush(self):
        self.ready = self.ready or self.now
        self.flushes += 1
        self.work(FLUSH, lambda: None)

    def sleep(self, cycles):
        self.slept += 1

    @contextlib.contextmanager
    def graph(self, graph):
        self.capturing = graph.kept
        yield
        self.capturing = None


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = made.now

        def elapsed_time(self, later):
            return (later.at - self.at) * 1e3

    class Graph:
        def __init__(self):
            self.kept = []

        def replay(self):
            for seconds, done in self.kept:
                made.work(seconds, done)

    stream = SimpleNamespace(wait_stream=lambda _other: None)
    fake = SimpleNamespace(
        Event=Event, CUDAGraph=Graph, graph=made.graph, Stream=lambda: stream,
        current_stream=lambda: stream, stream=lambda _s: contextlib.nullcontext(),
        synchronize=lambda: None, _sleep=made.sleep,
    )  # fmt: skip
    monkeypatch.setattr(torch, "cuda", fake)
    return made


def calls(gpu, count, writes=True):
    def call(value):
        output = torch.zeros(4, dtype=torch.bfloat16)
        gpu.work(CALL, lambda: writes and output.fill_(value))
        return output

    return [lambda value=value: call(float(value + 1)) for value in range(count)]


def flushed(gpu):
    return SimpleNamespace(sum=gpu.flush)


@pytest.mark.parametrize("graph", [True, False])
def test_the_time_of_one_call_without_flush(gpu, graph):
    method = Method(samples=(5, 9), warm_seconds=1e-3)
    found = cuda_timer(flushed(gpu))(calls(gpu, 7), graph, method)
    assert found.seconds == pytest.approx(np.full(9, CALL))
    assert gpu.flushes == 9  # one before each sample, none inside
    assert found.spread == pytest.approx(0.0, abs=1e-6)
    assert gpu.slept == (0 if graph else 10)  # before every sample, and the first estimate
    assert gpu.ready >= method.warm_seconds  # clocks are up before the first


@pytest.mark.parametrize("graph", [True, False])
def test_the_output_checked_is_that_of_the_timed_calls(gpu, graph):
    timer = cuda_timer(flushed(gpu))
    assert (timer(calls(gpu, 3), graph, Method()).output == 1.0).all()
    if graph:  # a replay that writes nothing leaves the poison
        assert timer(calls(gpu, 3, writes=False), graph, Method()).output.isnan().all()


def test_one_call_is_timed_on_the_gpu(gpu):
    (call,) = calls(gpu, 1)
    assert once("cuda:0")(call) == pytest.approx(CALL)


def test_the_host_clock_times_rotating_calls():
    seen = []
    output = torch.zeros(3)

    def call(which):
        seen.append(which)
        return output.fill_(which)

    found = cpu_timer([lambda w=w: call(w) for w in range(3)], True, Method(samples=(5, 5)))
    assert seen[:6] == [0, 1, 2, 0, 1, 2]
    assert len(found.seconds) == 5
    assert (found.seconds > 0).all()
    assert found.window[1] >= found.window[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "float8_e4m3fn"])
def test_poison_is_not_a_number(dtype):
    output = torch.zeros(4, 6).to(getattr(torch, dtype))
    poison(output)
    assert output.double().isnan().all()
    if dtype == "float32":
        turned = torch.zeros(4, 6).T
        poison(turned)
        assert turned.isnan().all()
