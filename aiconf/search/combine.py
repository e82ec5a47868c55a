"""From workers to deployments of the whole cluster: replicas, and prefill beside decode.

Replicating is always allowed and nothing in a candidate gets worse by it, so that k times the
GPUs never give less per GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.search.candidates import Array, Candidates, Index, join
from aiconf.search.workers import Aggregated, Decode, Prefill, Variant
from aiconf.serving.disaggregated import (
    prefill_wait,
    prefill_workers_needed,
    transfer_seconds,
)
from aiconf.workload import Sla, Workload


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
    """Prefill points that no other beats in GPUs, time and rate together."""
    order = np.lexsort((-prefill.rate, prefill.seconds, prefill.gpus))
    kept: list[int] = []
    for i in order:
        beaten = any(
            prefill.gpus[j] <= prefill.gpus[i]
            and prefill.seconds[j] <= prefill.seconds[i]
            and prefill.rate[j] >= prefill.rate[i] * (1 - 1e-12)
            for j in kept
        )
        if not beaten:
            kept.append(int(i))
    return np.array(kept, dtype=np.intp)


def _decode_front(decode: Decode) -> Index:
    """Decode points that no other of the same worker size beats in tpot and rate."""
    kept = []
    for size in np.unique(decode.gpus):
        own = np.flatnonzero(decode.gpus == size)
        order = own[np.lexsort((-decode.rate[own], decode.tpot[own]))]
        best = np.maximum.accumulate(decode.rate[order])
        ahead = np.concatenate([[True], decode.rate[order][1:] > best[:-1] * (1 + 1e-12)])
        kept.append(order[ahead])
    return np.concatenate(kept)


@dataclass(frozen=True)
class _Decoding:
    """Decode sides of every size: ``count`` workers at point ``d``; demand in requests/s.

    most: the largest ``count`` listed at that point.
    """

    d: Index
    count: Array
    most: Array
    gpus: Array
    demand: Array


# Decode workers of a unit at most: units of more are replicas of smaller ones, to within a
# sixty-fourth of the prefill side, and listing them all would grow without bound.
_MOST_WORKERS = 64


def _decoding(decode: Decode, gpus: int) -> _Decoding:
    """Every point of the front by every worker count that leaves a GPU for prefill."""
    front = _decode_front(decode)
    most = np.floor((gpus - 1) / decode.gpus[front]).astype(np.intp)
    most = np.minimum(most, _MOST_WORKERS)
    d = np.repeat(front, most)
    first = np.cumsum(most) - most
    count = (np.arange(len(d)) - np.repeat(first, most) + 1).astype(np.float64)
    limit = np.repeat(most, most).astype(np.float64)
    return _Decoding(d, count, limit, count * decode.gpus[d], count * decode.rate[d])


def pair(prefill: Prefill, decode: Decode, gpus: int, workload: Workload, sla: Sla) -> Candidates:
    """Every prefill point of the front beside every decode point, in every unit that fits.

    A unit is y decode workers and the fewest prefill workers that keep up with them within the
    TTFT target; the unit is replicated as often as ``gpus`` hold it, and its prefill workers
    share one queue, as Dynamo's router has it. Units of every y are tried, from one to
    sixty-four or all the GPUs; a replicated unit is left out where the unit of as many decode
    workers is listed, which needs no more prefill workers.
    """
    sides = _decoding(decode, gpus)
    found = [
        _beside(prefill, int(p), decode, sides, gpus, workload, sla)
        for p in _prefill_front(prefill)
    ]
    return join(found)


def _beside(
    prefill: Prefill, p: int, decode: Decode, sides: _Decoding, gpus: int,
    workload: Workload, sla: Sla,
) -> Candidates:  # fmt: skip
    """Units of one prefill point beside every decode side."""
    size, rate, seconds = prefill.gpus[p], prefill.rate[p], float(prefill.seconds[p])
    source = prefill.variants[prefill.variant[p]]
    # Far too little or too much for this prefill point is dropped before any arithmetic.
    fits = sides.gpus + size * np.maximum(sides.demand / rate, 1.0) <= gpus
    d, count, demand = sides.d[fits], sides.count[fits], sides.demand[fits]
    side_gpus, most = sides.gpus[fits], sides.most[fits]
    by_variant = transfer_seconds(
        source.platform.system, _moved(source, decode), _near(source, decode, gpus)
    )
    transfer = by_variant[decode.variant[d]]
    outside = source.platform.traits.host.seconds_per_request
    slack = sla.ttft - outside - seconds - transfer - decode.tpot[d]
    x = prefill_workers_needed(demand, float(rate), seconds, slack)
    used = x * size + side_gpus
    times = np.floor(gpus / used)
    fits = (times == 1) | ((times > 1) & (count * times > most))
    d, count, x, used, demand, transfer, times = (
        a[fits] for a in (d, count, x, used, demand, transfer, times)
    )
    load = demand / (x * rate)
    ttft = prefill_wait(load, seconds, x * times) + seconds + transfer + decode.tpot[d] + outside
    ranks = np.array([float(v.parallel.dp) for v in decode.variants])[decode.variant[d]]
    batch = decode.batch[d] * ranks
    same = np.ones(len(d))
    return Candidates(
        variant=decode.variant[d],
        workers=count * times,
        batch=batch,
        token_budget=np.array(
            [float(v.platform.token_budget(v.parallel.dp)) for v in decode.variants]
        )[decode.variant[d]],
        prefill_variant=np.full(len(d), prefill.variant[p]),
        prefill_workers=x * times,
        prefill_batch=same * prefill.batch[p] * source.parallel.dp,
        prefill_token_budget=same * prefill.token_budget[p],
        gpus=used * times,
        concurrency=np.round((batch * count + demand * ttft) * times),
        ttft=ttft,
        tpot=decode.tpot[d],
        request_rate=demand * times,
        transfer=transfer,
        load=load,
    )


def _moved(source: Variant, decode: Decode) -> Array:
    """KV bytes of one prompt over the busiest link, by decode variant."""
    return np.array([max(source.kv_bytes, v.kv_bytes) for v in decode.variants])


def _near(source: Variant, decode: Decode, gpus: int) -> NDArray[np.bool_]:
    """Whether prefill and decode share an NVLink domain, by decode variant."""
    system = source.platform.system
    inside = gpus <= system.nvlink_domain
    return np.array([v.platform.system.name == system.name and inside for v in decode.variants])
