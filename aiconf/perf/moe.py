"""Routed experts of one layer: grouped matrix products on the most loaded rank.

``tokens`` are those of all ranks that share the experts; each is routed to ``topk`` of
``experts``. A rank holds experts / ep of them, each split over ``tp`` ranks. Imbalance is in
the measurement: tables are taken with balanced and with power-law routing.
"""

from __future__ import annotations

from collections.abc import Sequence
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

_SIZES = ("hidden", "inter", "topk", "experts")

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


def _rows(
    tables: Tables, dtype: str, shape: Experts, suffix: str
) -> tuple[str, Columns, Experts] | None:
    """Precision, rows and shape that answer for ``shape``, as near to it as the table holds."""
    for candidate in (dtype, *_RELATED[dtype]):
        found = _shape_rows(tables, candidate, shape, f"moe.{candidate}{suffix}")
        if found is not None:
            return candidate, *found
    return None


def _shape_rows(
    tables: Tables, dtype: str, shape: Experts, choice: str, kernels: Sequence[str] = ()
) -> tuple[Columns, Experts] | None:
    """Rows of this expert shape, or of the nearest one; of ``kernels`` alone, if any are given."""
    sizes = {name: getattr(shape, name) for name in _SIZES}
    rows = _of_kernels(tables.read("moe", choice, dtype=dtype, **sizes), kernels)
    if rows is not None:
        return rows, shape
    rows = _of_kernels(tables.read("moe", choice, dtype=dtype), kernels)
    if rows is None:
        return None
    unique, place = distinct_shapes(rows, _SIZES)
    wanted = np.array(list(sizes.values()), dtype=np.float64)
    near = int(np.argmin(np.abs(np.log2(unique / wanted)) @ np.array([1.0, 1.0, 0.5, 0.5])))
    sizes = {name: int(size) for name, size in zip(_SIZES, unique[near], strict=True)}
    return _where(rows, place == near), replace(shape, **sizes, gated=True)  # as most models are


def _of_kernels(rows: Columns | None, kernels: Sequence[str]) -> Columns | None:
    if rows is None or not kernels:
        return rows
    mine = np.isin(rows["kernel"], list(kernels))
    return _where(rows, mine) if mine.any() else None


def _flop(shape: Experts, tokens: Array) -> Array:
    """Of one rank, balanced routing."""
    products = 3.0 if shape.gated else 2.0
    pairs = tokens * shape.topk / shape.ep
    return 2.0 * products * pairs * shape.hidden * shape.inter / shape.tp


def _rate(rows: Columns, shape: Experts) -> float | None:
    """FLOP/s by which the largest measured batch differs from the one before it; None: not seen."""
    seconds = dict(zip(rows["tokens"].astype(float).tolist(), rows["seconds"], strict=True))
    if len(seconds) < 2:  # of rows alike the last is the preferred one, as everywhere
        return None
    before, last = sorted(seconds)[-2:]
    longer = float(seconds[last] - seconds[before])
    work = _flop(shape, np.array([before, last]))
    return float(work[1] - work[0]) / longer if longer > 0.0 else None


def _named_instead(
    tables: Tables, dtype: str, shape: Experts, choice: str, rows: Columns
) -> Columns:
    """Rows of ``shape``, made those of the kernel that the engine names where only others were
    measured with it.

    Where weights are waited for, kernels of one format read them alike; where products are, each
    has a rate of its own, which is much the same at every shape. So a batch takes longer than
    with the measured kernel by its products at the two rates. (gpt-oss with Marlin on H200, whose
    rate is 240 TFLOP/s where Triton's is 600: a prompt of 7,372 tokens takes 7.3 ms a layer for
    3.6, and 7.2 follow from the runs that were measured.)
    """
    named = tables.named_kernels(choice)
    if not named or _of_kernels(rows, named) is not None:
        return rows
    found = _shape_rows(tables, dtype, shape, choice, named)
    if found is None:
        return rows
    other, near = _split_rows(*found)
    rate, measured = _rate(other, near), _rate(rows, shape)
    if rate is None or measured is None:
        return rows
    more = _flop(shape, rows["tokens"].astype(np.float64)) * (1.0 / rate - 1.0 / measured)
    return {**rows, "seconds": rows["seconds"] + np.maximum(more, 0.0)}


def _where(rows: Columns, mask: NDArray[np.bool_]) -> Columns:
    return {key: column[mask] for key, column in rows.items()}


def _split_rows(rows: Columns, shape: Experts) -> tuple[Columns, Experts]:
    """Keep one routing and the (tp, ep) nearest to ``shape``."""
    for routing in ROUTING:
        mask = rows["distribution"] == routing
        if mask.any():
            rows = _where(rows, mask)
            break
    splits, place = distinct_shapes(rows, ("tp", "ep"))
    far = np.abs(np.log2(splits / np.array([shape.tp, shape.ep]))) @ np.array([1.0, 1.1])
    tp, ep = splits[int(np.argmin(far))].astype(np.int64)
    return _where(rows, place == int(np.argmin(far))), replace(shape, tp=int(tp), ep=int(ep))


def _build(
    tables: Tables, dtype: str, shape: Experts, suffix: str
) -> tuple[Surface | None, Origin]:
    answer = _rows(tables, dtype, shape, suffix)
    if answer is None:
        return None, Origin.FALLBACK
    candidate, shaped, found = answer
    rows, found = _split_rows(shaped, found)
    gpu, own = tables.system.gpu, rows
    if found == shape:
        rows = _named_instead(tables, candidate, shape, f"moe.{candidate}{suffix}", rows)
    # Every launch costs what the smallest piece that was measured takes; the least time of a
    # large shape holds its weights, too, and would be charged to a small one.
    floor = None if found == shape else float(shaped["seconds"].min())
    light = partial(moe_light, gpu, candidate, found)
    measured = Surface.fit((rows["tokens"],), rows["seconds"], light, floor=floor)
    # How well a grouped product runs depends on the tokens of one expert.
    stretch = (found.topk / found.experts) / (shape.topk / shape.experts)
    origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
    elsewhere = candidate != dtype or replace(found, tp=shape.tp, ep=shape.ep) != shape
    if elsewhere or rows is not own:
        origin = Origin.FALLBACK
    return measured.serving(partial(moe_light, gpu, dtype, shape), stretch), origin


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
