"""Refinement on kernels whose time is a known function of their shape."""

import numpy as np
import pytest

from aiconf.perf.gemm import gemm_light, gemm_seconds
from aiconf.perf.tables import Tables
from aiconf.system import load_system
from profilers.refine import AIM, Refinement, Track

H200 = load_system("h200_sxm")
M = np.unique(np.round(2.0 ** np.arange(0, 15.01, 0.25)))
SHAPES = [(512, 512), (8192, 512), (512, 8192), (8192, 8192), (2048, 4096), (65536, 8192)]


def light(n, k, m):
    return gemm_light(H200.gpu, "bf16", n, k, np.asarray(m, float))


def waves(n, k, m):
    """Launch, weights through memory at 80 %, then waves of 128 x 128 tiles on 132 processors."""
    m = np.asarray(m, float)
    count = np.ceil(np.ceil(m / 128) * np.ceil(n / 128) / 132)
    tile = 2.0 * 128 * 128 * k / (0.75 * H200.gpu.flops["bf16"] / 132)
    return 3e-6 + np.maximum(memory(n, k, m), count * tile)


def smooth(n, k, m):
    """Launch, then memory and arithmetic that hide behind each other except where they meet."""
    m = np.asarray(m, float)
    arithmetic = 2.0 * m * n * k / (0.75 * H200.gpu.flops["bf16"])
    return 3e-6 + (memory(n, k, m) ** 4 + arithmetic**4) ** 0.25


def memory(n, k, m):
    return (n * k + m * k + m * n) * 2.0 / (0.8 * H200.gpu.memory_bandwidth)


def tracks():
    return [Track(M, light(n, k, M), np.ones(len(M))) for n, k in SHAPES]


def measured(kernel, choose, count):
    """(n, k, m, seconds) of ``count`` points of a strategy."""
    found = []
    while len(found) < count:
        chosen = choose()
        if chosen is None:
            break
        track, place, add = chosen
        seconds = float(kernel(*SHAPES[track], M[place]))
        found.append((*SHAPES[track], M[place], seconds))
        add(seconds)
    return found


def adaptive(kernel, count):
    order = Refinement(tracks())

    def choose():
        one = order.seed() or order.worst()
        return one and (*one, lambda seconds: order.add(*one, seconds))

    return measured(kernel, choose, count)


def uniform(kernel, count):
    each = count // len(SHAPES)
    places = np.round(np.linspace(0, len(M) - 1, each)).astype(int)
    points = iter([(t, p) for t in range(len(SHAPES)) for p in places])
    return measured(kernel, lambda: (one := next(points, None)) and (*one, lambda _s: None), count)


class Rows:
    """A database of the measured points, read by the reader that predictions use."""

    def __init__(self, points):
        n, k, m, seconds = (np.array(column) for column in zip(*points, strict=True))
        self.columns = {
            "n": n.astype(int), "k": k.astype(int), "m": m.astype(int), "seconds": seconds,
            "kernel": np.full(len(n), "x", object),
        }  # fmt: skip

    def read(self, _system, _backend, _table, where=None):
        return self.columns if (where or {}).get("dtype") == "bf16" else None

    def version(self, _system, _backend):
        return None


def error(kernel, points):
    """Mean |error| of what the reader says at every m of the measured shapes."""
    tables = Tables(Rows(points), H200, "torch")
    errors = []
    for n, k in SHAPES:
        found, _ = gemm_seconds(tables, "bf16", n, k, M)
        errors.append(np.abs(found / kernel(n, k, M) - 1.0))
    return float(np.concatenate(errors).mean())


@pytest.mark.parametrize(
    ("kernel", "count"), [(smooth, 36), (smooth, 48), (smooth, 72), (waves, 96), (waves, 132)]
)
def test_refinement_beats_a_uniform_grid_of_as_many_points(kernel, count):
    refined, even = adaptive(kernel, count), uniform(kernel, count)
    assert len(refined) == len(even) == count
    assert error(kernel, refined) < 0.9 * error(kernel, even)


def test_more_points_make_a_smaller_error_until_it_is_small_enough():
    errors = [error(waves, adaptive(waves, count)) for count in (36, 72, 108, 200)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < AIM
    assert len(adaptive(smooth, 366)) < 100


def test_a_kernel_as_the_speed_of_light_foretells_it_is_not_refined():
    order = Refinement([Track(M, 1e-9 * M, np.ones(len(M)))])
    first = []
    while (one := order.seed()) is not None:
        first.append(one[1])
        order.add(*one, 1e-6 + 1e-9 * M[one[1]])
    assert {0, len(M) - 1} < set(first)
    assert order.worst() is None
    assert order.left() == 0.0


def test_a_cheap_gap_goes_before_a_dear_one_with_the_same_error():
    costs = (np.full(len(M), 9.0), np.ones(len(M)))  # of equals the first would be chosen
    order = Refinement([Track(M, light(512, 512, M), cost) for cost in costs])
    while (one := order.seed()) is not None:
        order.add(*one, float(waves(512, 512, M[one[1]])))
    assert order.worst()[0] == 1


def test_refused_points_are_not_tried_again_and_their_neighbours_are():
    track = Track(M, light(8192, 8192, M), np.ones(len(M)))
    order, tried = Refinement([track]), []
    while (one := order.seed() or order.worst()) is not None:
        place = one[1]
        tried.append(place)
        order.add(*one, None if place % 3 == 1 else float(waves(8192, 8192, M[place])))
    assert len(tried) == len(set(tried))
    assert any(place % 3 == 1 for place in tried)
    assert all(error <= AIM for error, _, _ in track.gaps())


def test_lines_are_begun_in_the_order_of_their_worth():
    order = Refinement(tracks())
    seen = []
    while (one := order.seed()) is not None:
        seen.append(one[0])
        order.add(*one, 1e-6)
    assert seen == sorted(seen)
