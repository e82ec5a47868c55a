"""The order of a search's finalists after replay.

The closed forms rank. Where the replay of a mode's winner breaks a target by more than the closed
forms are off, the search is asked again with that target tightened by what the replay showed, and
the answer is replayed in turn; then less tightly, as far as the replay keeps the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aiconf.search.request import Request
from aiconf.search.search import Found, Outcome, scores, shortfall, worth
from aiconf.search.verify import replayed
from aiconf.simulate.results import Summary
from aiconf.workload import Sla

_TOLERANCE = 1.05  # of a target: replay and closed form of TPOT differ by 2 % in the mean
_ROUNDS = 4  # of replays that look for a replacement


@dataclass(frozen=True)
class Settled:
    """A search whose finalists were replayed.

    replays: of the first of each mode; None where there is none, or where the replay cannot.
    passed: by mode, how many stood before it whose replay broke a target.
    """

    outcome: Outcome
    replays: Mapping[str, Summary | None]
    passed: Mapping[str, int]


def settled(outcome: Outcome) -> Settled:
    """Replay the winner of each mode, and replace it where its replay breaks a target.

    The order stays where the search met no target, where no replacement keeps them, and where
    the replay cannot tell.
    """
    request, top = outcome.request, dict(outcome.top)
    replays: dict[str, Summary | None] = {}
    passed = dict.fromkeys(top, 0)
    for mode, ranked in outcome.top.items():
        seen = replays[mode] = replayed(request, ranked[0]) if ranked else None
        if seen is None or not outcome.met or _keeps(request.sla, seen):
            continue
        other = _replacement(outcome, mode, seen)
        if other is not None:
            found, replays[mode], passed[mode] = other
            rest = [o for o in ranked if o.side is not found.side or o.place != found.place]
            top[mode] = [found, *rest][: len(ranked)]
    if not any(passed.values()):
        return Settled(outcome, replays, passed)
    firsts = [ranked[0] for ranked in top.values() if ranked]
    firsts = [found for found in firsts if worth(request, found, False) >= -1.0]  # meets targets
    best = max(firsts, key=lambda found: worth(request, found, outcome.met))
    return Settled(replace(outcome, best=best, top=top), replays, passed)


def _replacement(
    outcome: Outcome, mode: str, broken: Summary
) -> tuple[Found, Summary, int] | None:
    """The best of a mode whose replay keeps the targets, its replay, and how many broke them.

    Targets are tightened by powers of the factor by which the first replay broke them; between
    a power that was too little and one that was enough the exponent is halved.
    """
    request = outcome.request
    best: tuple[Found, Summary] | None = None
    little, enough, power, failed = 0.0, math.inf, 1.0, 1
    for _ in range(_ROUNDS):
        found = _best(outcome, mode, replace(request, sla=_tightened(request.sla, broken, power)))
        seen = replayed(request, found) if found is not None else None
        if found is None or seen is None:
            break
        if _keeps(request.sla, seen):
            best, enough = (found, seen), power
        else:
            little, failed = power, failed + 1
        power = power + 1.0 if math.isinf(enough) else (little + enough) / 2.0
    return None if best is None else (*best, failed)


def _keeps(sla: Sla, seen: Summary) -> bool:
    return (
        seen.ttft.mean <= sla.ttft * _TOLERANCE
        and not seen.tpot.mean > sla.tpot * _TOLERANCE  # NaN with one output token
        and seen.latency.mean <= sla.latency * _TOLERANCE
    )


def _tightened(sla: Sla, seen: Summary, power: float) -> Sla:
    """``sla`` with each target lowered by a power of the factor by which the replay broke it."""
    tpot = float(np.nan_to_num(seen.tpot.mean))
    return Sla(
        ttft=sla.ttft * min(1.0, sla.ttft / seen.ttft.mean) ** power,
        tpot=sla.tpot * min(1.0, sla.tpot / max(tpot, 1e-12)) ** power,
        latency=sla.latency * min(1.0, sla.latency / seen.latency.mean) ** power,
    )


def _best(outcome: Outcome, mode: str, request: Request) -> Found | None:
    """The best candidate of a mode that meets the targets of ``request`` by the closed forms."""
    best: tuple[float, Found] | None = None
    for side in outcome.sides:
        if side.mode != mode:
            continue
        eligible = np.flatnonzero(shortfall(request, side) <= 1.0)
        if len(eligible):
            value = scores(request, side)[eligible]
            place = int(eligible[int(np.argmax(value))])
            if best is None or value.max() > best[0]:
                best = float(value.max()), Found(side, place)
    return None if best is None else best[1]
