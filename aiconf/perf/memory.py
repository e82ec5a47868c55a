"""Small kernels that only move memory: norms, residuals, rotary, activation, quantisation.

They are answered from the measured activation-quantisation kernel (read bf16, write fp8),
the one memory-bound kernel that every system's tables hold, by the bytes they move.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.light import Array
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables
from aiconf.system.spec import Gpu


def _copy_light(gpu: Gpu, moved: Array) -> Array:
    return moved / gpu.memory_bandwidth


def _surface(tables: Tables) -> Surface | None:
    if "memory" not in tables.built:
        rows = tables.read("quantize", "quantize", op="scale")
        if rows is None:
            tables.built["memory"] = None
        else:
            moved = rows["m"].astype(np.float64) * rows["k"] * 3.0  # bf16 in, fp8 out
            light = partial(_copy_light, tables.system.gpu)
            # Many (m, k) move the same bytes: the median of them stands for the amount.
            amounts, place = np.unique(np.round(np.log2(moved) * 2) / 2, return_inverse=True)
            seconds = np.array(
                [np.median(rows["seconds"][place == i]) for i in range(len(amounts))]
            )
            tables.built["memory"] = Surface.fit((2.0**amounts,), seconds, light)
    surface: Surface | None = tables.built["memory"]
    return surface


def memory_seconds(tables: Tables, moved: ArrayLike) -> tuple[Array, Origins]:
    """Time of one kernel that reads and writes ``moved`` bytes in all."""
    total = np.maximum(np.asarray(moved, dtype=np.float64), 1.0)
    surface = _surface(tables)
    if surface is None:
        return _copy_light(tables.system.gpu, total), unmeasured(total)
    return surface.seconds(total), reached(surface, Origin.INTERPOLATED, total)
