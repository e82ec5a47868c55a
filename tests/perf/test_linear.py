import numpy as np
import pytest

from aiconf.perf.linear import Recurrence, linear_light, linear_origin, linear_seconds
from aiconf.perf.origin import Origin
from aiconf.system import load_system

SHAPE = Recurrence("gdn", 4, 16, 128, 128, 4)
PLACES = [(s, b) for s in ("h200_sxm", "gb200") for b in ("vllm", "sglang", "trtllm")]


def table(**changes):
    """Both kernels in both phases, two batch sizes, two lengths."""
    rows = [
        (stage, phase, batch, length)
        for stage in ("conv", "scan")
        for phase, lengths in (("prefill", (64, 1024)), ("decode", (1,)))
        for batch in (1, 8)
        for length in lengths
    ]
    stage, phase, batch, length = zip(*rows, strict=True)
    columns = {
        "kind": ["gdn"] * len(rows),
        "stage": stage,
        "phase": phase,
        "batch": batch,
        "isl": length,
        "key_heads": [4] * len(rows),
        "value_heads": [16] * len(rows),
        "key_dim": [128] * len(rows),
        "value_dim": [128] * len(rows),
        "kernel": ["k"] * len(rows),
        "seconds": [1e-6 * b * n for _, _, b, n in rows],
    }
    return {"linear_attention": columns | changes}


def test_without_tables_it_is_the_speed_of_light_and_says_so(hand_made):
    tables = hand_made({})
    batch, length = np.array([2.0]), np.array([512.0])
    expected = linear_light(load_system("h200_sxm").gpu, SHAPE, batch, length)
    assert linear_seconds(tables, "prefill", SHAPE, batch, length) == pytest.approx(expected)
    assert linear_origin(tables, "prefill", SHAPE, batch, length)[0] == Origin.FALLBACK


def test_decode_reads_and_writes_the_state_once():
    gpu = load_system("h200_sxm").gpu
    wide = Recurrence("gdn", 16, 64, 128, 128, 4)
    seconds = linear_light(gpu, wide, np.array([100.0]), np.array([1.0]))[0]
    state = 100 * 64 * 128 * 128 * 4
    assert seconds * gpu.memory_bandwidth == pytest.approx(2 * state, rel=0.05)


def test_both_kernels_are_added_and_a_point_between_is_measured(hand_made):
    tables = hand_made(table())
    found = linear_seconds(tables, "decode", SHAPE, np.array([1.0, 8.0]))
    assert found == pytest.approx([2e-6, 16e-6])
    between = linear_seconds(tables, "prefill", SHAPE, np.array([1.0]), np.array([544.0]))
    assert between == pytest.approx([2 * 544e-6])
    assert linear_origin(tables, "prefill", SHAPE, [1.0], [544.0])[0] == Origin.MEASURED
    assert linear_origin(tables, "prefill", SHAPE, [1.0], [5000.0])[0] == Origin.FALLBACK


def test_other_heads_scale_with_their_work(hand_made):
    tables = hand_made(table())
    double = Recurrence("gdn", 8, 32, 128, 128, 4)
    one = linear_seconds(tables, "prefill", SHAPE, [8.0], [1024.0])[0]
    two = linear_seconds(tables, "prefill", double, [8.0], [1024.0])[0]
    assert one < two < 2.01 * one
    assert linear_origin(tables, "prefill", double, [8.0], [1024.0])[0] == Origin.INTERPOLATED
    wider = Recurrence("gdn", 4, 16, 256, 128, 4)
    assert linear_origin(tables, "decode", wider, [8.0])[0] == Origin.FALLBACK


@pytest.mark.parametrize(("system", "backend"), PLACES)
def test_embedded_times_never_fall(embedded, system, backend):
    tables = embedded(system, backend)
    batch, length = np.meshgrid(2.0 ** np.arange(0, 8), 2.0 ** np.arange(4, 16), indexing="ij")
    time = linear_seconds(tables, "prefill", SHAPE, batch.ravel(), length.ravel())
    grid = time.reshape(batch.shape)
    assert np.isfinite(grid).all()
    assert (np.diff(grid, axis=0) >= -1e-12).all()
    assert (np.diff(grid, axis=1) >= -1e-12).all()
    decode = linear_seconds(tables, "decode", SHAPE, 2.0 ** np.arange(0, 12))
    assert (np.diff(decode) >= -1e-12).all()
    assert linear_origin(tables, "decode", SHAPE, [64.0])[0] in (
        Origin.MEASURED, Origin.INTERPOLATED,
    )  # fmt: skip
