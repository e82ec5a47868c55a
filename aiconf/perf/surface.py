"""Measured times over a grid of shapes, and the speed of light beyond it.

Every table is read in the same way. Between measured points time is interpolated linearly in
each coordinate (in its square where work grows with the square). Outside the measured range the
time at the nearest edge grows as a reference time does, ``floor + light(shape)``: ``floor`` is
the shortest measured time (launch and fixed latency), ``light`` what the hardware peaks allow.
So outside the table the answer is the speed of light scaled by the nearest measured efficiency.

Time never falls along an axis: an engine could always pad to the larger size, so a point that
is slower than a larger one is a disturbed measurement and is lowered to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Light = Callable[..., Array]


def fill_holes(values: Array, last: Array) -> Array:
    """Replace NaN: between known values of the last axis by interpolation, else by the nearest
    known value along the last axis, then along earlier ones.

    last: coordinates of the last axis, whose logarithm is interpolated in. Tables that were
    refined where they bend (``profilers.refine``) have different points on every line.
    """
    _fill_between(values, np.log2(last))
    for axis in range(values.ndim - 1, -1, -1):
        if not np.isnan(values).any():
            break
        moved = np.moveaxis(values, axis, -1)
        for step in range(1, moved.shape[-1]):  # carry forward
            hole = np.isnan(moved[..., step])
            moved[..., step][hole] = moved[..., step - 1][hole]
        for step in range(moved.shape[-1] - 2, -1, -1):  # carry backward
            hole = np.isnan(moved[..., step])
            moved[..., step][hole] = moved[..., step + 1][hole]
    return values


def _fill_between(values: Array, last: Array) -> None:
    lines = values.reshape(-1, values.shape[-1])
    known = ~np.isnan(lines)
    after = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    inside = np.logical_or.accumulate(known, axis=1) & after
    for line in np.flatnonzero((inside & ~known).any(axis=1)):
        own, hole = known[line], inside[line] & ~known[line]
        lines[line, hole] = np.interp(last[hole], last[own], lines[line, own])


def never_falling(seconds: Array) -> Array:
    """Lower every point to the least of those at larger coordinates, along every axis."""
    for axis in range(seconds.ndim):
        flipped = np.flip(seconds, axis)
        seconds = np.flip(np.minimum.accumulate(flipped, axis), axis)
    return seconds


@dataclass(frozen=True)
class Surface:
    """Seconds as a function of one or two positive coordinates.

    axes: ascending measured coordinates. ratio: measured time over reference time on their
    product. seconds: time on the grid. powers: 1, or 2 where work grows with the square.
    """

    axes: tuple[Array, ...]
    ratio: Array
    floor: float
    light: Light
    powers: tuple[int, ...]
    grid: Array
    scaled: tuple[Array, ...]  # axes to their powers

    @classmethod
    def fit(
        cls,
        columns: Sequence[ArrayLike],
        seconds: ArrayLike,
        light: Light,
        powers: tuple[int, ...] = (),
        floor: float | None = None,
    ) -> Surface:
        """Build from scattered points; of equal points the last one counts.

        columns: coordinates, one array per dimension. Holes of the grid are filled
        with the efficiency of their neighbours (``fill_holes``). floor: seconds of the shortest
        call of this kernel, where others of its rows say (None: of these points).
        """
        points = [np.asarray(column, dtype=np.float64) for column in columns]
        measured = np.asarray(seconds, dtype=np.float64)
        floor = float(measured.min()) if floor is None else floor
        axes, places = [], []
        for point in points:
            axis, place = np.unique(point, return_inverse=True)
            axes.append(axis)
            places.append(place.reshape(-1))
        ratio = np.full([len(axis) for axis in axes], np.nan)
        ratio[tuple(places)] = measured / (floor + light(*points))
        full = fill_holes(ratio, axes[-1])
        return cls.of(tuple(axes), full, floor, light, powers or (1,) * len(axes))

    @classmethod
    def of(
        cls,
        axes: tuple[Array, ...],
        ratio: Array,
        floor: float,
        light: Light,
        powers: tuple[int, ...],
    ) -> Surface:
        """Build from an efficiency on a full grid."""
        points = np.meshgrid(*axes, indexing="ij")
        grid = never_falling(ratio * (floor + light(*points)))
        scaled = tuple(axis**power for axis, power in zip(axes, powers, strict=True))
        return cls(axes, ratio, floor, light, powers, grid, scaled)

    def serving(self, light: Light, stretch: float = 1.0) -> Surface:
        """Return the same measured efficiency for the work of another shape.

        stretch: coordinates of that shape at which it runs as this one does at 1.
        """
        axes = tuple(axis * stretch for axis in self.axes)
        return Surface.of(axes, self.ratio, self.floor, light, self.powers)

    def seconds(self, *coordinates: ArrayLike) -> Array:
        """Time at the coordinates (broadcast together), in seconds."""
        points = [np.asarray(c, dtype=np.float64) for c in coordinates]
        held = [
            np.clip(point, axis[0], axis[-1]) for axis, point in zip(self.axes, points, strict=True)
        ]
        time = self._inside(held)
        if all((h == p).all() for h, p in zip(held, points, strict=True)):
            return time
        growth = (self.floor + self.light(*points)) / (self.floor + self.light(*held))
        return time * growth

    def inside(self, *coordinates: ArrayLike) -> NDArray[np.bool_]:
        """Whether the coordinates lie within the measured range in every dimension."""
        points = np.broadcast_arrays(*[np.asarray(c, dtype=np.float64) for c in coordinates])
        within = np.ones(points[0].shape, dtype=bool)
        for axis, point in zip(self.axes, points, strict=True):
            within &= (point >= axis[0]) & (point <= axis[-1])
        return within

    def _inside(self, points: Sequence[Array]) -> Array:
        """Multilinear interpolation at points within the grid."""
        scaled = [point**power for point, power in zip(points, self.powers, strict=True)]
        if len(scaled) == 1:
            return np.interp(scaled[0], self.scaled[0], self.grid)
        (a, left), (b, right) = (
            _place(axis, point) for axis, point in zip(self.scaled, scaled, strict=True)
        )
        a1 = np.minimum(a + 1, len(self.axes[0]) - 1)
        b1 = np.minimum(b + 1, len(self.axes[1]) - 1)
        low = self.grid[a, b] * (1.0 - right) + self.grid[a, b1] * right
        high = self.grid[a1, b] * (1.0 - right) + self.grid[a1, b1] * right
        return low * (1.0 - left) + high * left


def _place(axis: Array, point: Array) -> tuple[NDArray[np.intp], Array]:
    """Cell of each point along an axis, and how far into it the point lies (0 to 1)."""
    if len(axis) == 1:
        return np.zeros(point.shape, dtype=np.intp), np.zeros(point.shape)
    cell = np.clip(np.searchsorted(axis, point, side="right") - 1, 0, len(axis) - 2)
    return cell, (point - axis[cell]) / (axis[cell + 1] - axis[cell])
