"""How well a table foretells itself: each point left out, and read from its neighbours.

Along one axis, as the reader does between measured points (see ``surface``): linear in the
coordinate, or in its power. The error of a linear interpolation grows with the product of the
distances to both neighbours, so a left-out point also tells the error that is to be expected
between points that stand closer: ``curvature`` is the error per product of distances in octaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.perf.schema import SECONDS, Schema
from aiconf.perf.store import Columns, row_codes

Array = NDArray[np.float64]
# Axes along which the reader interpolates besides the last key column of a table.
_SECOND = "batch"


def between(x: Array, seconds: Array, at: Array, power: int = 1) -> Array:
    """Time at coordinates ``at`` by the reader's interpolation; ``x`` ascending, inside only."""
    found: Array = np.interp(at**power, x**power, seconds)
    return found


def left_out(x: Array, seconds: Array, power: int = 1) -> Array:
    """Interpolated over measured time at each inner point of a line when it is left out.

    x: ascending coordinates of one line. Returns ratios of shape (points - 2,).
    """
    scaled = x**power
    weight = (scaled[1:-1] - scaled[:-2]) / (scaled[2:] - scaled[:-2])
    found: Array = (seconds[:-2] * (1.0 - weight) + seconds[2:] * weight) / seconds[1:-1]
    return found


def curvature(x: Array, seconds: Array, power: int = 1) -> Array:
    """|log| of ``left_out`` per product of the distances to both neighbours, in octaves.

    Shape (points,); the ends take the value of the point beside them, NaN below three points.
    """
    if len(x) < 3:
        return np.full(len(x), np.nan)
    octaves = np.diff(np.log2(x))
    inner = np.abs(np.log(left_out(x, seconds, power))) / (octaves[:-1] * octaves[1:])
    return np.concatenate([inner[:1], inner, inner[-1:]])


@dataclass(frozen=True)
class Fit:
    """Leave-one-out errors along one axis, for one kernel: |interpolated / measured - 1|."""

    kernel: str
    axis: str
    points: int
    ends: int  # points at an end of their line: nothing to interpolate from
    median: float
    p90: float
    worst: float
    worst_key: dict[str, object]


def powers(rows: Columns, table: str, axis: str) -> Array:
    """Power of the axis in which the reader interpolates, by row (``attention``, ``block``).

    The square of a prompt's length, where work grows with it: not behind a window, nor in
    blocks that hold the projections too.
    """
    square = np.zeros(len(rows[SECONDS]), dtype=bool)
    if axis == "isl" and table == "prefill_attention":
        square = rows["window"] == 0
    elif axis == "isl" and table == "mla_prefill":
        square = rows["scope"] == "kernel"
    return np.where(square, 2.0, 1.0)


def fits(rows: Columns, schema: Schema) -> Iterator[Fit]:
    """Leave-one-out errors of a table by kernel and axis, along its last column and ``batch``."""
    names = schema.key_names
    axes = [names[-1]] + [_SECOND] * (_SECOND in names[:-1])
    kernels = rows["kernel"] if "kernel" in names else np.full(len(rows[SECONDS]), "", object)
    for kernel in sorted(set(kernels)):
        mask = (kernels == kernel) & (rows[SECONDS] > 0)
        own = {name: column[mask] for name, column in rows.items()}
        for axis in axes:
            if len(own[SECONDS]):
                yield _fit(own, schema, str(kernel), axis)


def _fit(rows: Columns, schema: Schema, kernel: str, axis: str) -> Fit:
    others = [name for name in schema.key_names if name != axis]
    line = row_codes(rows, others)
    order = np.lexsort((rows[axis], line))
    line, x = line[order], rows[axis][order].astype(np.float64)
    seconds = rows[SECONDS][order].astype(np.float64)
    inner = np.flatnonzero((line[2:] == line[:-2]) & (x[2:] > x[:-2]))  # first of three in a line
    if not len(inner):
        nan = float("nan")
        return Fit(kernel, axis, 0, len(x), nan, nan, nan, {})
    scaled = x ** powers(rows, schema.name, axis)[order]
    weight = (scaled[inner + 1] - scaled[inner]) / (scaled[inner + 2] - scaled[inner])
    guess = seconds[inner] * (1.0 - weight) + seconds[inner + 2] * weight
    error = np.abs(guess / seconds[inner + 1] - 1.0)
    worst = int(np.argmax(error))
    row = order[inner[worst] + 1]
    key = {name: _plain(rows[name][row]) for name in schema.key_names}
    median, p90 = np.quantile(error, [0.5, 0.9])
    return Fit(
        kernel, axis, len(inner), len(x) - len(inner), float(median), float(p90),
        float(error[worst]), key,
    )  # fmt: skip


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
