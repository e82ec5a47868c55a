"""What users of a replayed deployment saw, and what the deployment did meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.batch import Batch
from aiconf.engine.curves import PART
from aiconf.engine.step import StepModel
from aiconf.simulate.requests import Replay
from aiconf.simulate.spans import Spans, between_tokens, weighted_percentiles
from aiconf.workload import Sla

Array = NDArray[np.float64]
_SHARES = np.array([0.5, 0.9, 0.95, 0.99])
_TIMED = 4096  # stretches of which the parts are worked out; evenly taken of more


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles; NaN where nothing was seen."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Array) -> Spread:
        """Of single values, NaN left out."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(*[float("nan")] * 5)
        return cls(float(known.mean()), *(float(p) for p in np.quantile(known, _SHARES)))

    @classmethod
    def weighted(cls, values: Array, weights: Array) -> Spread:
        """Of values that each occurred ``weights`` times."""
        if not len(values):
            return cls(*[float("nan")] * 5)
        found = weighted_percentiles(values, weights, _SHARES)
        mean = float((values * weights).sum() / weights.sum())
        return cls(mean, *(float(p) for p in found))


@dataclass(frozen=True)
class Summary:
    """Figures of one replay, warm-up left out; seconds, tokens/s and requests/s of all workers.

    queued: from sending to the first prompt token computed. itl: between tokens. goodput:
    requests/s that kept every target; attained: their share. peak_kv: most of the cache in use,
    0 to 1. running, waiting: mean requests that decode, and that wait for their first token.
    """

    requests: int
    duration: float
    ttft: Spread
    tpot: Spread
    itl: Spread
    latency: Spread
    queued: Spread
    request_rate: float
    output_rate: float
    total_rate: float
    goodput: float
    attained: float
    peak_kv: float
    preempted: int
    running: float
    waiting: float


def summarize(replay: Replay, sla: Sla | None = None) -> Summary:
    """Sum up a replay. sla: targets that each single request must keep; None: none."""
    kept = slice(replay.warmup, None)
    sent, first, last = replay.sent[kept], replay.first[kept], replay.last[kept]
    tpot = replay.tpot[kept]
    latency = last - sent
    duration = float(last.max() - sent.min())
    target = sla or Sla()
    # A single token has no time per output token, so that it keeps any target for it.
    good = (first - sent <= target.ttft) & ~(tpot > target.tpot) & (latency <= target.latency)
    output, prompt = float(replay.output[kept].sum()), float(replay.prompt[kept].sum())
    return Summary(
        requests=len(sent),
        duration=duration,
        ttft=Spread.of(first - sent),
        tpot=Spread.of(tpot),
        itl=Spread.weighted(*between_tokens(replay.spans)),
        latency=Spread.of(latency),
        queued=Spread.of(replay.started[kept] - sent),
        request_rate=len(sent) / duration,
        output_rate=output / duration,
        total_rate=(output + prompt) / duration,
        goodput=float(good.sum()) / duration,
        attained=float(good.mean()),
        peak_kv=replay.peak_kv,
        preempted=replay.preempted,
        running=float((last - first).sum()) / duration,
        waiting=float((first - sent).sum()) / duration,
    )


@dataclass(frozen=True)
class Timeline:
    """State at evenly spaced times: decoding and waiting requests, share of the cache in use."""

    time: Array
    running: Array
    waiting: Array
    kv: Array


def timeline(replay: Replay, points: int = 200) -> Timeline:
    """Sample what all workers did at ``points`` times from the first sending to the last token."""
    time = np.linspace(replay.sent.min(), replay.last.max(), points)
    spans = replay.spans
    kv = np.zeros(points)
    for worker in np.unique(spans.worker):
        mine = spans.of_worker(int(worker))
        place = np.searchsorted(mine.end, time, "right") - 1
        kv += np.where(place >= 0, mine.kv[np.maximum(place, 0)], 0.0)

    def between(begin: Array, end: Array) -> Array:
        """How many of the intervals hold each time."""
        begun = np.searchsorted(np.sort(begin), time, "right")
        over = np.searchsorted(np.sort(end), time, "right")
        found: Array = (begun - over).astype(np.float64)
        return found

    return Timeline(
        time=time,
        running=between(replay.first, replay.last),
        waiting=between(replay.sent, replay.first),
        kv=kv / replay.kv_tokens,
    )


@dataclass(frozen=True)
class Causes:
    """Seconds of workers: computing, communicating, waiting for the host, and without work."""

    compute: float
    communication: float
    overhead: float
    idle: float


def causes(
    spans: Spans, step: StepModel, workers: int, duration: float, drafted: int,
    images: tuple[float, int] = (0.0, 0),
) -> Causes:  # fmt: skip
    """Split the time of ``workers`` with one step model by what it went to.

    drafted: tokens of each sequence in a decode iteration. images: encoded per prompt token, and
    patches of each. The shares of an iteration are those
    of the step model at its batch and mean context.
    """
    busy = float(spans.seconds.sum())
    if not busy:
        return Causes(0.0, 0.0, 0.0, workers * duration)
    place = np.unique(np.linspace(0, len(spans) - 1, min(len(spans), _TIMED)).astype(int))
    context = spans.kv[place] / np.maximum(spans.running[place] + spans.waiting[place], 1.0)
    batch = Batch.of(
        prefill_tokens=spans.prompt_tokens[place],
        decode=spans.decoding[place],
        context=np.maximum(context, 1.0),
        drafted=float(drafted),
        images=spans.prompt_tokens[place] * images[0],
        patches=images[1],
    )
    parts = step.time(batch).by_part
    share = parts / np.maximum(parts.sum(axis=0), 1e-12)
    weight = spans.seconds[place]
    total = (share * weight).sum(axis=1) * busy / weight.sum()
    talk, host = float(total[PART["communication"]]), float(total[PART["overhead"]])
    return Causes(busy - talk - host, talk, host, max(workers * duration - busy, 0.0))
