"""The order of a search's finalists after replay.

The closed forms rank. Where the replay of a winner breaks a target by more than the closed forms
are off, its engine is searched again with that target tightened by what the replay showed, and
the answer is replayed in turn; then less tightly, as far as the replay keeps the target. Of the
engines and modes that keep the targets when replayed the best one wins.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from aiconf.search.request import Request
from aiconf.search.search import Found, Outcome, Side, scores, shortfall, worth
from aiconf.search.verify import replayed
from aiconf.simulate.results import Summary
from aiconf.workload import Sla

TOLERANCE = 1.05  # of a target: replay and closed form of TPOT differ by 2 % in the mean
_ROUNDS = 4  # of replays that look for a replacement


@dataclass(frozen=True)
class Settled:
    """A search whose finalists were replayed.

    replays: of the first of each mode; None where there is none, or where the replay cannot.
    passed: by mode, how many were replayed before it and broke a target.
    """

    outcome: Outcome
    replays: Mapping[str, Summary | None]
    passed: Mapping[str, int]


@dataclass(frozen=True)
class _Kept:
    """A candidate that keeps the targets when replayed, or that the replay cannot tell about."""

    found: Found
    seen: Summary | None
    failed: int  # replays before it that broke a target


def settled(outcome: Outcome) -> Settled:
    """Replay the winner of each mode, and replace it where its replay breaks a target.

    The order stays where the search met no target, or where nothing keeps them.
    """
    request, top = outcome.request, dict(outcome.top)
    replays: dict[str, Summary | None] = {}
    passed = dict.fromkeys(top, 0)
    winners = []
    for mode, ranked in outcome.top.items():
        kept = _kept(outcome, mode) if outcome.met and ranked else None
        if kept is None:
            replays[mode] = replayed(request, ranked[0]) if ranked else None
            continue
        found, replays[mode], passed[mode] = kept.found, kept.seen, kept.failed
        winners.append(found)
        if not _same(found, ranked[0]):
            rest = [one for one in ranked if not _same(one, found)]
            top[mode] = [found, *rest][: len(ranked)]
    best = max(winners, key=lambda one: worth(request, one, True), default=outcome.best)
    if _same(best, outcome.best) and not any(passed.values()):
        return Settled(outcome, replays, passed)
    return Settled(replace(outcome, best=best, top=top), replays, passed)


def _same(one: Found, other: Found) -> bool:
    return one.side is other.side and one.place == other.place


def _kept(outcome: Outcome, mode: str) -> _Kept | None:
    """The best of a mode that keeps the targets when replayed; one engine after the other."""
    request = outcome.request
    sides = [(side, _best(side, request)) for side in outcome.sides if side.mode == mode]
    firsts = [(side, found) for side, found in sides if found is not None]
    firsts.sort(key=lambda pair: -worth(request, pair[1], True))
    best: _Kept | None = None
    failed = 0
    for side, first in firsts:
        if best is not None and worth(request, first, True) <= worth(request, best.found, True):
            break
        seen = replayed(request, first)
        if seen is None or keeps(request.sla, seen):
            best = _Kept(first, seen, failed)
            continue
        other, broken = _replacement(side, request, first, seen)
        failed += broken
        if other is not None and (
            best is None or worth(request, other[0], True) > worth(request, best.found, True)
        ):
            best = _Kept(*other, failed)
    return best


def _replacement(
    side: Side, request: Request, first: Found, broken: Summary
) -> tuple[tuple[Found, Summary] | None, int]:
    """The best of one engine whose replay keeps the targets, with its replay; and how many broke.

    Targets are tightened by powers of the factor by which ``first`` broke them; between
    a power that was too little and one that was enough the exponent is halved. That takes other
    layouts for as wrong as the one that broke, so the best of each is replayed as it is, too.
    """
    best: tuple[Found, Summary] | None = None
    little, enough, power, failed = 0.0, math.inf, 1.0, 1
    layouts = {_layouts(first)}
    for _ in range(_ROUNDS):
        found = _best(side, replace(request, sla=_tightened(request, first, broken, power)))
        seen = replayed(request, found) if found is not None else None
        if found is None:
            enough = power  # nothing is left
        elif seen is None:
            break
        elif keeps(request.sla, seen):
            best, enough = (found, seen), power
        else:
            little, failed = power, failed + 1
            layouts.add(_layouts(found))
        power = power + 1.0 if math.isinf(enough) else (little + enough) / 2.0
    for _ in range(_ROUNDS):
        found = _best(side, request, layouts)
        if found is None or (
            best is not None and worth(request, found, True) <= worth(request, best[0], True)
        ):
            break
        seen = replayed(request, found)
        if seen is not None and keeps(request.sla, seen):
            return (found, seen), failed
        failed += seen is not None
        layouts.add(_layouts(found))
    return best, failed


def _layouts(found: Found) -> tuple[int, int]:
    """Checkpoint and layout of both sides, as ``Candidates`` count them."""
    return int(found.value("variant")), int(found.value("prefill_variant"))


def keeps(sla: Sla, seen: Summary) -> bool:
    """Whether the means of a replay keep the targets, within what the closed forms are off."""
    return (
        seen.ttft.mean <= sla.ttft * TOLERANCE
        and not seen.tpot.mean > sla.tpot * TOLERANCE  # NaN with one output token
        and seen.latency.mean <= sla.latency * TOLERANCE
    )


def _tightened(request: Request, found: Found, seen: Summary, power: float) -> Sla:
    """Lower each target that ``found`` broke by a power of the factor by which it broke it.

    From what the closed forms said of ``found`` where that was less than the target: else the
    same candidate would be found again.
    """
    sla = request.sla
    ttft, tpot = found.value("ttft"), float(np.nan_to_num(found.value("tpot")))
    latency = ttft + tpot * (request.workload.osl - 1)

    def lowered(target: float, closed: float, replay: float) -> float:
        if not replay > target:
            return target
        return float(min(target, closed) * (target / replay) ** power)

    return Sla(
        ttft=lowered(sla.ttft, ttft, seen.ttft.mean),
        tpot=lowered(sla.tpot, tpot, seen.tpot.mean),
        latency=lowered(sla.latency, latency, seen.latency.mean),
    )


def _best(
    side: Side, request: Request, without: Collection[tuple[int, int]] = ()
) -> Found | None:
    """The best candidate of an engine that meets the targets of ``request`` by the closed forms,
    ``without`` those of some layouts."""
    found = side.candidates
    kept = shortfall(request, side) <= 1.0
    for variant, prefill in without:
        kept &= (found.variant != variant) | (found.prefill_variant != prefill)
    eligible = np.flatnonzero(kept)
    if not len(eligible):
        return None
    value = scores(request, side)[eligible]
    tied = eligible[value == value.max()]
    # As in the ranking: to fewer GPUs in use, then to the lower TTFT.
    return Found(side, int(tied[np.lexsort((found.ttft[tied], found.gpus[tied]))[0]]))
