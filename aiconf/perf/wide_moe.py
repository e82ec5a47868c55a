"""Routed experts behind an all-to-all: each rank computes only what was sent to it.

Engines then run other kernels than beside an all-gather (DeepEP with masked or contiguous
grouped products, TensorRT-LLM's wide expert parallelism), which have tables of their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import Array
from aiconf.perf.moe import Experts, moe_light
from aiconf.perf.origin import Origin, Origins, reached
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Columns, Tables

# Tokens of one rank up to which the low-latency kernels take an iteration; DeepEP's buffers hold
# 128 by default and engines raise them to 256 (SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK).
_LOW_LATENCY_TOKENS = 256

# Routing to take (distribution, load balancer), the first that was measured: with experts balanced
# over the ranks by a load balancer (where none was measured, the mildest skew stands for what
# remains), and without.
_BALANCED = (("power_law_1.01", True), ("power_law_0.6", False), ("uniform", False))
_SKEWED = (("power_law_1.01", False), ("power_law_1.02", False), ("power_law_1.2", False))


def wide_moe_seconds(
    tables: Tables, dtype: str, shape: Experts, tokens: ArrayLike, *, balanced: bool
) -> tuple[Array, Origins] | None:
    """Routed experts of one layer on the busiest rank, in seconds; None where none was measured.

    tokens: of the whole EP group. balanced: a load balancer places redundant copies of experts.
    """
    key = ("moe_wide", dtype, shape, balanced)
    if key not in tables.built:
        tables.built[key] = _build(tables, dtype, shape, balanced)
    if tables.built[key] is None:
        return None
    surface, origin = tables.built[key]
    count: NDArray[np.float64] = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    return surface.seconds(count), reached(surface, origin, count)


def _build(
    tables: Tables, dtype: str, shape: Experts, balanced: bool
) -> tuple[Surface, Origin] | None:
    if shape.tp > 1:
        return None
    rows, candidate = _rows(tables, dtype, shape)
    if rows is None:
        return None
    rows = _routed(rows, balanced)
    rows, slots = _nearest(rows, "slots", shape.experts)
    rows, ep = _nearest(rows, "ep", shape.ep)
    late = rows["tokens"] > _LOW_LATENCY_TOKENS * ep
    rows = _where(rows, np.where(late, rows["phase"] != "decode", rows["phase"] != "prefill"))
    gpu, found = tables.system.gpu, replace(shape, experts=slots, ep=ep)
    light = partial(moe_light, gpu, candidate, found)
    measured = Surface.fit((rows["tokens"],), rows["seconds"], light)
    origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
    if candidate != dtype:
        origin = Origin.FALLBACK
    return measured.serving(partial(moe_light, gpu, dtype, shape)), origin


def _rows(tables: Tables, dtype: str, shape: Experts) -> tuple[Columns | None, str]:
    """Rows of this expert shape and their precision: where the engine's kernels were not
    measured in ``dtype``, those of fp8 blocks, whose efficiency then stands for it."""
    for candidate in (dtype, "fp8_block"):
        rows = tables.read(
            "moe_wide", f"moe_wide.{candidate}", dtype=candidate, hidden=shape.hidden,
            inter=shape.inter, topk=shape.topk, tp=1,
        )  # fmt: skip
        if rows is not None:
            return rows, candidate
    return None, dtype


def _routed(rows: Columns, balanced: bool) -> Columns:
    """Rows of one routing: the first wanted one that the table holds, else all."""
    for routing, eplb in (*_BALANCED, *_SKEWED) if balanced else (*_SKEWED, *_BALANCED):
        mask = (rows["distribution"] == routing) & (rows["eplb"] == eplb)
        if mask.any():
            return _where(rows, mask)
    return rows


def _nearest(rows: Columns, name: str, wanted: int) -> tuple[Columns, int]:
    """Rows of the value of a column that is nearest to ``wanted``."""
    values = np.unique(rows[name])
    found = int(values[np.argmin(np.abs(np.log2(values / wanted)))])
    return _where(rows, rows[name] == found), found


def _where(rows: Columns, mask: NDArray[np.bool_]) -> Columns:
    return {name: column[mask] for name, column in rows.items()}
