"""From workers to deployments of the whole cluster: replicas, and prefill beside decode.

Replicating is always allowed and nothing in a candidate gets worse by it, so that k times the
GPUs never give less per GPU.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aiconf.search.candidates import Array, Candidates, Index, join
from aiconf.search.workers import Aggregated, Decode, Prefill
from aiconf.serving.disaggregated import (
    prefill_wait,
    prefill_workers_needed,
    transfer_seconds,
)
from aiconf.system.spec import System
from aiconf.workload import Sla

_Workers = TypeVar("_Workers", Prefill, Decode)


def replicate(workers: Aggregated, gpus: int) -> Candidates:
    """As many replicas of each aggregated worker as ``gpus`` hold."""
    size = np.array([float(v.parallel.gpus) for v in workers.variants])[workers.variant]
    points = workers.points
    count = np.floor(gpus / size)
    none = np.zeros(len(points))
    return Candidates(
        variant=workers.variant,
        workers=count,
        batch=points.concurrency,
        token_budget=points.token_budget,
        prefill_variant=np.full(len(points), -1, dtype=np.intp),
        prefill_workers=none,
        prefill_batch=none,
        prefill_token_budget=none,
        gpus=count * size,
        concurrency=points.concurrency * count,
        ttft=points.ttft,
        tpot=points.tpot,
        request_rate=points.request_rate * count,
        transfer=none,
        load=points.busy,
    )


def _prefill_front(prefill: Prefill) -> Index:
    """Prefill points that no other beats in GPUs, time, rate and KV bytes sent together."""
    sent = np.array([v.kv_bytes for v in prefill.variants])[prefill.variant]
    order = np.lexsort((sent, -prefill.rate, prefill.seconds, prefill.gpus))
    kept: list[int] = []
    for i in order:
        beaten = any(
            prefill.gpus[j] <= prefill.gpus[i]
            and prefill.seconds[j] <= prefill.seconds[i]
            and prefill.rate[j] >= prefill.rate[i] * (1 - 1e-12)
            and sent[j] <= sent[i]
            for j in kept
        )
        if not beaten:
            kept.append(int(i))
    return np.array(kept, dtype=np.intp)


def _decode_front(decode: Decode) -> Index:
    """Decode points that no other of the same size and KV bytes beats in tpot and rate."""
    kept = []
    held = np.array([v.kv_bytes for v in decode.variants])[decode.variant]
    for size, received in sorted({*zip(decode.gpus.tolist(), held.tolist(), strict=True)}):
        own = np.flatnonzero((decode.gpus == size) & (held == received))
        order = own[np.lexsort((-decode.rate[own], decode.tpot[own]))]
        best = np.maximum.accumulate(decode.rate[order])
        ahead = np.concatenate([[True], decode.rate[order][1:] > best[:-1] * (1 + 1e-12)])
        kept.append(order[ahead])
    return np.concatenate(kept)


@dataclass(frozen=True)
class _Decoding:
    """Decode sides of every size: ``count`` workers at point ``d``; demand in requests/s.

    most: the largest ``count`` listed at that point. The rest is of one worker.
    """

    d: Index
    count: Array
    most: Array
    gpus: Array
    demand: Array
    batch: Array
    token_budget: Array
    kv_bytes: Array
    tpot: Array
    variant: Index

    def at(self, place: NDArray[np.bool_] | Index) -> _Decoding:
        """Return the entries at ``place``."""
        return _Decoding(*(getattr(self, field.name)[place] for field in fields(self)))


# Decode workers of a unit at most: units of more are replicas of smaller ones, to within a
# sixty-fourth of the prefill side, and listing them all would grow without bound.
_MOST_WORKERS = 64

# Greatest common divisors; gcd(x, y) = gcd(x mod y, y), and y is never more.
_GCD = np.gcd.outer(np.arange(_MOST_WORKERS + 1), np.arange(_MOST_WORKERS + 1))

# Pairs that are worked on together: arrays long enough to be fast, and small in memory.
_AT_ONCE = 10_000


def _decoding(decode: Decode, gpus: int) -> _Decoding:
    """Every point of the front by every worker count that leaves a GPU for prefill."""
    front = _decode_front(decode)
    most = np.floor((gpus - 1) / decode.gpus[front]).astype(np.intp)
    most = np.minimum(most, _MOST_WORKERS)
    d = np.repeat(front, most)
    first = np.cumsum(most) - most
    count = (np.arange(len(d)) - np.repeat(first, most) + 1).astype(np.float64)
    limit = np.repeat(most, most).astype(np.float64)
    own = decode.variant[d]
    ranks, budget, kv_bytes = (
        np.array(values, dtype=np.float64)[own]
        for values in (
            [v.parallel.dp for v in decode.variants],
            [v.platform.token_budget(v.parallel.dp) for v in decode.variants],
            [v.kv_bytes for v in decode.variants],
        )
    )
    return _Decoding(
        d, count, limit, count * decode.gpus[d], count * decode.rate[d],
        decode.batch[d] * ranks, budget, kv_bytes, decode.tpot[d], own,
    )  # fmt: skip


def fitting(prefill: Prefill, decode: Decode) -> list[tuple[Prefill, Decode]]:
    """Both sides such that every prefill worker can hand its cache to every decode worker.

    One pair of sides where the engine moves cache between any of them; else one for each set of
    prefill workers that some decode workers take it from.
    """
    allows = prefill.variants[0].platform.traits.allows_apart
    givers = {v.parallel.pp: v.parallel for v in prefill.variants}
    takers = {v.parallel.pp: v.parallel for v in decode.variants}
    groups: dict[frozenset[int], set[int]] = {}
    for stages, taker in takers.items():
        able = frozenset(pp for pp, giver in givers.items() if allows(giver, taker) is None)
        groups.setdefault(able, set()).add(stages)
    return [(_staged(prefill, able), _staged(decode, own)) for able, own in groups.items() if able]


def _staged(side: _Workers, stages: Collection[int]) -> _Workers:
    """Return the points of ``side`` whose layouts have one of these numbers of stages."""
    has = np.array([variant.parallel.pp in stages for variant in side.variants])
    place = has[side.variant]
    columns = {f.name: getattr(side, f.name)[place] for f in fields(side) if f.name != "variants"}
    return replace(side, **columns)


def pair(prefill: Prefill, decode: Decode, gpus: int, sla: Sla, isl: int) -> Candidates:
    """Every prefill point of the front beside every decode point, in every unit that fits.

    A unit is y decode workers and the fewest prefill workers that keep up with them within the
    TTFT target; the unit is replicated as often as ``gpus`` hold it, and its prefill workers
    share one queue, as Dynamo's router has it. Units of every y are tried, from one to
    sixty-four or all the GPUs; a replicated unit is left out where the unit of as many decode
    workers is listed, which needs no more prefill workers.
    """
    sides, system = _decoding(decode, gpus), decode.variants[0].platform.system
    found: list[Candidates] = []
    points: list[Index] = []
    places: list[Index] = []
    for p in _prefill_front(prefill):
        # Far too little or too much for this prefill point is dropped before any arithmetic.
        least = np.maximum(sides.demand / prefill.rate[p], 1.0)
        place = np.flatnonzero(sides.gpus + prefill.gpus[p] * least <= gpus)
        points.append(np.full(len(place), p))
        places.append(place)
        if sum(map(len, places)) > _AT_ONCE:
            found.append(_beside(prefill, points, system, sides, places, gpus, sla, isl))
            points, places = [], []
    if places:
        found.append(_beside(prefill, points, system, sides, places, gpus, sla, isl))
    return join(found)


def _beside(
    prefill: Prefill, points: list[Index], decoding: System, every: _Decoding,
    places: list[Index], gpus: int, sla: Sla, isl: int,
) -> Candidates:  # fmt: skip
    """Units of some prefill points, each beside the decode sides at its ``places``."""
    p, sides = np.concatenate(points), every.at(np.concatenate(places))
    size, rate, seconds = prefill.gpus[p], prefill.rate[p], prefill.seconds[p]
    platform = prefill.variants[0].platform
    before, after = platform.system, decoding
    host = platform.traits.host
    outside = host.outside(isl) + host.seconds_per_handover
    sent = np.array([v.kv_bytes for v in prefill.variants])[prefill.variant[p]]
    slack = sla.ttft - outside - seconds - sides.tpot
    moved = np.maximum(sent, sides.kv_bytes)
    domain = before.nvlink_domain if before.name == after.name else 0
    transfer = transfer_seconds(before, after, moved, near=domain > 0)
    x = prefill_workers_needed(sides.demand, rate, seconds, slack - transfer)
    if gpus > domain:
        # Workers that belong together are placed together where a domain holds them.
        unit = _GCD[np.mod(x, sides.count).astype(np.intp), sides.count.astype(np.intp)]
        near = x * size + sides.gpus <= domain * unit
        far = np.flatnonzero(~near)
        transfer[far] = transfer_seconds(before, after, moved[far], near=False)
        x[far] = prefill_workers_needed(
            sides.demand[far], rate[far], seconds[far], slack[far] - transfer[far]
        )
    used = x * size + sides.gpus
    times = np.floor(gpus / used)
    apart = (used <= domain) & (used * times > domain)
    kept = (times == 1) | ((times > 1) & ((sides.count * times > sides.most) | apart))
    if (times > 1).any():
        kept = np.flatnonzero(kept)
        # Several units can amount to the same deployment.
        ways = (p[kept], sides.d[kept], (sides.count * times)[kept], (x * times)[kept])
        key = np.zeros(len(kept))
        for way in ways:
            key = key * (way.max(initial=0) + 1.0) + way
        kept = kept[np.unique(key, return_index=True)[1]]
    sides = sides.at(kept)
    p, x, used, times, transfer, seconds = (a[kept] for a in (p, x, used, times, transfer, seconds))
    load = sides.demand / (x * prefill.rate[p])
    ttft = prefill_wait(load, seconds, x * times) + seconds + transfer + sides.tpot + outside
    ranks = np.array([float(v.parallel.dp) for v in prefill.variants])[prefill.variant[p]]
    return Candidates(
        variant=sides.variant,
        workers=sides.count * times,
        batch=sides.batch,
        token_budget=sides.token_budget,
        prefill_variant=prefill.variant[p],
        prefill_workers=x * times,
        prefill_batch=prefill.batch[p] * ranks,
        prefill_token_budget=prefill.token_budget[p],
        gpus=used * times,
        concurrency=np.round((sides.batch * sides.count + sides.demand * ttft) * times),
        ttft=ttft,
        tpot=sides.tpot,
        request_rate=sides.demand * times,
        transfer=transfer,
        load=load,
    )
