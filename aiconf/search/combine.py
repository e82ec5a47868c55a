"""From workers to deployments of the whole cluster: replicas, and prefill beside decode.

Replicating is always allowed and nothing in a candidate gets worse by it, so that k times the
GPUs never give less per GPU.
"""

from __future__ import annotations

import numpy as np

from aiconf.search.candidates import Array, Candidates, Index, join
from aiconf.search.workers import Aggregated, Decode, Prefill
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


def _decode_fronts(decode: Decode) -> list[Index]:
    """By worker size: decode points that no other of that size beats in tpot and rate."""
    kept = []
    per_gpu = decode.rate / decode.gpus
    sizes = np.unique(decode.gpus)
    for size in sizes:
        own = np.flatnonzero(decode.gpus == size)
        order = own[np.lexsort((-per_gpu[own], decode.tpot[own]))]
        best = np.maximum.accumulate(per_gpu[order])
        ahead = np.concatenate([[True], per_gpu[order][1:] > best[:-1] * (1 + 1e-12)])
        kept.append(order[ahead])
    return kept


def pair(prefill: Prefill, decode: Decode, gpus: int, workload: Workload, sla: Sla) -> Candidates:
    """Every prefill point of the front beside every decode point, in every unit that fits.

    A unit is y decode workers and the fewest prefill workers that keep up with them within the
    TTFT target; the unit is replicated as often as ``gpus`` hold it. Units of every y are
    tried, from one to all the GPUs.
    """
    parts = [_empty()]
    fronts = _decode_fronts(decode)
    for p in _prefill_front(prefill):
        for front in fronts:
            parts.append(_beside(prefill, int(p), decode, front, gpus, workload, sla))
    return join(parts)


def _empty() -> Candidates:
    none, index = np.zeros(0), np.zeros(0, dtype=np.intp)
    return Candidates(index, none, none, none, index, *[none] * 10)


def _beside(
    prefill: Prefill, p: int, decode: Decode, front: Index, gpus: int,
    workload: Workload, sla: Sla,
) -> Candidates:  # fmt: skip
    """Units of one prefill point beside the decode points of ``front``, all of one size."""
    size = prefill.gpus[p]
    most = int((gpus - size) // decode.gpus[front[0]])
    if most < 1:
        return _empty()
    d, counts = (grid.ravel() for grid in np.meshgrid(front, np.arange(1.0, most + 1)))
    moved = _moved(prefill, p, decode)[decode.variant[d]]
    near = _near(prefill, p, decode, gpus)[decode.variant[d]]
    demand = counts * decode.rate[d]
    rate, seconds = prefill.rate[p], prefill.seconds[p]
    source = prefill.variants[prefill.variant[p]]
    transfer = transfer_seconds(source.platform.system, moved, near)
    slack = sla.ttft - seconds - transfer - decode.tpot[d]
    x = prefill_workers_needed(demand, rate, seconds, slack)
    used = x * size + counts * decode.gpus[d]
    fits = used <= gpus
    d, counts, x, used, demand, transfer = (
        a[fits] for a in (d, counts, x, used, demand, transfer)
    )
    times = np.floor(gpus / used)
    load = demand / (x * rate)
    wait = prefill_wait(load, seconds, x)
    ttft = wait + seconds + transfer + decode.tpot[d]
    single = workload.osl == 1
    tpot = np.full(len(d), np.nan) if single else decode.tpot[d]
    batch = decode.batch[d] * np.array([float(v.parallel.dp) for v in decode.variants])[
        decode.variant[d]
    ]
    inside = batch * counts + demand * ttft
    return Candidates(
        variant=decode.variant[d],
        workers=counts * times,
        batch=batch,
        token_budget=np.full(len(d), float(source.platform.token_budget())),
        prefill_variant=np.full(len(d), prefill.variant[p]),
        prefill_workers=x * times,
        prefill_batch=np.full(len(d), prefill.batch[p] * source.parallel.dp),
        prefill_token_budget=np.full(len(d), prefill.token_budget[p]),
        gpus=used * times,
        concurrency=np.round(inside * times),
        ttft=ttft,
        tpot=tpot,
        request_rate=demand * times,
        transfer=transfer,
        load=load,
    )


def _moved(prefill: Prefill, p: int, decode: Decode) -> Array:
    """KV bytes of one prompt over the busiest link, by decode variant."""
    source = prefill.variants[prefill.variant[p]]
    return np.array([max(source.kv_bytes, v.kv_bytes) for v in decode.variants])


def _near(prefill: Prefill, p: int, decode: Decode, gpus: int) -> Array:
    """Whether prefill and decode share an NVLink domain, by decode variant."""
    source = prefill.variants[prefill.variant[p]].platform.system
    domain = source.nvlink_domain
    return np.array(
        [v.platform.system.name == source.name and gpus <= domain for v in decode.variants]
    )
