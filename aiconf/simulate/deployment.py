"""Replays of a whole deployment: engines with their limits, workers, and a load for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aiconf.engine.capacity import Capacity
from aiconf.engine.engine import Platform
from aiconf.engine.speculation import Speculation
from aiconf.engine.stages import chunk_share
from aiconf.engine.step import StepModel
from aiconf.engine.trait_schema import Host, Scheduler
from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.simulate.disaggregated import DecodeSide, DisaggregatedReplay, PrefillSide
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load, Replay
from aiconf.simulate.reserve import Reserve
from aiconf.simulate.spans import Spans
from aiconf.simulate.timer import IterationTimer
from aiconf.workload import Images


@dataclass(frozen=True)
class Engine:
    """One engine: its step model and the limits of one attention rank.

    budget: tokens of an iteration. kv_tokens: tokens that the cache holds. kv_per_token: bytes
    of them on one GPU, as they are sent. fraction: the memory setting that was taken. draft:
    step model of the layer that drafts tokens, with ``speculation``.
    """

    platform: Platform
    spec: ModelSpec
    step: StepModel
    budget: int
    sequences: int
    kv_tokens: float
    kv_per_token: float
    fraction: float | None = None
    draft: StepModel | None = None
    speculation: Speculation | None = None


def engine(
    place: Platform,
    spec: ModelSpec,
    parallel: Parallel,
    *,
    isl: int,
    osl: int,
    token_budget: int | None = None,
    max_sequences: int | None = None,
    kv_dtype: str | None = None,
    fractions: tuple[float | None, ...] = (None,),
    speculation: Speculation | None = None,
) -> Engine:
    """Build an engine whose requests have up to ``isl`` and ``osl`` tokens.

    token_budget, max_sequences: of the whole engine; None: its default. fractions: memory
    settings to try in turn until one request fits (None: the engine's default).

    Raises
    ------
    UserError
        Where no request fits.
    """
    traits, gpu = place.traits, place.system.gpu
    kv = kv_dtype or spec.quantization.kv
    budget = token_budget or place.token_budget()
    if traits.scheduler.budget_shared_by_dp:
        budget = max(1, budget // parallel.dp)
    most = max_sequences or traits.max_sequences(gpu.memory_bytes, gpu.sm)
    drafting = speculation is not None
    room: Capacity | None = None
    fraction = None
    for fraction in fractions:
        room = place.capacity(
            spec, parallel, token_budget=budget, max_sequences=min(most, 1024), kv_dtype=kv,
            fraction=fraction, drafting=drafting, longest=isl + osl,
        )  # fmt: skip
        if 0 < float(room.sequence_bytes(isl + osl)) <= room.lasting:
            break
    else:
        raise UserError(
            f"{spec.name} does not fit on {parallel} of {place.system.name} with a request of "
            f"{isl + osl} tokens"
        )
    mean = isl + osl / 2.0
    tokens = mean + room.block / 2.0
    each = float(room.sequence_bytes(mean)) / tokens
    draft = place.draft(spec, parallel, kv) if drafting else None
    return Engine(
        place, spec, place.step(spec, parallel, kv), budget, most, room.lasting / each,
        float(room.cache_bytes(mean)) / tokens, fraction, draft, speculation,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _timer(
    step: StepModel, most_tokens: int, most_decode: int, longest: int,
    draft: StepModel | None, drafts: int, images: Images | None,
) -> IterationTimer:  # fmt: skip
    return IterationTimer(step, most_tokens, most_decode, longest, draft, drafts, images)


def timer_of(
    found: Engine, users: int, longest: int, images: Images | None = None
) -> IterationTimer:
    """Return a timer for at most ``users`` sequences on a rank, each of ``longest`` tokens.

    Sizes are rounded up, so that alike engines share timers.
    """
    rows = _rounded(users, 64)
    drafts = found.speculation.drafts if found.speculation else 0
    most = found.budget + rows * (drafts + 1)
    return _timer(found.step, most, rows, _rounded(longest + 1, 256), found.draft, drafts, images)


def _rounded(value: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (value - 1).bit_length())


def aggregated(
    found: Engine, load: Load, *, beside: float | None = None, wait: float = 0.0, seed: int = 0
) -> Replay:
    """Replay the load of one lane: a micro-batch of a pipeline, or the whole of one worker.

    A worker of pp stages has pp micro-batches under way, each with its share of the cache and
    the sequences, and each iteration of one passes all stages. beside: other micro-batches
    that have requests (None: all), which decides how far the chunks of one prompt overlap.
    wait: seconds until the scheduler sees a new request.
    """
    pp = found.step.parallel.pp
    others = pp - 1.0 if beside is None else min(max(beside, 0.0), pp - 1.0)
    if pp == 1 or int(load.prompt.max()) <= found.budget:
        return _lane(found, load, wait, seed, 1.0)
    busy = 0.0
    if others:  # how long they compute prompts is seen in a first replay
        first = _lane(found, load, wait, seed, 1.0)
        busy = first.busy[0] / first.duration
    return _lane(found, load, wait, seed, float(chunk_share(pp, busy * others / (pp - 1.0))))


def reserve_of(scheduler: Scheduler, dp: int) -> Reserve:
    """Return the room for outputs that an engine with ``dp`` attention ranks keeps."""
    return Reserve(
        scheduler.output_reserve_new,
        scheduler.output_reserve_dp if dp > 1 else scheduler.output_reserve,
        scheduler.output_reserve_floor, scheduler.output_reserve_steps,
        scheduler.output_reserve_cap,
    )  # fmt: skip


def _lane(found: Engine, load: Load, wait: float, seed: int, share: float) -> Replay:
    """The replay of one lane with this ``chunk_share``."""
    parallel, traits = found.step.parallel, found.platform.traits
    scheduler, host = traits.scheduler, traits.host
    lanes = parallel.pp
    most = max(1, found.sequences // lanes)
    rows = min(most, len(load) if load.arrival is not None else load.users)
    longest = int(load.prompt.max()) + rows  # a prompt beside decodes of all others
    limits = Limits(
        token_budget=found.budget,
        max_sequences=most,
        kv_tokens=found.kv_tokens / lanes,
        mixed=scheduler.policy == "mixed",
        reserve=reserve_of(scheduler, parallel.dp),
        chunked=scheduler.chunked_prefill or found.budget < longest,
        intake=IntakeCost(
            host.seconds_per_request + wait, host.intake_per_request, host.intake_per_token
        ),
        balance_wait=scheduler.balance_wait,
        balance_more=scheduler.balance_more,
        chunk_share=share,
    )
    timer = timer_of(found, rows, int((load.prompt + load.output).max()), load.images)
    return EngineReplay(timer, limits, parallel.dp, found.speculation, seed).run(load)


def disaggregated(
    before: Engine,
    prefill: int,
    after: Engine,
    decode: int,
    load: Load,
    *,
    prompts: int | None = None,
    seed: int = 0,
) -> Replay:
    """Replay ``prefill`` workers like ``before`` and ``decode`` workers like ``after``.

    prompts: most that a prefill rank computes at once; None: as many as the engine runs.
    """
    first, second = before.step.parallel, after.step.parallel
    users = len(load) if load.arrival is not None else load.users
    lanes = decode * second.pp
    rows = min(after.sequences, -(-2 * users // (lanes * second.dp)) + 1)
    system = after.platform.system
    near = prefill * first.gpus + decode * second.gpus <= system.nvlink_domain
    bandwidth = system.nvlink_bandwidth if near else system.network_bandwidth
    longest = int((load.prompt + load.output).max())
    most = prompts or before.sequences
    together = max(64, min(most, users, before.budget // int(load.prompt.min()) + 1))
    replay = DisaggregatedReplay(
        PrefillSide(
            timer_of(before, together, longest, load.images), prefill, first.dp, before.budget,
            first.pp, most,
        ),
        DecodeSide(
            timer_of(after, rows, longest), lanes, second.dp, rows * second.dp,
            after.kv_tokens * second.dp / second.pp,
        ),
        transfer=max(before.kv_per_token, after.kv_per_token) / bandwidth,
        latency=(system.nvlink_latency if near else system.network_latency)
        + before.platform.traits.host.seconds_per_handover,
        intake=_routed(before.platform.traits.host, load),
        speculation=after.speculation,
        seed=seed,
    )  # fmt: skip
    return replay.run(load)


def _routed(host: Host, load: Load) -> IntakeCost:
    """Behind a router whose frontend tokenises on many threads: a delay that nobody queues for."""
    own = host.intake_per_request + host.intake_per_token * float(load.prompt.mean())
    return IntakeCost(host.seconds_per_request + own)


def shared(load: Load, lanes: int) -> list[Load]:
    """Deal a load to ``lanes`` in turn, users as evenly as they divide.

    Lanes without a user or a request are left out.
    """
    found = []
    for lane in range(lanes):
        mine = slice(lane, None, lanes)
        users = load.users // lanes + (lane < load.users % lanes)
        arrival = None if load.arrival is None else load.arrival[mine]
        if len(load.prompt[mine]) and (users or arrival is not None):
            count = len(load.prompt[mine])
            warm = min(-(-max(load.warmup - lane, 0) // lanes), count - 1)
            found.append(
                Load(load.prompt[mine], load.output[mine], arrival, users, warm, load.images)
            )
    return found


def merged(replays: list[Replay]) -> Replay:
    """Join the replays of lanes that ran beside each other; warm-up requests come first."""
    if len(replays) == 1:
        return replays[0]
    warm = [slice(0, one.warmup) for one in replays]
    rest = [slice(one.warmup, None) for one in replays]

    def joined(name: str) -> np.ndarray:
        pairs = [*zip(replays, warm, strict=True), *zip(replays, rest, strict=True)]
        return np.concatenate([getattr(one, name)[part] for one, part in pairs])

    return Replay(
        sent=joined("sent"), first=joined("first"), last=joined("last"),
        output=joined("output"), prompt=joined("prompt"), started=joined("started"),
        busy=(sum(r.busy[0] for r in replays), sum(r.busy[1] for r in replays)),
        iterations=sum(r.iterations for r in replays),
        preempted=sum(r.preempted for r in replays),
        peak_kv=max(r.peak_kv for r in replays),
        spans=Spans.joined_of([one.spans for one in replays]),
        kv_tokens=sum(r.kv_tokens for r in replays),
        warmup=sum(r.warmup for r in replays),
    )  # fmt: skip
