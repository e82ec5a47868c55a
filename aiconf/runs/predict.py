"""Prediction of one measured run by replay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.engine import Platform
from aiconf.engine.interval import bounds, spread_of
from aiconf.engine.platform import platform, prefill_changes
from aiconf.engine.step import StepModel
from aiconf.parallel import Parallel
from aiconf.runs.measured import Deployment, Traffic
from aiconf.runs.names import model_of, replicated
from aiconf.runs.waves import seen, stretched
from aiconf.simulate.arrivals import arrivals, together
from aiconf.simulate.deployment import Engine, aggregated, disaggregated, engine
from aiconf.simulate.lengths import uniform_lengths
from aiconf.simulate.requests import Array, Ints, Load, Replay

SEED = 0
WAVES = 10  # prompts per user of a closed loop, as InferenceX sends
MOST_REQUESTS = 4000  # of one replay; fewer waves beyond, which then stand for the others
MOST_OF_MANY = 16000  # where that is fewer than four waves
LEAST_WAVES, FEW_WAVES = 4, 2.5
TIGHT_FRACTION = 0.97  # of memory, as far as it can be raised
OPEN_REQUESTS = 500  # of a request rate or a burst that does not say how many
OFFLINE_REQUESTS = 3000  # of offline work that does not say how many (trtllm-bench's examples)


@dataclass(frozen=True)
class Prediction:
    """Predicted figures in seconds and tokens/s of the whole deployment.

    origin: shares of the time that is measured, interpolated and fallback. bounds: factors on
    ``ttft_mean``, ``tpot_mean`` and ``output_rate`` (ttft, tpot, output) that bound an 80 %
    interval; None where the calibration says nothing about such runs.
    """

    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    tpot_mean: float | None
    output_rate: float
    total_rate: float
    origin: tuple[float, float, float]
    bounds: Mapping[str, tuple[float, float] | None]
    note: str = ""


def predict(
    deployment: Deployment, traffic: Traffic, calibration: Path | None = None
) -> Prediction:
    """Replay ``traffic`` on ``deployment``, with a calibration (None: the shipped one).

    Raises
    ------
    UserError
        Where the model does not fit, or a request is longer than the cache.
    """
    place = _platform(deployment, calibration)
    if deployment.prefill is None:
        found = _engine(place, deployment, deployment.workers.parallel, traffic)
        lanes = deployment.workers.count * found.step.parallel.pp
        load = _load(traffic, lanes)
        beside = traffic.users / deployment.workers.count - 1.0 if traffic.users else None
        replay = aggregated(found, load, beside=beside, seed=SEED)
        if deployment.poll > 1:
            # A request is seen at the next poll: half an interval later on average. How long an
            # iteration takes depends on it in turn; one repetition settles that.
            wait = (deployment.poll - 1) / 2.0 * float(np.nanmean(replay.tpot))
            replay = aggregated(found, load, beside=beside, wait=wait, seed=SEED)
        return _summary(replay, lanes, traffic, (found,), _note(found, deployment))
    own = prefill_changes(place.traits)
    first = replace(deployment, changes=(*deployment.changes, *own)) if own else deployment
    prefilling = _platform(first, calibration)
    before = _engine(
        prefilling, _prefill_settings(deployment, prefilling), deployment.prefill.parallel,
        traffic,
    )  # fmt: skip
    after = _engine(place, deployment, deployment.workers.parallel, traffic)
    counts = deployment.prefill.count, deployment.workers.count
    replay = disaggregated(
        before, counts[0], after, counts[1], _load(traffic, 1),
        prompts=deployment.prompts, seed=SEED,
    )  # fmt: skip
    notes = dict.fromkeys((_note(before, deployment), _note(after, deployment)))
    return _summary(replay, 1, traffic, (before, after), "; ".join(note for note in notes if note))


def _prefill_settings(deployment: Deployment, place: Platform) -> Deployment:
    """A prefill side with its own budget, or whose ranks each have the engine's whole one.

    Where an engine shares its budget among them, deployments that prefill apart raise it by
    their number (SGLang's guide to large-scale expert parallelism: --chunked-prefill-size
    524288 for 32 ranks).
    """
    deployment = replace(deployment, max_sequences=None)  # those of the decode side
    shared = place.traits.scheduler.budget_shared_by_dp
    ranks = deployment.prefill.parallel.dp if deployment.prefill and shared else 1
    if deployment.prompt_tokens is not None:
        return replace(deployment, token_budget=deployment.prompt_tokens * ranks)
    if ranks == 1 or deployment.token_budget is not None:
        return deployment
    return replace(deployment, token_budget=place.token_budget() * ranks)


def _platform(deployment: Deployment, calibration: Path | None) -> Platform:
    return platform(deployment.system, deployment.backend, None, deployment.changes, calibration)


def _engine(
    place: Platform, deployment: Deployment, parallel: Parallel, traffic: Traffic
) -> Engine:
    """The engine of one side; under a larger memory setting where the default holds no request.

    The run took place, so whoever ran it had raised the setting.
    """
    spec = model_of(deployment.model, deployment.precision)
    if spec.is_moe and parallel.ep > 1:
        spec = replicated(spec, parallel.ep)
    drafts = deployment.speculation
    if drafts is not None:  # the acceptance that was published is not that of these prompts
        drafts = drafts.scaled(place.traits.scales.get("acceptance", 1.0))
    return engine(
        place, spec, parallel, isl=traffic.isl, osl=traffic.osl,
        token_budget=deployment.token_budget, max_sequences=deployment.max_sequences,
        kv_dtype=deployment.kv_dtype, fractions=(deployment.memory, TIGHT_FRACTION),
        speculation=drafts,
    )  # fmt: skip


def _note(found: Engine, deployment: Deployment) -> str:
    if found.fraction == deployment.memory:
        return ""
    return f"memory setting {found.fraction} assumed: the default holds no request"


def _load(traffic: Traffic, share: int) -> Load:
    """Requests of one of ``share`` equal parts of a deployment."""
    random = np.random.default_rng(SEED)
    if traffic.kind == "closed":
        users = max(1, round(traffic.users / share))
        many = max(min(LEAST_WAVES * users, MOST_OF_MANY), round(FEW_WAVES * users))
        count = min(_sent(traffic, users), max(MOST_REQUESTS, many))
        return Load(*_lengths(random, count, traffic), None, users)
    if traffic.kind == "rate":
        count = traffic.requests or OPEN_REQUESTS
        prompt, output = _lengths(random, count, traffic)
        return Load(prompt, output, arrivals(random, count, traffic.rate / share))
    if traffic.kind == "static":
        count = max(1, round(traffic.users / share))
    else:
        every = traffic.requests or (
            OFFLINE_REQUESTS if traffic.kind == "offline" else OPEN_REQUESTS
        )
        count = max(1, round(every / share))
    return Load(*_lengths(random, count, traffic), together(count))


def _sent(traffic: Traffic, users: int) -> int:
    """Requests of a closed loop of ``users``."""
    return traffic.requests or WAVES * users


def _lengths(random: np.random.Generator, count: int, traffic: Traffic) -> tuple[Ints, Ints]:
    return uniform_lengths(random, count, traffic.isl, traffic.osl, traffic.least)


def _summary(
    replay: Replay, scale: int, traffic: Traffic, engines: tuple[Engine, ...], note: str
) -> Prediction:
    users = max(1, round(traffic.users / scale))
    if traffic.kind == "closed" and len(replay.sent) < _sent(traffic, users):
        found = stretched(replay, users, _sent(traffic, users))
    else:
        found = seen(replay)
    origin, place = _origin(replay, traffic, engines), engines[-1].platform
    mode = "agg" if len(engines) == 1 else "disagg"
    known = {
        metric: bounds(
            spread_of(
                place.calibration, metric, mode, system=place.system.name,
                backend=place.traits.name, model=engines[-1].spec.shape, fallback=origin[2],
            )
        )
        for metric in ("ttft", "tpot", "output")
    }  # fmt: skip
    return Prediction(
        ttft_mean=found.ttft.mean,
        ttft_p50=found.ttft.p50,
        ttft_p99=found.ttft.p99,
        tpot_mean=None if math.isnan(found.tpot) else found.tpot,
        output_rate=found.output_rate * scale,
        total_rate=found.total_rate * scale,
        origin=origin,
        bounds=known,
        note=note,
    )


def _origin(
    replay: Replay, traffic: Traffic, engines: tuple[Engine, ...]
) -> tuple[float, float, float]:
    """Shares of the busy time by origin, at the mean prompt and decode batch of the replay."""
    prompt_time, decode_time = replay.busy
    held = float((replay.last - replay.first).sum()) / max(replay.duration, 1e-12)
    total = np.zeros(3)
    for place, side in enumerate(engines):
        parallel = side.step.parallel
        rows = max(1.0, held / parallel.dp)
        if place == 0:
            tokens = float(min(side.budget, traffic.isl))
            total += _shares(side.step, Batch.of(prefill_tokens=tokens)) * prompt_time
        if place == len(engines) - 1:
            rows = min(rows, float(side.sequences))
            context = traffic.isl + traffic.osl / 2.0
            total += _shares(side.step, Batch.of(decode=rows, context=context)) * decode_time
    found = total / max(float(total.sum()), 1e-12)
    return float(found[0]), float(found[1]), float(found[2])


def _shares(step: StepModel, batch: Batch) -> Array:
    time = step.time(batch)
    found = time.by_origin.reshape(3, -1).sum(axis=1)
    return np.asarray(found / max(float(found.sum()), 1e-12))
