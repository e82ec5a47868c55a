"""Dense matrix products: y[m, n] = x[m, k] w[n, k]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import FORMATS, Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface, fill_holes
from aiconf.perf.tables import Tables
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


@dataclass(frozen=True)
class _Grid:
    """Efficiency of one precision over (n, k, m)."""

    n: Array
    k: Array
    m: Array
    ratio: Array
    floor: float
    measured: NDArray[np.bool_]  # (n, k) with a point of its own


def _grid(tables: Tables, dtype: str) -> _Grid | None:
    key = ("gemm", dtype)
    if key not in tables.built:
        tables.built[key] = _read_grid(tables, dtype)
    grid: _Grid | None = tables.built[key]
    return grid


def _read_grid(tables: Tables, dtype: str) -> _Grid | None:
    rows = tables.read("gemm", f"gemm.{dtype}", dtype=dtype)
    if rows is None:
        return None
    (n, at_n), (k, at_k), (m, at_m) = (
        np.unique(rows[name], return_inverse=True) for name in ("n", "k", "m")
    )
    seconds = rows["seconds"].astype(np.float64)
    floor = float(seconds.min())
    light = gemm_light(tables.system.gpu, dtype, rows["n"], rows["k"], rows["m"].astype(float))
    ratio = np.full((len(n), len(k), len(m)), np.nan)
    ratio[at_n, at_k, at_m] = seconds / (floor + light)
    columns, depth, rows_m = (axis.astype(np.float64) for axis in (n, k, m))
    measured = ~np.isnan(ratio).all(axis=2)
    return _Grid(columns, depth, rows_m, fill_holes(ratio, rows_m), floor, measured)


def _between(axis: Array, value: float) -> tuple[int, int, float]:
    """Neighbours of ``value`` on a log2 axis and the weight of the upper one."""
    if len(axis) == 1:
        return 0, 0, 0.0
    held = float(np.clip(value, axis[0], axis[-1]))
    low = int(np.clip(np.searchsorted(axis, held, side="right") - 1, 0, len(axis) - 2))
    weight = np.log2(held / axis[low]) / np.log2(axis[low + 1] / axis[low])
    return low, low + 1, float(weight)


def _curve(tables: Tables, dtype: str, n: int, k: int) -> tuple[Surface | None, Origin]:
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
        exact = bool(grid.measured[np.ix_(grid.n == n, grid.k == k)].any())
        held = grid.n[0] <= n <= grid.n[-1] and grid.k[0] <= k <= grid.k[-1]
        origin = Origin.MEASURED if exact else Origin.INTERPOLATED
        if candidate != dtype or not held:
            origin = Origin.FALLBACK
        elif tables.borrowed(f"gemm.{dtype}"):
            origin = Origin.INTERPOLATED
        return Surface.of((grid.m,), ratio, grid.floor, light, (1,)), origin
    return None, Origin.FALLBACK


def gemm_seconds(tables: Tables, dtype: str, n: int, k: int, m: ArrayLike) -> tuple[Array, Origins]:
    """Time of one product for an array of ``m`` (tokens), and where each came from."""
    tokens: NDArray[np.float64] = np.maximum(np.asarray(m, dtype=np.float64), 1.0)
    key = ("gemm", dtype, n, k)
    if key not in tables.built:
        tables.built[key] = _curve(tables, dtype, n, k)
    curve, origin = tables.built[key]
    if curve is None:
        return gemm_light(tables.system.gpu, dtype, n, k, tokens), unmeasured(tokens)
    return curve.seconds(tokens), reached(curve, origin, tokens)
