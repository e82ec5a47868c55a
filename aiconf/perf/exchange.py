"""Tokens travel to their experts and back: dispatch and combine of expert parallelism.

``tokens`` are those of one rank. Two ways exist: an all-to-all kernel that sends each token to
the ranks of its experts (DeepEP, NVLink one-sided), or an all-gather of all tokens to all ranks
and a reduce-scatter of the results (vLLM's default).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.collective import collective_seconds
from aiconf.perf.light import Array
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables, distinct_shapes
from aiconf.system.spec import System

GATHER = "allgather_reducescatter"


def measured_kernels(tables: Tables) -> frozenset[str]:
    """All-to-all kernels that the tables of this system and backend hold."""
    if "exchange kernels" not in tables.built:
        rows = tables.read("moe_all_to_all")
        tables.built["exchange kernels"] = frozenset(
            () if rows is None else np.unique(rows["kernel"]).tolist()
        )
    found: frozenset[str] = tables.built["exchange kernels"]
    return found


@dataclass(frozen=True)
class Exchange:
    """Shape of the exchange: ranks that share the experts, hidden size, routing."""

    ranks: int
    hidden: int
    topk: int
    experts: int


def _copies(shape: Exchange) -> float:
    """Mean number of other ranks that one token is sent to (distinct ranks of its experts)."""
    hit = shape.ranks * (1.0 - (1.0 - 1.0 / shape.ranks) ** shape.topk)
    return hit * (shape.ranks - 1) / shape.ranks


def exchange_light(system: System, shape: Exchange, element_bytes: float, tokens: Array) -> Array:
    """Bytes of the copies over one rank's link; over the network beyond an NVLink domain."""
    moved = tokens * _copies(shape) * shape.hidden * element_bytes
    outside = max(0.0, 1.0 - system.nvlink_domain / shape.ranks)
    over_network = moved * outside / system.network_bandwidth
    return np.maximum(moved * (1.0 - outside) / system.nvlink_bandwidth, over_network)


def _surface(tables: Tables, kernel: str, phase: str, shape: Exchange) -> tuple[Surface, Origin] | None:
    rows = tables.read("moe_all_to_all", phase=phase, kernel=kernel)
    if rows is None:
        return None
    names = {"ep": shape.ranks, "hidden": shape.hidden, "topk": shape.topk, "experts": shape.experts}
    unique, place = distinct_shapes(rows, tuple(names))
    wanted = np.array(list(names.values()), dtype=np.float64)
    weight = np.array([1.0, 2.0, 1.0, 0.2])
    near = int(np.argmin(np.abs(np.log2(unique / wanted)) @ weight))
    best = unique[near].astype(np.int64)
    mask = place == near
    rows = {key: column[mask] for key, column in rows.items()}
    # Several numbers of SMs may have been tried: the engine's choice is the fastest; sort so
    # that it is the row that stays.
    order = np.argsort(-rows["seconds"], kind="stable")
    rows = {key: column[order] for key, column in rows.items()}
    width = 2.0 if phase == "combine" else 1.0
    found = Exchange(*(int(value) for value in (best[0], best[1], best[2], best[3])))
    system = tables.system
    fit = Surface.fit(
        (rows["tokens"],), rows["seconds"], partial(exchange_light, system, found, width)
    )
    light = partial(exchange_light, system, shape, width)
    origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
    if found.ranks != shape.ranks:
        origin = Origin.FALLBACK
    return fit.serving(light), origin


def exchange_seconds(
    tables: Tables, kernel: str, shape: Exchange, tokens: ArrayLike
) -> tuple[Array, Origins]:
    """Dispatch and combine of one layer for ``tokens`` per rank, in seconds.

    kernel: a kernel of the ``moe_all_to_all`` tables, or ``GATHER``.
    """
    count = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    if shape.ranks == 1:
        return np.zeros(count.shape), np.zeros(count.shape, dtype=np.intp)
    if kernel == GATHER:
        moved = count * shape.ranks * shape.hidden * 2.0
        gather, origin = collective_seconds(tables, "all_gather", shape.ranks, moved)
        scatter, other = collective_seconds(tables, "reduce_scatter", shape.ranks, moved)
        return gather + scatter, np.maximum(origin, other)
    key = ("exchange", kernel, shape)
    if key not in tables.built:
        tables.built[key] = [_surface(tables, kernel, p, shape) for p in ("dispatch", "combine")]
    total, worst = np.zeros(count.shape), np.zeros(count.shape, dtype=np.intp)
    for width, built in zip((1.0, 2.0), tables.built[key], strict=True):
        if built is None:
            light = exchange_light(tables.system, shape, width, count)
            total, worst = total + light + tables.system.nvlink_latency, unmeasured(count)
        else:
            total = total + built[0].seconds(count)
            worst = np.maximum(worst, reached(built[0], built[1], count))
    return total, worst
