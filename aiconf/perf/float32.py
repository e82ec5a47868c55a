"""Products of float32, which few layers have: the router of MiniMax-M2.

No table holds them. Without tensor cores cuBLAS gives each thread block a tile of the output,
and divides the depth among a few blocks where the tiles are few: up to the size that fills the
GPU the time is that of one block, whatever the number of tokens. With TF32 a product is one of
bf16 with twice the bytes at half the rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.light import Array
from aiconf.perf.memory import memory_seconds
from aiconf.perf.origin import Origins, unmeasured
from aiconf.perf.tables import Tables

_TILE = 64  # rows and columns of the output that one thread block computes
_SPLITS = 4  # blocks that share the depth of a tile, at most
_GEMV_ROWS = 16  # up to which the product is bound by reading the weights
# Share of a multiprocessor's peak that such a block reaches. With splits of 4 it gives 21 us for
# a router of 3072 x 256 at 17 to 256 tokens; MiniMax-M2.5 on B200 gained 17 to 20 us per layer
# when its runs turned TF32 on (InferenceX, vLLM 0.19, 3 and 22 April 2026, 32 to 128 users).
_EFFICIENCY = 0.6


def float32_seconds(
    tables: Tables, n: int, k: int, m: ArrayLike, products: str
) -> tuple[Array, Origins]:
    """Seconds of y[m, n] = x[m, k] w[n, k] in float32, for an array of ``m``; a fallback.

    products: ``simt`` (no tensor cores) or ``tf32``.
    """
    rows = np.maximum(np.asarray(m, dtype=np.float64), 1.0)
    if products == "tf32":
        return gemm_seconds(tables, "bf16", n, 2 * k, rows)[0], unmeasured(rows)
    gpu = tables.system.gpu
    units = gpu.multiprocessors
    tiles = np.ceil(rows / _TILE) * np.ceil(n / _TILE)
    splits = np.clip(np.floor(units / tiles), 1.0, _SPLITS)
    waves = np.ceil(tiles * splits / units)
    block = 2.0 * _TILE * _TILE * k / splits / (_EFFICIENCY * gpu.flops["float32"] / units)
    moved, _ = memory_seconds(tables, 4.0 * (n * k + rows * (k + n)))
    found: Array = moved + np.where(rows > _GEMV_ROWS, waves * block, 0.0)
    return found, unmeasured(rows)
