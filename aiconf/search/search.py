"""Search: evaluate workers, combine them, keep what meets the targets, rank."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.engine import Platform
from aiconf.engine.interval import quantile, spread_of
from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.search.candidates import Array, Candidates, Index, join, pareto
from aiconf.search.combine import fitting, pair, replicate
from aiconf.search.confidence import probabilities
from aiconf.search.request import Request, served
from aiconf.search.workers import (
    Misfit,
    Variant,
    aggregated_workers,
    decode_workers,
    prefill_workers,
)
from aiconf.workload import Sla

_HOPELESS = 1e-3  # probability below which candidates are told apart by their targets


@dataclass(frozen=True)
class Side:
    """Candidates of one serving mode on one backend, with the variants they point into.

    Disaggregated ones have a side per checkpoint.
    """

    mode: str  # agg or disagg
    backend: str
    candidates: Candidates
    variants: list[Variant]
    prefill_variants: list[Variant]


@dataclass(frozen=True)
class Found:
    """One candidate: its side and its place there."""

    side: Side
    place: int

    def value(self, name: str) -> float:
        """A number of the candidate, by the field names of ``Candidates``."""
        return float(getattr(self.side.candidates, name)[self.place])

    @property
    def variant(self) -> Variant:
        """Checkpoint and layout of the decode side, or of the only side."""
        return self.side.variants[int(self.side.candidates.variant[self.place])]

    @property
    def prefill_variant(self) -> Variant | None:
        """Checkpoint and layout of the prefill side; None when aggregated."""
        place = int(self.side.candidates.prefill_variant[self.place])
        return self.side.prefill_variants[place] if place >= 0 else None


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    top: by mode, the best candidates, one per pair of layouts, best first. met: whether any
    candidate meets all targets; if not, ``top`` holds the closest ones. best: the winner.
    """

    request: Request
    sides: list[Side]
    met: bool
    best: Found
    top: dict[str, list[Found]]


def search(request: Request, keep: int = 5) -> Outcome:
    """Find the best deployments, ``keep`` per mode.

    Raises
    ------
    UserError
        When the model fits on no layout of the given GPUs.
    """
    sides, misfits = _sides(request)
    sides = [side for side in sides if len(side.candidates)]
    if not sides:
        raise _does_not_fit(request, misfits)
    over = {id(side): shortfall(request, side) for side in sides}
    met = any((found <= 1.0).any() for found in over.values())
    top = {}
    for mode in ("agg", "disagg"):
        own = [side for side in sides if side.mode == mode]
        reached = any((over[id(side)] <= 1.0).any() for side in own)
        ranked = [
            found for side in own for found in _ranked(request, side, over[id(side)], keep, reached)
        ]
        ranked.sort(key=lambda found: -worth(request, found, reached))
        top[mode] = ranked[:keep]
    firsts = [ranked[0] for ranked in top.values() if ranked]
    firsts = [f for f in firsts if not met or over[id(f.side)][f.place] <= 1.0]
    best = max(firsts, key=lambda found: worth(request, found, met))
    return Outcome(request, sides, met, best, top)


def _sides(request: Request) -> tuple[list[Side], list[Misfit]]:
    sides, misfits = [], []
    gpus, work = request.gpus, request.workload
    prefilling = request.prefill_platforms or request.platforms
    triples = zip(request.platforms, prefilling, request.decode_platforms, strict=True)
    for platform, first, decoding in triples:
        backend = platform.traits.name
        specs = served(request.specs, (platform,), request.kv_dtype)
        if request.mode != "disagg" and platform.system.name == decoding.system.name:
            workers, small = aggregated_workers(platform, specs, gpus, work, request.kv_dtype)
            misfits += small
            found = replicate(workers, gpus)
            sides.append(Side("agg", backend, found, workers.variants, []))
        shown = work.images and first.traits.allows_images_apart()
        if request.mode != "agg" and work.osl > 1 and gpus > 1 and not shown:
            sides += _disaggregated(request, first, decoding)
    return sides, misfits


def _disaggregated(request: Request, platform: Platform, decoding: Platform) -> list[Side]:
    """Prefill beside decode, checkpoint by checkpoint: both sides hold the same weights."""
    gpus, work = request.gpus, request.workload
    sides = []
    for spec in served(request.specs, (platform, decoding), request.kv_dtype):
        prefill = prefill_workers(platform, [spec], gpus - 1, work, request.kv_dtype)
        decode = decode_workers(decoding, [spec], gpus - 1, work, request.kv_dtype)
        if len(prefill.rate) and len(decode.rate) and (both := fitting(prefill, decode)):
            sla = surer(request, spec, decoding)
            pairs = join([pair(*two, gpus, sla, work.isl) for two in both])
            backend = platform.traits.name
            sides.append(Side("disagg", backend, pairs, decode.variants, prefill.variants))
    return sides


def surer(request: Request, spec: ModelSpec, decoding: Platform) -> Sla:
    """Targets with a TTFT that leaves room for the asked confidence: prefill is sized by it."""
    if request.confidence is None:
        return request.sla
    spread = spread_of(
        decoding.calibration, "ttft", "disagg", system=decoding.system.name,
        backend=decoding.traits.name, model=spec.shape,
    )  # fmt: skip
    # Of two targets that are missed independently each is met with the root of the probability.
    room = quantile(spread, float(np.sqrt(request.confidence)))
    return replace(request.sla, ttft=request.sla.ttft / room)


def latency(request: Request, candidates: Candidates) -> Array:
    """Mean seconds from request to last token."""
    tpot: Array = np.nan_to_num(candidates.tpot)
    total: Array = candidates.ttft + (request.workload.osl - 1) * tpot
    return total


def output_rate(request: Request, candidates: Candidates) -> Array:
    """Output tokens/s per GPU of the cluster (idle GPUs count)."""
    per_request = request.workload.osl / request.gpus
    rate: Array = candidates.request_rate * per_request
    return rate


def hourly_cost(side: Side) -> Array:
    """USD per hour of the GPUs that a candidate uses."""
    price = np.array([v.platform.system.gpu.cost_usd_per_hour for v in side.variants])
    found = side.candidates
    total: Array = found.gpus * price[found.variant]
    if side.mode == "agg":
        return total
    prefill = np.array([v.platform.system.gpu.cost_usd_per_hour for v in side.prefill_variants])
    size = np.array([float(v.parallel.gpus) for v in side.prefill_variants])
    before = found.prefill_workers * size[found.prefill_variant]
    total += before * (prefill[found.prefill_variant] - price[found.variant])
    return total


def cost_per_million(request: Request, side: Side) -> Array:
    """USD per million output tokens."""
    rate = side.candidates.request_rate * request.workload.osl
    return hourly_cost(side) / (rate * 3600.0) * 1e6


def excess(request: Request, candidates: Candidates) -> Array:
    """By what factor the worst target is missed; at most 1 where all are met."""
    sla = request.sla
    worst = np.maximum(candidates.ttft / sla.ttft, np.nan_to_num(candidates.tpot) / sla.tpot)
    if np.isinf(sla.latency):
        return worst
    return np.maximum(worst, latency(request, candidates) / sla.latency)


def shortfall(request: Request, side: Side) -> Array:
    """By what factor a candidate misses what was asked; at most 1 where it does not.

    That is the worst target, or, where a confidence is asked for, the probability of meeting
    all targets.
    """
    over = excess(request, side.candidates)
    if request.confidence is None:
        return over
    if not side.variants[0].platform.calibration.spreads:
        raise UserError("a confidence needs a calibration that knows how far predictions are off")
    # What nothing is known of is not sure.
    chance = np.nan_to_num(probabilities(side, request.workload, request.sla))
    # Among hopeless candidates the targets themselves tell which is closer.
    found: Array = np.where(
        chance > _HOPELESS, request.confidence / np.maximum(chance, _HOPELESS),
        np.maximum(over, 1.0) * request.confidence / _HOPELESS,
    )  # fmt: skip
    return found


def meets(request: Request, side: Side) -> NDArray[np.bool_]:
    """Which candidates meet every target, as surely as was asked."""
    return shortfall(request, side) <= 1.0


def scores(request: Request, side: Side) -> Array:
    """What the objective ranks by, higher is better."""
    if request.objective == "latency":
        return -latency(request, side.candidates)
    if request.objective == "cost":
        return -cost_per_million(request, side)
    return output_rate(request, side.candidates)


def _ranked(request: Request, side: Side, over: Array, keep: int, met: bool) -> list[Found]:
    """Best candidate of each pair of layouts; the closest to the targets where none meets."""
    found = side.candidates
    eligible = np.flatnonzero(over <= 1.0) if met else np.arange(len(found))
    worth = scores(request, side)[eligible] if met else -over[eligible]
    # Ties go to fewer GPUs in use, then to the lower TTFT.
    order = eligible[np.lexsort((found.ttft[eligible], found.gpus[eligible], -worth))]
    kept: dict[tuple[int, int], int] = {}
    for place in order:
        key = (int(found.variant[place]), int(found.prefill_variant[place]))
        kept.setdefault(key, int(place))
        if len(kept) == keep:
            break
    return [Found(side, place) for place in kept.values()]


def worth(request: Request, found: Found, met: bool) -> float:
    """What a candidate is ranked by, higher is better: the objective where targets are met,
    else minus the factor by which it misses them."""
    side, place = found.side, np.array([found.place])
    alone = replace(side, candidates=side.candidates.take(place))
    value = scores(request, alone) if met else -shortfall(request, alone)
    return float(value[0])


def frontier(request: Request, side: Side) -> Index:
    """Pareto front of a side: output tokens/s/GPU against tokens/s/user, within the TTFT target.

    Where no candidate is within it, the front is over all.
    """
    found = side.candidates
    inside = np.flatnonzero(found.ttft <= request.sla.ttft)
    if not len(inside):
        inside = np.arange(len(found))
    with np.errstate(divide="ignore"):
        speed = 1.0 / found.tpot[inside]
    known = ~np.isnan(speed)
    inside, speed = inside[known], speed[known]
    return inside[pareto(speed, output_rate(request, found)[inside])]


def _does_not_fit(request: Request, misfits: list[Misfit]) -> UserError:
    """Say how many GPUs the model needs: the smallest power of two on which it fits."""
    name = request.specs[0].name
    platform, gpus = request.platforms[0], request.gpus
    for more in (2**power for power in range(1, 11)):
        if more <= gpus:
            continue
        workers, _ = aggregated_workers(
            platform, list(request.specs), more, request.workload, request.kv_dtype
        )
        if len(workers.points):
            return UserError(
                f"{name} does not fit on {gpus} x {platform.system.name}: "
                f"it needs at least {more} GPUs (weights, cache of one request of "
                f"{request.workload.isl} + {request.workload.osl} tokens, and activations)"
            )
    if not misfits:
        return UserError(
            f"{name} has no layout on {gpus} x {platform.system.name} that "
            f"{platform.traits.title} can run"
        )
    best = min(misfits, key=lambda misfit: misfit.needed / misfit.available)
    return UserError(
        f"{name} does not fit on {gpus} x {platform.system.name}: layout {best.parallel} needs "
        f"{best.needed / 2**30:.0f} GiB per GPU of {best.available / 2**30:.0f} GiB"
    )
