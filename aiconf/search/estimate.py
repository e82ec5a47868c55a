"""One configuration, predicted as the search would predict it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.drafting import Step, decode_iterations
from aiconf.engine.engine import Platform
from aiconf.engine.served import unserved
from aiconf.engine.speculation import Speculation
from aiconf.errors import UserError
from aiconf.model.layout import layout_problem
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.search.candidates import Array, Candidates
from aiconf.search.combine import replicate
from aiconf.search.request import Request, require_kv_dtype
from aiconf.search.search import Found, Side
from aiconf.search.workers import Aggregated, Variant, most_sequences, variant_of
from aiconf.serving.aggregated import aggregated
from aiconf.serving.disaggregated import MAX_UTILISATION, prefill_wait, transfer_seconds
from aiconf.serving.prompt import PromptTime, in_flight
from aiconf.workload import Sla, Workload, require_whole


@dataclass(frozen=True)
class Setting:
    """A configuration as a user writes it (see ``aiconf.estimate`` for the fields).

    max_sequences: requests that the engine runs at once in a worker (of the decode side when
    disaggregated); None: as many as its cache holds. speculation: drafts that decoding sequences
    verify; None: none.
    """

    spec: ModelSpec
    platform: Platform
    decode_platform: Platform
    workload: Workload
    layout: str
    concurrency: int
    workers: int
    prefill_layout: str | None
    prefill_workers: int
    prefill_batch: int
    token_budget: int | None
    kv_dtype: str | None
    prefill_platform: Platform | None = None  # of prefill workers, where it differs
    max_sequences: int | None = None
    speculation: Speculation | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "workers", "prefill_workers", "prefill_batch"):
            require_whole(name, getattr(self, name), 1)
        require_kv_dtype(self.kv_dtype)
        for name in ("token_budget", "max_sequences"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)


def estimate_point(setting: Setting) -> tuple[Request, Found]:
    """Predict ``setting``; the request holds no targets.

    Raises
    ------
    UserError
        For a layout that the model or the engine cannot run, or that does not fit in memory.
    """
    if setting.prefill_layout is None:
        return _aggregated(setting)
    return _disaggregated(setting)


def _budget(setting: Setting, variant: Variant) -> int:
    return setting.token_budget or variant.platform.token_budget(variant.parallel.dp)


def _request(setting: Setting, gpus: int) -> Request:
    return Request(
        specs=(setting.spec,),
        platforms=(setting.platform,),
        decode_platforms=(setting.decode_platform,),
        gpus=gpus,
        workload=setting.workload,
        sla=Sla(),
        kv_dtype=setting.kv_dtype,
    )


def _legal(setting: Setting, platform: Platform, text: str) -> Variant:
    parallel, traits = Parallel.parse(text), platform.traits
    away = unserved(traits, setting.spec, platform.system.gpu, setting.kv_dtype)
    if away:
        raise UserError(away)
    problem = layout_problem(setting.spec, parallel) or traits.allows(
        parallel, moe=setting.spec.is_moe
    )
    if problem:
        raise UserError(f"layout {parallel}: {problem}")
    return variant_of(
        platform, setting.spec, parallel, setting.kv_dtype, setting.workload.isl,
        setting.speculation,
    )  # fmt: skip


def _room(setting: Setting, variant: Variant, budget: int) -> float:
    """Sequences of the whole worker that its KV cache holds."""
    work, platform = setting.workload, variant.platform
    gpu = platform.system.gpu
    most = most_sequences(variant, budget, work, 0.0) * variant.parallel.dp
    if most < 1:
        room = platform.capacity(
            variant.spec, variant.parallel, token_budget=budget,
            max_sequences=platform.traits.max_sequences(gpu.memory_bytes, gpu.sm),
            kv_dtype=variant.kv_dtype, drafting=variant.speculation is not None,
            longest=work.isl + work.osl,
        )  # fmt: skip
        need = room.total - room.lasting + float(room.sequence_bytes(work.isl + work.osl))
        raise UserError(
            f"{variant.spec.name} does not fit on {variant.parallel} of "
            f"{platform.system.name}: {need / 2**30:.0f} GiB per GPU of {room.total / 2**30:.0f}"
        )
    return min(most, setting.max_sequences or math.inf)


def _aggregated(setting: Setting) -> tuple[Request, Found]:
    variant = _legal(setting, setting.platform, setting.layout)
    request = _request(setting, setting.workers * variant.parallel.gpus)
    budget = _budget(setting, variant)
    most = _room(setting, variant, budget)
    step = variant.step
    inside = min(float(setting.concurrency), most)
    points = aggregated(step, setting.workload, np.array([inside]), np.array([float(budget)]))
    # What the cache does not hold waits outside: in a closed loop each of those requests
    # waits until one of the others has finished (Little's law).
    waiting = (setting.concurrency - inside) / points.request_rate
    points = replace(points, ttft=points.ttft + waiting)
    found = replicate(Aggregated([variant], np.zeros(1, dtype=np.intp), points), request.gpus)
    all_of_them = np.array([float(setting.concurrency * setting.workers)])
    found = replace(found, concurrency=all_of_them)
    side = Side("agg", variant.platform.traits.name, found, [variant], [])
    return request, Found(side, 0)


def _disaggregated(setting: Setting) -> tuple[Request, Found]:
    """Fixed workers on both sides; the slower side sets the rate."""
    work = setting.workload
    if work.osl == 1:
        raise UserError("osl 1 has nothing to decode: leave out the prefill layout")
    prefilling = setting.prefill_platform or setting.platform
    away = work.images and prefilling.traits.allows_images_apart()
    if away:
        raise UserError(away)
    before = _legal(setting, prefilling, str(setting.prefill_layout))
    after = _legal(setting, setting.decode_platform, setting.layout)
    problem = before.platform.traits.allows_apart(before.parallel, after.parallel)
    if problem:
        raise UserError(f"layout {before.parallel} beside {after.parallel}: {problem}")
    gpus = setting.prefill_workers * before.parallel.gpus + setting.workers * after.parallel.gpus
    request = _request(setting, gpus)
    budget = float(_budget(setting, before))
    batch = np.array([float(setting.prefill_batch)])
    prefill = before.step
    seconds = PromptTime(prefill, work, np.array([budget])).seconds(batch)
    at_once = in_flight(before.parallel.pp, work, np.array([budget]))
    supply = setting.prefill_workers * batch * before.parallel.dp * at_once / seconds
    decode = after.step
    held = min(float(setting.concurrency), _room(setting, after, _budget(setting, after)))
    rate, cycle, inside = _matched(decode, work, held, setting.workers, supply * MAX_UTILISATION)
    load = rate / supply
    systems = before.platform.system, after.platform.system
    # Workers that belong together are placed together where a domain holds them.
    unit = gpus // math.gcd(setting.prefill_workers, setting.workers)
    near = systems[0].name == systems[1].name and unit <= systems[0].nvlink_domain
    moved = np.array([max(before.kv_bytes, after.kv_bytes)])
    transfer = transfer_seconds(*systems, moved, near=near)
    wait = prefill_wait(load, float(seconds[0]), np.array([float(setting.prefill_workers)]))
    host = before.platform.traits.host
    outside = host.outside(work.isl) + host.seconds_per_handover
    ttft = wait + seconds + transfer + cycle + outside
    tpot = cycle * (decode_iterations(decode, work.osl - 1) / (work.osl - 1))
    one = np.ones(1)
    found = Candidates(
        variant=np.zeros(1, dtype=np.intp), workers=one * setting.workers, batch=inside,
        token_budget=one * budget, prefill_variant=np.zeros(1, dtype=np.intp),
        prefill_workers=one * setting.prefill_workers,
        prefill_batch=batch * before.parallel.dp, prefill_token_budget=one * budget,
        gpus=one * gpus, concurrency=np.round(inside * setting.workers + rate * ttft),
        ttft=ttft, tpot=tpot, request_rate=rate, transfer=transfer, load=load,
    )  # fmt: skip
    side = Side("disagg", before.platform.traits.name, found, [after], [before])
    return request, Found(side, 0)


def _matched(
    step: Step, work: Workload, held: float, workers: int, most: Array
) -> tuple[Array, Array, Array]:
    """Decode at ``held`` sequences per worker, or at as many as the prefill side can feed.

    Returns requests/s, seconds of an iteration and sequences of a worker.
    """
    lanes = step.parallel.dp * step.parallel.pp
    sizes = np.unique(np.append(np.round(np.geomspace(1.0, held, 200)), held))
    lane = np.maximum(sizes / lanes, 1.0)
    cycle = step.seconds(Batch.of(decode=lane, context=work.mean_context))
    rate = workers * sizes / (cycle * decode_iterations(step, work.osl - 1))
    fed = np.flatnonzero(rate <= most)
    place = fed[-1:] if len(fed) else np.array([0])
    return np.minimum(rate[place], most), cycle[place], sizes[place]
