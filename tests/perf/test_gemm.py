import numpy as np
import pytest

from aiconf.perf.gemm import gemm_light, gemm_seconds
from aiconf.perf.light import FORMATS, peak, roofline
from aiconf.perf.origin import Origin
from aiconf.system import load_system

GPU = load_system("h200_sxm").gpu
M = np.array([1.0, 16.0, 256.0, 4096.0])


def table(efficiency=2.0, dtype="bf16", kernel="only"):
    """GEMM times ``efficiency`` times the speed of light (plus 1 us) on a small grid."""
    rows = {name: [] for name in ("dtype", "n", "k", "kernel", "m", "seconds")}
    for n in (1024, 4096):
        for k in (1024, 4096):
            for m in M:
                light = float(gemm_light(GPU, dtype, n, k, np.array([m]))[0])
                for name, value in zip(
                    rows, (dtype, n, k, kernel, int(m), efficiency * (1e-6 + light)), strict=True
                ):
                    rows[name].append(value)
    return rows


def test_a_measured_shape_is_returned_and_called_measured(hand_made):
    rows = table()
    time, origin = gemm_seconds(hand_made({"gemm": rows}), "bf16", 4096, 1024, M)
    mask = (np.array(rows["n"]) == 4096) & (np.array(rows["k"]) == 1024)
    assert time == pytest.approx(np.array(rows["seconds"])[mask])
    assert (origin == Origin.MEASURED).all()


def test_a_shape_whose_widths_were_measured_with_others_is_not_called_measured(hand_made):
    rows = table()
    kept = [(n, k) != (4096, 1024) for n, k in zip(rows["n"], rows["k"], strict=True)]
    rows = {
        name: [value for value, keep in zip(column, kept, strict=True) if keep]
        for name, column in rows.items()
    }
    tables = hand_made({"gemm": rows})
    assert (gemm_seconds(tables, "bf16", 4096, 1024, M)[1] == Origin.INTERPOLATED).all()
    assert (gemm_seconds(tables, "bf16", 4096, 4096, M)[1] == Origin.MEASURED).all()


def with_points(points, n, k):
    """The table of ``table`` and {m: seconds} of one more weight shape."""
    rows = table()
    for m, seconds in points.items():
        for name, value in zip(rows, ("bf16", n, k, "only", m, seconds), strict=True):
            rows[name].append(value)
    return rows


def test_a_lone_point_scales_its_own_shape_and_is_measured_where_it_lies(hand_made):
    """Its efficiency at one m says nothing of that at another: there its neighbours do."""
    before = hand_made({"gemm": table()})
    point = 3.0 * gemm_seconds(before, "bf16", 2048, 2048, 64.0)[0]
    tables = hand_made({"gemm": with_points({64: float(point)}, 2048, 2048)})
    m = np.array([1.0, 64.0, 100.0, 4096.0, 8192.0])
    time, origin = gemm_seconds(tables, "bf16", 2048, 2048, m)
    assert time[1] == pytest.approx(float(point))
    assert time == pytest.approx(3.0 * gemm_seconds(before, "bf16", 2048, 2048, m)[0], rel=0.02)
    told = (Origin.INTERPOLATED, Origin.MEASURED, Origin.INTERPOLATED)
    assert tuple(origin[:3]) == told
    assert tuple(origin[3:]) == (Origin.INTERPOLATED, Origin.FALLBACK)


@pytest.mark.parametrize("points", [{64: 9e-3}, {1: 9e-3, 4096: 9e-3}, {1: 1e-9, 2: 2e-9, 4: 4e-9}])
def test_a_lone_point_changes_no_other_shape(hand_made, points):
    """Nor does one below the floor of the table; nor three that cover a corner of the axis."""
    before = hand_made({"gemm": table()})
    after = hand_made({"gemm": with_points(points, 2048, 2048)})
    for n, k in ((2048, 1024), (2048, 4096), (1500, 2048), (4096, 2048), (1024, 1024)):
        for one, other in zip(
            gemm_seconds(before, "bf16", n, k, M), gemm_seconds(after, "bf16", n, k, M), strict=True
        ):
            assert (one == other).all(), (n, k)


def test_a_lone_point_beyond_the_widths_of_the_table_is_a_fallback_elsewhere(hand_made):
    tables = hand_made({"gemm": with_points({64: 1.0}, 8192, 1024)})
    time, origin = gemm_seconds(tables, "bf16", 8192, 1024, np.array([64.0, 65.0]))
    assert time[0] == pytest.approx(1.0)
    assert tuple(origin) == (Origin.MEASURED, Origin.FALLBACK)


def test_a_line_joins_the_grid_and_is_a_fallback_beyond_its_own_points(hand_made):
    light = gemm_light(GPU, "bf16", 2048, 2048, np.array([1.0, 16.0, 256.0]))
    points = dict(zip((1, 16, 256), (4.0 * (1e-6 + light)).tolist(), strict=True))
    tables = hand_made({"gemm": with_points(points, 2048, 2048)})
    time, origin = gemm_seconds(tables, "bf16", 2048, 2048, np.array([1.0, 100.0, 256.0, 1024.0]))
    assert time[0] == pytest.approx(points[1])
    assert tuple(origin) == (Origin.MEASURED,) * 3 + (Origin.FALLBACK,)
    near = gemm_seconds(tables, "bf16", 2000, 2048, M)[0]
    assert (near > 1.5 * gemm_seconds(hand_made({"gemm": table()}), "bf16", 2000, 2048, M)[0]).any()


def test_a_table_of_lone_points_alone_still_answers(hand_made):
    rows = {name: column[:1] for name, column in table().items()}
    time, origin = gemm_seconds(hand_made({"gemm": rows}), "bf16", 1024, 1024, M)
    assert time[0] == pytest.approx(rows["seconds"][0])
    assert (time >= gemm_light(GPU, "bf16", 1024, 1024, M)).all()
    assert tuple(origin) == (Origin.MEASURED,) + (Origin.FALLBACK,) * 3


def test_a_table_of_one_shape_answers_for_all(hand_made):
    """What a short run of the profiler leaves."""
    rows = {name: column[: len(M)] for name, column in table().items()}
    tables = hand_made({"gemm": rows})
    time, origin = gemm_seconds(tables, "bf16", 1024, 1024, M)
    assert time == pytest.approx(np.array(rows["seconds"]))
    assert (origin == Origin.MEASURED).all()
    time, origin = gemm_seconds(tables, "bf16", 4096, 2048, M)
    assert (time > gemm_light(GPU, "bf16", 4096, 2048, M)).all()
    assert (origin == Origin.FALLBACK).all()


def test_between_shapes_the_efficiency_is_interpolated(hand_made):
    tables = hand_made({"gemm": table()})
    time, origin = gemm_seconds(tables, "bf16", 2000, 3000, M)
    light = gemm_light(GPU, "bf16", 2000, 3000, M)
    assert (origin == Origin.INTERPOLATED).all()
    assert (time > light).all()
    assert (time < 4.5 * (1e-6 + light)).all()


def test_beyond_the_table_it_is_a_fallback_near_the_same_efficiency(hand_made):
    tables = hand_made({"gemm": table()})
    large = np.array([1e6])
    time, origin = gemm_seconds(tables, "bf16", 4096, 4096, large)
    assert origin[0] == Origin.FALLBACK
    ratio = time[0] / gemm_light(GPU, "bf16", 4096, 4096, large)[0]
    assert 1.5 < ratio < 2.5
    _, outside = gemm_seconds(tables, "bf16", 65536, 4096, M)
    assert (outside == Origin.FALLBACK).all()


def test_a_missing_precision_borrows_the_efficiency_of_a_related_one(hand_made):
    tables = hand_made({"gemm": table()})
    time, origin = gemm_seconds(tables, "fp8", 4096, 4096, np.array([4096.0]))
    bf16, _ = gemm_seconds(tables, "bf16", 4096, 4096, np.array([4096.0]))
    assert origin[0] == Origin.FALLBACK
    assert time[0] < bf16[0]


def test_without_any_table_it_is_the_speed_of_light(hand_made):
    time, origin = gemm_seconds(hand_made({}), "bf16", 4096, 4096, M)
    assert time == pytest.approx(gemm_light(GPU, "bf16", 4096, 4096, M))
    assert (origin == Origin.FALLBACK).all()


def test_a_lent_table_counts_as_interpolated(hand_made):
    tables = hand_made(
        {("sglang", "gemm"): table(dtype="fp8_block")}, lenders={"gemm.fp8_block": "sglang"}
    )
    _, origin = gemm_seconds(tables, "fp8_block", 4096, 4096, M)
    assert (origin == Origin.INTERPOLATED).all()


def test_of_several_kernels_the_engines_choice_is_read(hand_made):
    fast, slow = table(2.0, kernel="fast"), table(6.0, kernel="slow")
    both = {name: fast[name] + slow[name] for name in fast}
    times = [
        gemm_seconds(hand_made({"gemm": both}, order), "bf16", 4096, 4096, M)[0]
        for order in (("fast", "slow"), ("slow", "fast"))
    ]
    assert (times[1] > 2.0 * times[0]).all()


def test_roofline_is_the_slower_of_arithmetic_and_memory():
    assert roofline(GPU, "bf16", np.array([GPU.flops["bf16"]]), np.array([1.0]))[0] == 1.0
    moved = np.array([2 * GPU.memory_bandwidth])
    assert roofline(GPU, "bf16", np.array([1.0]), moved)[0] == 2.0


def test_a_rate_the_gpu_lacks_is_that_of_the_next_wider_precision():
    assert "fp4" not in GPU.flops
    assert peak(GPU, "fp4") == GPU.flops["fp8"]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", ["h200_sxm", "gb200"])
def test_embedded_tables_never_beat_memory_by_far_and_never_fall(embedded, system, backend, dtype):
    if dtype == "mxfp4_fp8":
        pytest.skip("a precision of experts only")
    tables = embedded(system, backend)
    m = np.unique(np.round(2.0 ** np.arange(0, 18, 0.5)))
    time, _ = gemm_seconds(tables, dtype, 5120, 5120, m)
    assert np.isfinite(time).all()
    assert (time > 0).all()
    assert (np.diff(time) >= -1e-12).all()
    # Weights that fit in the cache may be read faster than memory allows, arithmetic may not.
    flops = 2.0 * m * 5120 * 5120 / peak(tables.system.gpu, FORMATS[dtype].rate)
    assert (time > 0.8 * flops).all()
