import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiconf.perf.origin import Origin, reached
from aiconf.perf.surface import Surface, fill_holes, never_falling

FEW = settings(max_examples=40, deadline=None)


def linear(x):
    return 1e-9 * np.asarray(x, dtype=float)


def plane(x, y):
    return 1e-9 * np.asarray(x, dtype=float) * np.asarray(y, dtype=float)


def test_measured_points_are_returned_as_they_are():
    surface = Surface.fit(([1, 10, 100],), [2e-6, 3e-6, 9e-6], linear)
    assert surface.seconds([1, 10, 100]) == pytest.approx([2e-6, 3e-6, 9e-6])


def test_between_points_time_is_linear():
    surface = Surface.fit(([10, 20],), [2e-6, 4e-6], linear)
    assert surface.seconds([15.0])[0] == pytest.approx(3e-6)


def test_where_work_grows_with_the_square_time_is_linear_in_the_square():
    surface = Surface.fit(([10, 20],), [100e-6, 400e-6], linear, (2,))
    assert surface.seconds([15.0])[0] == pytest.approx(225e-6)


def test_beyond_the_table_time_grows_as_floor_and_light():
    surface = Surface.fit(([10, 100],), [1e-6, 5e-6], linear)
    growth = (1e-6 + linear(1e6)) / (1e-6 + linear(100))
    assert surface.seconds([1e6])[0] == pytest.approx(5e-6 * growth)


def test_of_equal_points_the_last_one_counts():
    surface = Surface.fit(([1, 1, 2],), [9e-6, 1e-6, 2e-6], linear)
    assert surface.seconds([1.0])[0] == pytest.approx(1e-6)


def test_a_disturbed_point_is_lowered_to_the_next_larger_one():
    surface = Surface.fit(([1, 2, 4],), [1e-6, 8e-6, 2e-6], linear)
    assert surface.seconds([2.0])[0] == pytest.approx(2e-6)


def test_a_hole_takes_the_efficiency_of_its_neighbour():
    x, y = [1, 1, 1000], [1, 1000, 1000]
    surface = Surface.fit((x, y), [2e-6, 4e-6, 2e-3], plane)
    # (1000, 1) was not measured; the nearest known efficiency is that of its neighbours.
    assert surface.ratio[1, 0] == surface.ratio[1, 1]
    assert np.isfinite(surface.grid).all()


def test_a_single_point_still_answers_everywhere():
    surface = Surface.fit(([4], [8]), [1e-6], plane)
    assert surface.seconds(4.0, 8.0) == pytest.approx(1e-6)
    assert surface.seconds(400.0, 800.0) > surface.seconds(4.0, 8.0)


def test_serving_keeps_the_efficiency_and_changes_the_work():
    surface = Surface.fit(([1e6, 2e6],), [4e-3, 8e-3], linear)
    doubled = surface.serving(lambda x: 2 * linear(x))
    assert doubled.ratio is surface.ratio
    assert doubled.seconds([2e6])[0] > surface.seconds([2e6])[0]


def test_inside_and_reached():
    surface = Surface.fit(([1, 10], [1, 10]), [1e-6, 2e-6], plane)
    assert surface.inside([1.0, 5.0, 11.0], [1.0, 10.0, 5.0]).tolist() == [True, True, False]
    origin = reached(surface, Origin.MEASURED, [5.0, 50.0], [5.0, 5.0])
    assert origin.tolist() == [Origin.MEASURED, Origin.FALLBACK]


def test_fill_holes_without_a_hole_changes_nothing():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert (fill_holes(values.copy(), np.array([1.0, 2.0, 4.0])[: values.shape[1]]) == values).all()


def test_a_hole_between_points_of_the_last_axis_is_interpolated_by_ratio():
    nan = np.nan
    values = np.array([[nan, 2.0, nan, 4.0, nan], [nan] * 5, [1.0, nan, nan, nan, 9.0]])
    found = fill_holes(values, np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert found[0] == pytest.approx([2.0, 2.0, 3.0, 4.0, 4.0])
    assert found[2] == pytest.approx([1.0, 3.0, 5.0, 7.0, 9.0])
    assert found[1] == pytest.approx(found[0])  # a line without a point: as its neighbour


def test_never_falling_lowers_and_never_raises():
    values = np.array([[3.0, 1.0, 2.0], [2.0, 5.0, 4.0]])
    lowered = never_falling(values)
    assert (lowered <= values).all()
    assert (np.diff(lowered, axis=0) >= 0).all()
    assert (np.diff(lowered, axis=1) >= 0).all()


times = st.floats(1e-7, 1e-1)


@FEW
@given(st.lists(times, min_size=2, max_size=12), st.floats(0.01, 1e7), st.floats(1.0, 100.0))
def test_time_never_falls_along_one_axis(seconds, at, factor):
    surface = Surface.fit((np.arange(1, len(seconds) + 1) ** 2,), seconds, linear)
    less, more = surface.seconds([at, at * factor])
    assert 0 < less <= more * (1 + 1e-9)


@FEW
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 50), st.integers(1, 50)), times, min_size=1, max_size=20
    ),
    st.floats(0.1, 500.0), st.floats(0.1, 500.0), st.floats(1.0, 20.0), st.booleans(),
)  # fmt: skip
def test_time_never_falls_along_two_axes_within_the_table(points, x, y, factor, first):
    columns = tuple(np.array(column) for column in zip(*points, strict=True))
    surface = Surface.fit(columns, list(points.values()), plane)
    x, y = (np.clip(v, a[0], a[-1]) for v, a in zip((x, y), surface.axes, strict=True))
    far = (x * factor, y) if first else (x, y * factor)
    far = [np.clip(v, a[0], a[-1]) for v, a in zip(far, surface.axes, strict=True)]
    less, more = float(surface.seconds(x, y)), float(surface.seconds(*far))
    assert 0 < less <= more * (1 + 1e-9)
