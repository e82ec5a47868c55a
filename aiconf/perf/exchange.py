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
from aiconf.perf.tables import Columns, Tables, distinct_shapes
from aiconf.system.spec import System

GATHER = "allgather_reducescatter"
DEEPEP_AUTO = "deepep_auto"  # low-latency kernels for small batches, normal ones for large
_DEEPEP = ("deepep_ll", "deepep_ht")


def measured_kernels(tables: Tables) -> frozenset[str]:
    """All-to-all kernels that tables of this system, or of its NVLink twin, hold."""
    if "exchange kernels" not in tables.built:
        names: set[str] = set()
        for system in filter(None, (tables.system.name, tables.system.nvlink_twin)):
            rows = tables.read("moe_all_to_all", "", "", system)
            names |= set(() if rows is None else np.unique(rows["kernel"]).tolist())
        if names.issuperset(_DEEPEP):
            names.add(DEEPEP_AUTO)
        tables.built["exchange kernels"] = frozenset(names)
    found: frozenset[str] = tables.built["exchange kernels"]
    return found


@dataclass(frozen=True)
class Exchange:
    """Ranks that share the experts, hidden size, routing, and precision of dispatched tokens."""

    ranks: int
    hidden: int
    topk: int
    experts: int
    dtype: str  # bf16, fp8 or nvfp4


_SENT_BYTES = {"bf16": 2.0, "fp8": 1.0 + 4 / 128, "nvfp4": 0.5 + 1 / 16, "default": 2.0}
_COMBINED_BYTES = 2.0  # results come back as bf16


def sent_precision(experts: str) -> str:
    """Precision in which tokens travel to experts of a precision."""
    return {"nvfp4": "nvfp4", "fp8": "fp8", "fp8_block": "fp8"}.get(experts, "bf16")


def _copies(shape: Exchange) -> float:
    """Mean number of other ranks that one token is sent to (distinct ranks of its experts)."""
    hit = shape.ranks * (1.0 - (1.0 - 1.0 / shape.ranks) ** shape.topk)
    return hit * (shape.ranks - 1) / shape.ranks


def exchange_light(system: System, shape: Exchange, phase: str, tokens: Array) -> Array:
    """Bytes of the copies over one rank's link; over the network beyond an NVLink domain."""
    width = _COMBINED_BYTES if phase == "combine" else _SENT_BYTES[shape.dtype]
    if phase == "prepare":
        width = 0.0  # routing tables only
    moved = tokens * _copies(shape) * shape.hidden * width
    outside = max(0.0, 1.0 - system.nvlink_domain / shape.ranks)
    over_network = moved * outside / system.network_bandwidth
    return np.maximum(moved * (1.0 - outside) / system.nvlink_bandwidth, over_network)


def _rows(tables: Tables, kernel: str, phase: str) -> tuple[Columns | None, bool]:
    """Rows of this system, or of its NVLink twin (then False)."""
    for system in filter(None, (tables.system.name, tables.system.nvlink_twin)):
        rows = tables.read("moe_all_to_all", "", "", system, phase=phase, kernel=kernel)
        if rows is not None:
            return rows, system == tables.system.name
    return None, False


def _surface(
    tables: Tables, kernel: str, phase: str, shape: Exchange
) -> tuple[Surface, Origin] | None:
    rows, own = _rows(tables, kernel, phase)
    if rows is None:
        return None
    for dtype in (shape.dtype, "default", "fp8", "bf16", "nvfp4"):
        mask = rows["dtype"] == dtype
        if mask.any():
            rows = {key: column[mask] for key, column in rows.items()}
            break
    names = ("ep", "hidden", "topk", "experts")
    unique, place = distinct_shapes(rows, names)
    wanted = np.array([shape.ranks, shape.hidden, shape.topk, shape.experts], dtype=np.float64)
    near = int(np.argmin(np.abs(np.log2(unique / wanted)) @ np.array([1.0, 2.0, 1.0, 0.2])))
    mask = place == near
    rows = {key: column[mask] for key, column in rows.items()}
    # Several numbers of SMs may have been tried: the fastest is the one worth configuring, so
    # it comes last and stays.
    order = np.argsort(-rows["seconds"], kind="stable")
    rows = {key: column[order] for key, column in rows.items()}
    ranks, hidden, topk, experts = (int(value) for value in unique[near])
    found = Exchange(ranks, hidden, topk, experts, str(rows["dtype"][0]))
    system = tables.system
    light = partial(exchange_light, system, found, phase)
    fit = Surface.fit((rows["tokens"],), rows["seconds"], light)
    origin = Origin.MEASURED if found == shape and own else Origin.INTERPOLATED
    if found.ranks != shape.ranks:
        origin = Origin.FALLBACK
    return fit.serving(partial(exchange_light, system, shape, phase)), origin


def exchange_seconds(
    tables: Tables, kernel: str, shape: Exchange, tokens: ArrayLike
) -> tuple[Array, Origins]:
    """Dispatch and combine of one layer for ``tokens`` per rank, in seconds.

    kernel: a kernel of the ``moe_all_to_all`` tables, ``DEEPEP_AUTO`` or ``GATHER``.
    """
    count = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    if shape.ranks == 1:
        return np.zeros(count.shape), np.zeros(count.shape, dtype=np.intp)
    if kernel == DEEPEP_AUTO:
        (low, low_origin), (high, high_origin) = (
            exchange_seconds(tables, one, shape, count) for one in _DEEPEP
        )
        return np.minimum(low, high), np.where(low <= high, low_origin, high_origin)
    if kernel == GATHER:
        moved = count * shape.ranks * shape.hidden * 2.0
        gather, origin = collective_seconds(tables, "all_gather", shape.ranks, moved)
        scatter, other = collective_seconds(tables, "reduce_scatter", shape.ranks, moved)
        return gather + scatter, np.maximum(origin, other)
    key = ("exchange", kernel, shape)
    if key not in tables.built:
        tables.built[key] = [(p, _surface(tables, kernel, p, shape)) for p in _phases(kernel)]
    total, worst = np.zeros(count.shape), np.zeros(count.shape, dtype=np.intp)
    for phase, built in tables.built[key]:
        if built is None:
            light = exchange_light(tables.system, shape, phase, count)
            total, worst = total + light + tables.system.nvlink_latency, unmeasured(count)
        else:
            total = total + built[0].seconds(count)
            worst = np.maximum(worst, reached(built[0], built[1], count))
    return total, worst


def _phases(kernel: str) -> tuple[str, ...]:
    """Steps of an exchange; the two-sided NVLink kernel first agrees on who sends what."""
    return ("prepare", "dispatch", "combine") if kernel == "nvlink_two_sided" else (
        "dispatch", "combine",
    )  # fmt: skip
