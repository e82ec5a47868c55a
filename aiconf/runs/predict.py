"""Prediction of one measured run by replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.capacity import Capacity
from aiconf.engine.engine import Platform
from aiconf.engine.speculation import Speculation
from aiconf.engine.step import StepModel
from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.runs.measured import Deployment, Traffic
from aiconf.runs.names import model_of, replicated
from aiconf.simulate.disaggregated import DecodeSide, DisaggregatedReplay, PrefillSide
from aiconf.simulate.engine import EngineReplay, Limits
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.requests import Array, Ints, Load, Replay, uniform_lengths
from aiconf.simulate.timer import IterationTimer

SEED = 0
WAVES = 10  # prompts per user of a closed loop, as InferenceX sends
MOST_REQUESTS = 4000  # of one replay; fewer waves beyond
TIGHT_FRACTION = 0.97  # of memory, as far as it can be raised
OPEN_REQUESTS = 500  # of a request rate or a burst that does not say how many


@dataclass(frozen=True)
class Prediction:
    """Predicted figures in seconds and tokens/s of the whole deployment.

    origin: shares of the time that is measured, interpolated and fallback.
    """

    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    tpot_mean: float | None
    output_rate: float
    total_rate: float
    origin: tuple[float, float, float]
    note: str = ""


@dataclass(frozen=True)
class _Engine:
    """One side's engine: its step model and the limits of one attention rank."""

    platform: Platform
    spec: ModelSpec
    step: StepModel
    budget: int
    sequences: int
    kv_tokens: float
    kv_per_token: float  # bytes of one GPU
    note: str
    draft: StepModel | None = None
    speculation: Speculation | None = None


def predict(deployment: Deployment, traffic: Traffic) -> Prediction:
    """Replay ``traffic`` on ``deployment``.

    Raises
    ------
    UserError
        Where the model does not fit, or a request is longer than the cache.
    """
    if deployment.prefill is None:
        engine = _engine(deployment, deployment.workers.parallel, traffic)
        replay = _aggregated(deployment, engine, traffic, 0.0)
        if deployment.poll > 1:
            # A request is seen at the next poll: half an interval later on average. How long an
            # iteration takes depends on it in turn; one repetition settles that.
            wait = (deployment.poll - 1) / 2.0 * float(np.nanmean(replay.tpot))
            replay = _aggregated(deployment, engine, traffic, wait)
        scale = deployment.workers.count * engine.step.parallel.pp
        return _summary(replay, scale, traffic, ((engine, sum(replay.busy)),))
    before = _engine(_without_prompt_graphs(deployment), deployment.prefill.parallel, traffic)
    after = _engine(deployment, deployment.workers.parallel, traffic)
    replay = _disaggregated(deployment, before, after, traffic)
    return _summary(replay, 1, traffic, ((before, replay.busy[0]), (after, replay.busy[1])))


def _without_prompt_graphs(deployment: Deployment) -> Deployment:
    """The deployment with the facts of an engine that only prefills."""
    if not _platform(deployment).traits.graphs.prefill_needs_plain:
        return deployment
    return replace(deployment, changes=(*deployment.changes, ("graphs.prefill", "none")))


def _platform(deployment: Deployment) -> Platform:
    from aiconf.engine.platform import platform

    return platform(deployment.system, deployment.backend, None, deployment.changes)


def _engine(deployment: Deployment, parallel: Parallel, traffic: Traffic) -> _Engine:
    found = _platform(deployment)
    traits, gpu = found.traits, found.system.gpu
    spec = model_of(deployment.model, deployment.precision)
    if spec.is_moe and parallel.ep > 1:
        spec = replicated(spec, parallel.ep)
    kv = deployment.kv_dtype or spec.quantization.kv
    budget = deployment.token_budget or found.token_budget()
    if traits.scheduler.budget_shared_by_dp:
        budget = max(1, budget // parallel.dp)
    most = deployment.max_sequences or traits.max_sequences(gpu.memory_bytes, gpu.sm)
    drafting = deployment.speculation is not None
    room, note = _room(
        found, spec, parallel, kv, budget, most, traffic, deployment.memory, drafting
    )
    mean = traffic.isl + traffic.osl / 2.0
    each = float(room.sequence_bytes(mean)) / (mean + room.block / 2.0)
    step = found.step(spec, parallel, kv)
    draft = found.draft(spec, parallel, kv) if drafting else None
    return _Engine(
        found, spec, step, budget, most, room.kv / each, each, note, draft, deployment.speculation
    )


def _room(
    found: Platform, spec: ModelSpec, parallel: Parallel, kv: str, budget: int, most: int,
    traffic: Traffic, setting: float | None, drafting: bool,
) -> tuple[Capacity, str]:  # fmt: skip
    """Memory of one GPU; under a larger memory setting where the default holds no request.

    The run took place, so whoever ran it had raised the setting.
    """
    longest = traffic.isl + traffic.osl
    for fraction in (setting, TIGHT_FRACTION):
        room = found.capacity(
            spec, parallel, token_budget=budget, max_sequences=min(most, 1024), kv_dtype=kv,
            fraction=fraction, drafting=drafting,
        )  # fmt: skip
        if room.kv > 0 and room.kv >= float(room.sequence_bytes(longest)):
            note = f"memory setting {fraction} assumed: the default holds no request"
            return room, note if fraction == TIGHT_FRACTION else ""
    raise UserError(
        f"{spec.name} does not fit on {parallel} of {found.system.name} with a request of "
        f"{longest} tokens"
    )


@lru_cache(maxsize=64)
def _timer(
    step: StepModel, most_tokens: int, most_decode: int, longest: int,
    draft: StepModel | None, drafts: int,
) -> IterationTimer:  # fmt: skip
    return IterationTimer(step, most_tokens, most_decode, longest, draft, drafts)


def _timer_of(engine: _Engine, users: int, traffic: Traffic) -> IterationTimer:
    """A timer for at most ``users`` sequences on a rank; sizes are rounded up to share timers."""
    rows = _rounded(users, 64)
    longest = _rounded(traffic.isl + traffic.osl + 1, 256)
    drafts = engine.speculation.drafts if engine.speculation else 0
    most = engine.budget + rows * (drafts + 1)
    return _timer(engine.step, most, rows, longest, engine.draft, drafts)


def _rounded(value: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (value - 1).bit_length())


def _load(traffic: Traffic, share: int) -> Load:
    """Requests of one of ``share`` equal parts of a deployment."""
    random = np.random.default_rng(SEED)
    if traffic.kind == "closed":
        users = max(1, round(traffic.users / share))
        count = traffic.requests or WAVES * users
        count = max(min(count, MOST_REQUESTS), 2 * users)
        prompt, output = _lengths(random, count, traffic)
        return Load(prompt, output, None, users)
    count = traffic.requests or OPEN_REQUESTS
    prompt, output = _lengths(random, count, traffic)
    if traffic.kind == "burst":
        return Load(prompt, output, np.zeros(count))
    gaps = random.exponential(share / traffic.rate, count)
    return Load(prompt, output, np.cumsum(gaps) - gaps[0])


def _lengths(random: np.random.Generator, count: int, traffic: Traffic) -> tuple[Ints, Ints]:
    return uniform_lengths(random, count, traffic.isl, traffic.osl, traffic.least)


def _aggregated(
    deployment: Deployment, engine: _Engine, traffic: Traffic, wait: float
) -> Replay:
    """Replay one lane: workers share the load, and so do the micro-batches of a pipeline.

    wait: seconds until the scheduler sees a new request.
    """
    parallel, scheduler = engine.step.parallel, engine.platform.traits.scheduler
    lanes = parallel.pp
    load = _load(traffic, deployment.workers.count * lanes)
    mixed = scheduler.policy == "mixed"
    reserve = scheduler.output_reserve_dp if parallel.dp > 1 else scheduler.output_reserve
    most = max(1, engine.sequences // lanes)
    rows = min(most, len(load) if load.arrival is not None else load.users)
    limits = Limits(
        token_budget=engine.budget,
        max_sequences=most,
        kv_tokens=engine.kv_tokens / lanes,
        mixed=mixed,
        chunked=scheduler.chunked_prefill or engine.budget < traffic.isl + rows,
        reserve=reserve,
        intake=_intake(engine, wait),
        balance_wait=scheduler.balance_wait,
        balance_more=scheduler.balance_more,
    )
    timer = _timer_of(engine, rows, traffic)
    return EngineReplay(timer, limits, parallel.dp, engine.speculation, SEED).run(load)


def _intake(engine: _Engine, wait: float) -> IntakeCost:
    host = engine.platform.traits.host
    return IntakeCost(
        host.seconds_per_request + wait, host.intake_per_request, host.intake_per_token
    )


def _routed(engine: _Engine, traffic: Traffic) -> IntakeCost:
    """Behind a router whose frontend tokenises on many threads: a delay that nobody queues for."""
    host = engine.platform.traits.host
    own = host.intake_per_request + host.intake_per_token * traffic.isl
    return IntakeCost(host.seconds_per_request + own)


def _disaggregated(
    deployment: Deployment, before: _Engine, after: _Engine, traffic: Traffic
) -> Replay:
    assert deployment.prefill is not None
    load = _load(traffic, 1)
    first, second = before.step.parallel, after.step.parallel
    users = len(load) if load.arrival is not None else load.users
    lanes = deployment.workers.count * second.pp
    rows = min(after.sequences, -(-2 * users // (lanes * second.dp)) + 1)
    system = after.platform.system
    near = deployment.workers.gpus + deployment.prefill.gpus <= system.nvlink_domain
    bandwidth = system.nvlink_bandwidth if near else system.network_bandwidth
    replay = DisaggregatedReplay(
        PrefillSide(
            _timer_of(before, 64, traffic), deployment.prefill.count, first.dp, before.budget,
            first.pp,
        ),
        DecodeSide(
            _timer_of(after, rows, traffic), lanes, second.dp, rows * second.dp,
            after.kv_tokens * second.dp / second.pp,
        ),
        transfer=max(before.kv_per_token, after.kv_per_token) / bandwidth,
        latency=system.nvlink_latency if near else system.network_latency,
        intake=_routed(before, traffic),
        speculation=after.speculation,
        seed=SEED,
    )  # fmt: skip
    return replay.run(load)


def _summary(
    replay: Replay, scale: int, traffic: Traffic, engines: tuple[tuple[_Engine, float], ...]
) -> Prediction:
    ttft, tpot = replay.ttft, replay.tpot
    known = tpot[~np.isnan(tpot)]
    output = float(replay.output.sum()) / replay.duration * scale
    prompt = float(replay.prompt.sum()) / replay.duration * scale
    p50, p99 = np.percentile(ttft, [50, 99])
    return Prediction(
        ttft_mean=float(ttft.mean()),
        ttft_p50=float(p50),
        ttft_p99=float(p99),
        tpot_mean=float(known.mean()) if len(known) else None,
        output_rate=output,
        total_rate=output + prompt,
        origin=_origin(replay, traffic, engines),
        note="; ".join(dict.fromkeys(engine.note for engine, _ in engines if engine.note)),
    )


def _origin(
    replay: Replay, traffic: Traffic, engines: tuple[tuple[_Engine, float], ...]
) -> tuple[float, float, float]:
    """Shares of the busy time by origin, at the mean prompt and decode batch of the replay."""
    prompt_time, decode_time = replay.busy
    held = float((replay.last - replay.first).sum()) / max(replay.duration, 1e-12)
    total = np.zeros(3)
    for place, (engine, _) in enumerate(engines):
        parallel = engine.step.parallel
        rows = max(1.0, held / parallel.dp)
        if place == 0:
            tokens = float(min(engine.budget, traffic.isl))
            total += _shares(engine.step, Batch.of(prefill_tokens=tokens)) * prompt_time
        if place == len(engines) - 1:
            rows = min(rows, float(engine.sequences))
            context = traffic.isl + traffic.osl / 2.0
            total += _shares(engine.step, Batch.of(decode=rows, context=context)) * decode_time
    found = total / max(float(total.sum()), 1e-12)
    return float(found[0]), float(found[1]), float(found[2])


def _shares(step: StepModel, batch: Batch) -> Array:
    time = step.time(batch)
    found = time.by_origin.reshape(3, -1).sum(axis=1)
    return np.asarray(found / max(float(found.sum()), 1e-12))
