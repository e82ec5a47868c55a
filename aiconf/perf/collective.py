"""Collectives between ranks: all-reduce, all-gather, reduce-scatter, all-to-all, send.

``moved`` is the size in bytes of the whole tensor: what every rank holds before an all-reduce,
after an all-gather, before a reduce-scatter, and sends in all in an all-to-all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.light import Array
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables
from aiconf.system.spec import System

# Share of the tensor that crosses a rank's link, in units of (ranks - 1) / ranks: a ring
# all-reduce is a reduce-scatter and an all-gather (NCCL tests, PERFORMANCE.md, bus bandwidth).
_PASSES = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}


@dataclass(frozen=True)
class _Ring:
    surface: Surface
    ranks: int
    own: bool  # measured on this system, not on its NVLink twin


def link_light(system: System, op: str, ranks: int, moved: Array) -> Array:
    """Bytes over the NVLink of one rank at its datasheet rate."""
    return moved * _PASSES[op] * (ranks - 1) / ranks / system.nvlink_bandwidth


# Kernels launched one by one: their message is copied to a buffer that all ranks can reach.
_EAGER = "_eager"  # ends their names


def _surfaces(tables: Tables, source: str, op: str, eager: bool) -> list[_Ring]:
    """Measured surfaces of one source (a backend, or "" for NCCL) by rank count."""
    key = (source, op, eager)
    if key not in tables.built:
        rings: list[_Ring] = []
        # NCCL moves 16-bit elements alike, so its fp16 rows stand for bf16.
        dtype = "bf16" if source else "fp16"
        for system in filter(None, (tables.system.name, tables.system.nvlink_twin)):
            rows = tables.read(
                "collective", "all_reduce", source or "nccl", system, op=op, dtype=dtype
            )
            if rows is None:
                continue
            chosen = np.char.endswith(rows["kernel"].astype(str), _EAGER)
            chosen = chosen if eager and chosen.any() else ~chosen
            rows = {name: column[chosen] for name, column in rows.items()}
            known = {ring.ranks for ring in rings}
            for ranks in np.unique(rows["gpus"]):
                if int(ranks) in known:
                    continue
                mask = rows["gpus"] == ranks
                light = partial(link_light, tables.system, op, int(ranks))
                fit = Surface.fit((rows["bytes"][mask],), rows["seconds"][mask], light)
                rings.append(_Ring(fit, int(ranks), system == tables.system.name))
        tables.built[key] = rings
    found: list[_Ring] = tables.built[key]
    return found


def _domain_seconds(
    tables: Tables, sources: Sequence[str], op: str, ranks: int, moved: Array, eager: bool
) -> tuple[Array, Origins]:
    """Inside one NVLink domain: the fastest of the kernels that ``sources`` measured."""
    best, origin = np.full(moved.shape, np.inf), unmeasured(moved)
    for source in sources:
        rings = _surfaces(tables, source, op, eager)
        if not rings:
            continue
        ring = min(rings, key=lambda r: (abs(np.log2(r.ranks / ranks)), r.ranks))
        surface = ring.surface.serving(partial(link_light, tables.system, op, ranks))
        size = np.maximum(moved, 1.0)
        time = surface.seconds(size)
        here = ring.own and source in ("", tables.backend)
        own = Origin.MEASURED if here else Origin.INTERPOLATED
        own = own if ring.ranks == ranks else Origin.FALLBACK
        origin = np.where(time < best, reached(surface, own, size), origin)
        best = np.minimum(best, time)
    light = link_light(tables.system, op, ranks, moved) + tables.system.nvlink_latency
    return np.where(np.isinf(best), light, best), origin


def collective_seconds(
    tables: Tables,
    op: str,
    ranks: int,
    moved: ArrayLike,
    *,
    normed: bool = False,
    eager: bool = False,
) -> tuple[Array, Origins]:
    """Time of one collective over ``ranks`` neighbouring GPUs, in seconds.

    Engines switch from their one- or two-shot kernels to NCCL where NCCL is the faster.
    ``normed``: the kernel that adds residual and norm, which may be another engine's (lender
    of ``all_reduce_norm``) and has no such switch; the norm's own traffic is not part of it.
    ``eager``: outside a CUDA graph, where the engine's own kernel was measured so.
    Beyond one NVLink domain it is NCCL's, for the engines' own kernels end there, and
    hierarchical (its tree of rails): the domain's part, then each GPU exchanges its shard over
    the network.
    """
    size = np.asarray(moved, dtype=np.float64)
    if ranks == 1:
        return np.zeros(size.shape), np.zeros(size.shape, dtype=np.intp)
    system = tables.system
    inside = min(ranks, system.nvlink_domain)
    sources = [tables.backend, ""]
    if ranks > system.nvlink_domain:
        sources = [""]
    if normed and tables.borrowed("all_reduce_norm"):
        sources = [tables.lenders["all_reduce_norm"]]
    time, origin = _domain_seconds(tables, sources, op, inside, size, eager)
    if ranks <= system.nvlink_domain:
        return time, origin
    domains = -(-ranks // system.nvlink_domain)
    shard = size / inside * _PASSES[op] * (domains - 1) / domains
    hops = np.log2(domains) * _PASSES[op]
    network = shard / system.network_bandwidth + hops * system.network_latency
    return time + network, unmeasured(size)


def send_seconds(system: System, moved: ArrayLike, *, crosses_domain: bool) -> Array:
    """Point-to-point message of ``moved`` bytes between two GPUs (latency + size / bandwidth)."""
    size = np.asarray(moved, dtype=np.float64)
    if crosses_domain:
        return size / system.network_bandwidth + system.network_latency
    return size / system.nvlink_bandwidth + system.nvlink_latency
