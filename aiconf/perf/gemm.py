"""Dense matrix products: y[m, n] = x[m, k] w[n, k].

A weight shape (n, k) that was measured along m enters the grid of its table, and others are
interpolated from it. One with a few points alone says too little for that: it scales what its
neighbours give for its own shape, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import FORMATS, Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface, fill_holes
from aiconf.perf.tables import Columns, Tables
from aiconf.system.spec import Gpu

# Where no table holds a precision, the efficiency of these is borrowed, in this order.
_RELATED = {
    "fp8_block": ("fp8", "bf16"),
    "fp8": ("fp8_block", "bf16"),
    "nvfp4": ("fp8", "fp8_block", "bf16"),
    "int8": ("fp8", "bf16"),
    "int4": ("bf16",),
    "mxfp4": ("bf16",),
    "bf16": ("fp8",),
}


def gemm_light(gpu: Gpu, dtype: str, n: ArrayLike, k: ArrayLike, m: Array) -> Array:
    """Speed of light: 2 m n k FLOP; weights, input and bf16 output through memory once."""
    kind = FORMATS[dtype]
    columns, depth = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    moved = columns * depth * kind.weight_bytes + m * depth * kind.activation_bytes
    return roofline(gpu, kind.rate, 2.0 * m * columns * depth, moved + m * columns * 2.0)


# A weight shape enters the grid with so many points, over this share of the octaves of the widest.
_FEWEST, _SPAN = 3, 0.5


@dataclass(frozen=True)
class _Grid:
    """Efficiency of one precision over (n, k, m)."""

    n: Array
    k: Array
    m: Array
    ratio: Array
    floor: float
    low: Array  # (n, k): least and largest m with a point of its own; NaN without any
    high: Array
    lone: Mapping[tuple[int, int], tuple[Array, Array]]  # too few points: (n, k) -> m, seconds


@dataclass(frozen=True)
class _Curve:
    """Time of one weight shape along m: of ``origin`` from ``low`` to ``high``, else ``beyond``."""

    surface: Surface
    origin: Origin
    beyond: Origin = Origin.FALLBACK
    low: float = 0.0
    high: float = np.inf

    def origins(self, tokens: Array) -> Origins:
        """Where the time of each point comes from."""
        own = (tokens >= self.low) & (tokens <= self.high)
        return np.where(own, reached(self.surface, self.origin, tokens),
                        reached(self.surface, self.beyond, tokens))  # fmt: skip


def _grid(tables: Tables, dtype: str) -> _Grid | None:
    key = ("gemm", dtype)
    if key not in tables.built:
        rows = tables.read("gemm", f"gemm.{dtype}", dtype=dtype)
        tables.built[key] = None if rows is None else _grid_of(tables.system.gpu, dtype, rows)
    grid: _Grid | None = tables.built[key]
    return grid


def _grid_of(gpu: Gpu, dtype: str, rows: Columns) -> _Grid:
    (n, at_n), (k, at_k), (m, at_m) = (
        np.unique(rows[name], return_inverse=True) for name in ("n", "k", "m")
    )
    seconds = rows["seconds"].astype(np.float64)
    floor = float(seconds.min())
    light = gemm_light(gpu, dtype, rows["n"], rows["k"], rows["m"].astype(float))
    ratio = np.full((len(n), len(k), len(m)), np.nan)
    ratio[at_n, at_k, at_m] = seconds / (floor + light)
    columns, depth, rows_m = (axis.astype(np.float64) for axis in (n, k, m))
    known = ~np.isnan(ratio)
    some = known.any(axis=2)
    low = np.where(some, rows_m[known.argmax(axis=2)], np.nan)
    high = np.where(some, rows_m[len(m) - 1 - known[:, :, ::-1].argmax(axis=2)], np.nan)
    octaves = np.nan_to_num(np.log2(high / low), nan=-1.0)
    enough = known.sum(axis=2) >= _FEWEST
    joins = enough & (octaves >= _SPAN * octaves.max(where=enough, initial=0.0))
    if joins.any() and (some & ~joins).any():
        kept = joins[at_n, at_k]
        lone = {name: column[~kept] for name, column in rows.items()}
        grid = _grid_of(gpu, dtype, {name: column[kept] for name, column in rows.items()})
        return replace(grid, lone=_lone(lone))
    return _Grid(columns, depth, rows_m, fill_holes(ratio, rows_m), floor, low, high, {})


def _lone(rows: Columns) -> dict[tuple[int, int], tuple[Array, Array]]:
    """Points along m of each weight shape, ascending; of equal ones the last counts."""
    found: dict[tuple[int, int], dict[float, float]] = {}
    names = ("n", "k", "m", "seconds")
    for n, k, m, seconds in zip(*(rows[name].tolist() for name in names), strict=True):
        found.setdefault((n, k), {})[float(m)] = seconds
    return {
        shape: (np.array(sorted(points)), np.array([points[m] for m in sorted(points)]))
        for shape, points in found.items()
    }


def _between(axis: Array, value: float) -> tuple[int, int, float]:
    """Neighbours of ``value`` on a log2 axis and the weight of the upper one."""
    if len(axis) == 1:
        return 0, 0, 0.0
    held = float(np.clip(value, axis[0], axis[-1]))
    low = int(np.clip(np.searchsorted(axis, held, side="right") - 1, 0, len(axis) - 2))
    weight = np.log2(held / axis[low]) / np.log2(axis[low + 1] / axis[low])
    return low, low + 1, float(weight)


def _curve(tables: Tables, dtype: str, n: int, k: int) -> _Curve | None:
    """Time along m for one weight shape; n and k interpolated in log2 of the efficiency."""
    light = partial(gemm_light, tables.system.gpu, dtype, n, k)
    for candidate in (dtype, *_RELATED[dtype]):
        grid = _grid(tables, candidate)
        if grid is None:
            continue
        n0, n1, right = _between(grid.n, n)
        k0, k1, up = _between(grid.k, k)
        ratio = (
            (grid.ratio[n0, k0] * (1 - right) + grid.ratio[n1, k0] * right) * (1 - up)
            + (grid.ratio[n0, k1] * (1 - right) + grid.ratio[n1, k1] * right) * up
        )  # fmt: skip
        surface = Surface.of((grid.m,), ratio, grid.floor, light, (1,))
        held = grid.n[0] <= n <= grid.n[-1] and grid.k[0] <= k <= grid.k[-1]
        near = Origin.INTERPOLATED if candidate == dtype and held else Origin.FALLBACK
        best = Origin.INTERPOLATED if tables.borrowed(f"gemm.{dtype}") else Origin.MEASURED
        if candidate == dtype and (n, k) in grid.lone:
            m, seconds = grid.lone[n, k]
            return _Curve(_scaled(surface, m, seconds), best, near, float(m[0]), float(m[-1]))
        at = np.ix_(grid.n == n, grid.k == k)
        if candidate == dtype and not np.isnan(grid.low[at]).all():
            ends = float(grid.low[at][0, 0]), float(grid.high[at][0, 0])
            return _Curve(surface, best, Origin.FALLBACK, *ends)
        return _Curve(surface, near)
    return None


def _scaled(surface: Surface, m: Array, seconds: Array) -> Surface:
    """The curve through points of its own: what it gives times the nearest points' factors."""
    axis = np.union1d(surface.axes[0], m)
    factor = np.interp(np.log2(axis), np.log2(m), seconds / surface.seconds(m))
    reference = surface.floor + surface.light(axis)
    ratio = surface.seconds(axis) * factor / reference
    return Surface.of((axis,), ratio, surface.floor, surface.light, (1,))


def gemm_seconds(tables: Tables, dtype: str, n: int, k: int, m: ArrayLike) -> tuple[Array, Origins]:
    """Time of one product for an array of ``m`` (tokens), and where each came from."""
    tokens: NDArray[np.float64] = np.maximum(np.asarray(m, dtype=np.float64), 1.0)
    key = ("gemm", dtype, n, k)
    if key not in tables.built:
        tables.built[key] = _curve(tables, dtype, n, k)
    curve: _Curve | None = tables.built[key]
    if curve is None:
        return gemm_light(tables.system.gpu, dtype, n, k, tokens), unmeasured(tokens)
    return curve.surface.seconds(tokens), curve.origins(tokens)
