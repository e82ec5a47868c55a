"""Dense matrix products: y[m, n] = x[m, k] w[n, k]."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.light import FORMATS, Array, roofline
from aiconf.perf.origin import Origin
from aiconf.perf.surface import Surface
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
    "mxfp4_fp8": ("fp8", "bf16"),
    "bf16": ("fp8",),
}


def gemm_light(gpu: Gpu, dtype: str, n: Array, k: Array, m: Array) -> Array:
    """Speed of light: 2 m n k FLOP; weights, input and bf16 output through memory once."""
    kind = FORMATS[dtype]
    moved = n * k * kind.weight_bytes + m * k * kind.activation_bytes + m * n * 2.0
    return roofline(gpu, kind.rate, 2.0 * m * n * k, moved)


def _surface(tables: Tables, dtype: str) -> Surface | None:
    key = ("gemm", dtype)
    if key not in tables.built:
        rows = tables.read("gemm", f"gemm.{dtype}", dtype=dtype)
        tables.built[key] = rows and Surface.fit(
            (rows["n"], rows["k"], rows["m"]),
            rows["seconds"],
            partial(gemm_light, tables.system.gpu, dtype),
        )
    surface: Surface | None = tables.built[key]
    return surface


def gemm_seconds(
    tables: Tables, dtype: str, n: int, k: int, m: ArrayLike
) -> tuple[Array, Origin]:
    """Time of one product for an array of ``m`` (tokens), and where it came from."""
    tokens = np.asarray(m, dtype=np.float64)
    key = ("gemm", dtype, n, k)
    if key not in tables.built:
        tables.built[key] = _curve(tables, dtype, n, k)
    axis, ratio, floor, origin = tables.built[key]
    spread = np.interp(np.log2(np.maximum(tokens, 1.0)), axis, ratio)
    light = gemm_light(tables.system.gpu, dtype, np.float64(n), np.float64(k), tokens)
    return spread * (floor + light), origin


def _curve(tables: Tables, dtype: str, n: int, k: int) -> tuple[Array, Array, float, Origin]:
    """Ratio to light along log2(m) for one weight shape."""
    surface = _surface(tables, dtype)
    if surface is not None:
        axis, ratio = surface.slice(n, k)
        exact = n in surface.axes[0] and k in surface.axes[1]
        held = surface.inside(n, k, axis[0]).all()
        origin = Origin.MEASURED if exact else Origin.INTERPOLATED if held else Origin.FALLBACK
        return np.log2(axis), ratio, surface.floor, origin
    for other in _RELATED[dtype]:
        surface = _surface(tables, other)
        if surface is not None:
            axis, ratio = surface.slice(n, k)
            return np.log2(axis), ratio, surface.floor, Origin.FALLBACK
    return np.zeros(1), np.ones(1), 0.0, Origin.FALLBACK
