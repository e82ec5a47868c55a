"""Measured times over a grid of shapes, kept as multiples of the speed of light.

Every table is read in the same way. A point's time is stored as a ratio to a reference
time, ``floor + light(shape)``: ``floor`` is the shortest time of the table (launch and
fixed latency), ``light`` the time the hardware peaks allow. Between measured points the
ratio is interpolated linearly in log2 of each coordinate; outside the measured range it is
held at the nearest edge. So inside the table the answer follows the measurement, and outside
it is the speed of light scaled by the nearest measured efficiency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Light = Callable[..., Array]


def _fill_holes(values: Array) -> Array:
    """Replace NaN by the nearest known value along the last axis, then along earlier ones."""
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


@dataclass(frozen=True)
class Surface:
    """Seconds as a function of one or more positive coordinates.

    axes: ascending coordinates per dimension. ratio: measured / reference on their product.
    floor: seconds, the shortest measured time. light: seconds from the coordinates.
    """

    axes: tuple[Array, ...]
    ratio: Array
    floor: float
    light: Light
    logs: tuple[Array, ...]  # log2 of the axes

    @classmethod
    def fit(cls, columns: Sequence[ArrayLike], seconds: ArrayLike, light: Light) -> Surface:
        """Build from scattered points: ``columns`` are coordinates, one array per dimension."""
        points = [np.asarray(column, dtype=np.float64) for column in columns]
        measured = np.asarray(seconds, dtype=np.float64)
        floor = float(measured.min())
        axes, places = [], []
        for point in points:
            axis, place = np.unique(point, return_inverse=True)
            axes.append(axis)
            places.append(place.reshape(-1))
        ratio = np.full([len(axis) for axis in axes], np.nan)
        ratio[tuple(places)] = measured / (floor + light(*points))
        logs = tuple(np.log2(axis) for axis in axes)
        return cls(tuple(axes), _fill_holes(ratio), floor, light, logs)

    def serving(self, light: Light) -> Surface:
        """Return the same measured efficiency for the work of another shape."""
        return replace(self, light=light)

    def seconds(self, *coordinates: ArrayLike) -> Array:
        """Time at the coordinates (broadcast together), in seconds."""
        points = np.broadcast_arrays(*[np.asarray(c, dtype=np.float64) for c in coordinates])
        return self.ratio_at(*points) * (self.floor + self.light(*points))

    def inside(self, *coordinates: ArrayLike) -> NDArray[np.bool_]:
        """Whether the coordinates lie within the measured range in every dimension."""
        points = np.broadcast_arrays(*[np.asarray(c, dtype=np.float64) for c in coordinates])
        within = np.ones(points[0].shape, dtype=bool)
        for axis, point in zip(self.axes, points, strict=True):
            within &= (point >= axis[0] * 0.999) & (point <= axis[-1] * 1.001)
        return within

    def ratio_at(self, *points: Array) -> Array:
        """Interpolated measured / reference, held at the edges of the grid."""
        if len(points) == 1:
            return np.interp(np.log2(np.maximum(points[0], 1e-9)), self.logs[0], self.ratio)
        result: Array = np.zeros(points[0].shape)
        lows, highs, weights = [], [], []
        for logs, point in zip(self.logs, points, strict=True):
            if len(logs) == 1:
                low = np.zeros(point.shape, dtype=np.intp)
                lows.append(low)
                highs.append(low)
                weights.append(np.zeros(point.shape))
                continue
            wanted = np.clip(np.log2(np.maximum(point, 1e-9)), logs[0], logs[-1])
            low = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(logs) - 2)
            lows.append(low)
            highs.append(low + 1)
            weights.append((wanted - logs[low]) / (logs[low + 1] - logs[low]))
        for corner in range(1 << len(self.axes)):
            share: Array = np.ones(points[0].shape)
            place = []
            for dim, weight in enumerate(weights):
                upper = corner >> dim & 1
                share = share * (weight if upper else 1 - weight)
                place.append(highs[dim] if upper else lows[dim])
            result += share * self.ratio[tuple(place)]
        return result

    def slice(self, *fixed: float) -> tuple[Array, Array]:
        """Fix all leading coordinates; return the last axis and the ratio along it."""
        last = self.axes[-1]
        points = [np.full(last.shape, float(value)) for value in fixed]
        return last, self.ratio_at(*points, last)
