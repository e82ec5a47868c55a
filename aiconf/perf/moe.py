"""Routed experts of one layer: grouped matrix products on the most loaded rank.

``tokens`` are those of all ranks that share the experts; each is routed to ``topk`` of
``experts``. A rank holds experts / ep of them, each split over ``tp`` ranks. Imbalance is in
the measurement: tables are taken with balanced and with power-law routing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import FORMATS, Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Columns, Tables, distinct_shapes
from aiconf.system.spec import Gpu

# Routing that tables are taken with, nearest to what served models show first. A learned
# router is neither uniform nor as skewed as alpha = 1.2.
ROUTING = ("power_law_1.01", "power_law_1.2", "balanced", "uniform")

_RELATED = {
    "fp8": ("fp8_block", "bf16"),
    "fp8_block": ("fp8", "bf16"),
    "nvfp4": ("mxfp4_fp8", "mxfp4", "fp8_block", "fp8", "bf16"),
    "mxfp4": ("int4", "nvfp4", "bf16"),
    "mxfp4_fp8": ("nvfp4", "mxfp4", "fp8_block", "bf16"),
    "int4": ("mxfp4", "bf16"),
    "int8": ("fp8", "bf16"),
    "bf16": ("fp8_block", "fp8"),
}


@dataclass(frozen=True)
class Experts:
    """Shape of the routed experts of a layer and how they are spread over ranks."""

    hidden: int
    inter: int
    topk: int
    experts: int
    tp: int
    ep: int
    gated: bool = True  # gate and up, or up alone


def moe_light(gpu: Gpu, dtype: str, shape: Experts, tokens: Array) -> Array:
    """Balanced routing: weights of the experts hit at least once, and 6 h i FLOP per pair (gated).

    Experts hit on a rank: E/ep (1 - (1 - k/E)^tokens).
    """
    kind = FORMATS[dtype]
    inter = shape.inter / shape.tp
    hit = shape.experts / shape.ep * (1.0 - (1.0 - shape.topk / shape.experts) ** tokens)
    pairs = tokens * shape.topk / shape.ep
    products = 3.0 if shape.gated else 2.0
    weights = hit * products * shape.hidden * inter * kind.weight_bytes
    moved = weights + pairs * shape.hidden * (kind.activation_bytes + 2.0)
    return roofline(gpu, kind.rate, 2.0 * products * pairs * shape.hidden * inter, moved)


def _shape_rows(
    tables: Tables, dtype: str, shape: Experts, choice: str
) -> tuple[Columns | None, Experts]:
    """Rows of this expert shape, or of the nearest one that the table holds."""
    rows = tables.read(
        "moe",
        choice,
        dtype=dtype,
        hidden=shape.hidden,
        inter=shape.inter,
        topk=shape.topk,
        experts=shape.experts,
    )
    if rows is not None:
        return rows, shape
    rows = tables.read("moe", choice, dtype=dtype)
    if rows is None:
        return None, shape
    names = ("hidden", "inter", "topk", "experts")
    unique, place = distinct_shapes(rows, names)
    wanted = np.array([getattr(shape, name) for name in names], dtype=np.float64)
    far = np.abs(np.log2(unique / wanted)) @ np.array([1.0, 1.0, 0.5, 0.5])
    best = unique[int(np.argmin(far))].astype(np.int64)
    mask = place == int(np.argmin(far))
    sizes = {name: int(value) for name, value in zip(names, best, strict=True)}
    found = replace(shape, **sizes, gated=True)  # as those of most models
    return {key: column[mask] for key, column in rows.items()}, found


def _split_rows(rows: Columns, shape: Experts) -> tuple[Columns, Experts]:
    """Keep one routing and the (tp, ep) nearest to ``shape``."""
    for routing in ROUTING:
        mask = rows["distribution"] == routing
        if mask.any():
            rows = {key: column[mask] for key, column in rows.items()}
            break
    splits, place = distinct_shapes(rows, ("tp", "ep"))
    far = np.abs(np.log2(splits / np.array([shape.tp, shape.ep]))) @ np.array([1.0, 1.1])
    tp, ep = splits[int(np.argmin(far))].astype(np.int64)
    mask = place == int(np.argmin(far))
    return {key: c[mask] for key, c in rows.items()}, replace(shape, tp=int(tp), ep=int(ep))


def _build(
    tables: Tables, dtype: str, shape: Experts, suffix: str
) -> tuple[Surface | None, Origin]:
    for candidate in (dtype, *_RELATED[dtype]):
        rows, found = _shape_rows(tables, candidate, shape, f"moe.{candidate}{suffix}")
        if rows is None:
            continue
        rows, found = _split_rows(rows, found)
        gpu = tables.system.gpu
        measured = Surface.fit(
            (rows["tokens"],), rows["seconds"], partial(moe_light, gpu, candidate, found)
        )
        light = partial(moe_light, gpu, dtype, shape)
        origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
        if candidate != dtype or replace(found, tp=shape.tp, ep=shape.ep) != shape:
            origin = Origin.FALLBACK
        return measured.serving(light), origin
    return None, Origin.FALLBACK


def moe_seconds(
    tables: Tables, dtype: str, shape: Experts, tokens: ArrayLike, *, attention_dp: bool = False
) -> tuple[Array, Origins]:
    """Routed experts of one layer for ``tokens`` entering the whole EP group, in seconds.

    attention_dp: the tokens come from several attention ranks; engines may then pick another
    kernel (kernel choice ``moe.PRECISION``, else ``moe.PRECISION.tp``).
    """
    suffix = "" if attention_dp else ".tp"
    key = ("moe", dtype, shape, suffix)
    if key not in tables.built:
        tables.built[key] = _build(tables, dtype, shape, suffix)
    surface, origin = tables.built[key]
    count: NDArray[np.float64] = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    if surface is None:
        return moe_light(tables.system.gpu, dtype, shape, count), unmeasured(count)
    return surface.seconds(count), reached(surface, origin, count)
