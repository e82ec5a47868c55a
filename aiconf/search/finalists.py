"""The order of a search's finalists after replay.

The closed forms rank. Where the replay of a mode's winner breaks a target by more than the closed
forms are off, the search is asked again with that target tightened by what the replay showed, and
the answer is replayed in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aiconf.search.request import Request
from aiconf.search.search import Found, Outcome, scores, shortfall, worth
from aiconf.search.verify import replayed
from aiconf.simulate.results import Summary
from aiconf.workload import Sla

_TOLERANCE = 1.05  # of a target: replay and closed form of TPOT differ by 2 % in the mean
_ROUNDS = 3  # in which a mode's winner may be replaced


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
    """Replay the winner of each mode, and replace it while its replay breaks a target.

    The order stays where the search met no target, where no replacement keeps them, and where
    the replay cannot tell.
    """
    request, top = outcome.request, dict(outcome.top)
    replays: dict[str, Summary | None] = {}
    passed = dict.fromkeys(top, 0)
    for mode, ranked in outcome.top.items():
        seen = replays[mode] = replayed(request, ranked[0]) if ranked else None
        sla = request.sla
        for turn in range(1, _ROUNDS + 1):
            if seen is None or not outcome.met or _keeps(request.sla, seen):
                break
            sla = _tightened(sla, request.sla, seen)
            found = _best(outcome, mode, replace(request, sla=sla))
            seen = replayed(request, found) if found is not None else None
            if found is not None and seen is not None and _keeps(request.sla, seen):
                rest = [o for o in ranked if o.side is not found.side or o.place != found.place]
                top[mode] = [found, *rest][: len(ranked)]
                replays[mode], passed[mode] = seen, turn
    if not any(passed.values()):
        return Settled(outcome, replays, passed)
    firsts = [ranked[0] for ranked in top.values() if ranked]
    firsts = [found for found in firsts if worth(request, found, False) >= -1.0]  # meets targets
    best = max(firsts, key=lambda found: worth(request, found, outcome.met))
    return Settled(replace(outcome, best=best, top=top), replays, passed)


def _keeps(sla: Sla, seen: Summary) -> bool:
    return (
        seen.ttft.mean <= sla.ttft * _TOLERANCE
        and not seen.tpot.mean > sla.tpot * _TOLERANCE  # NaN with one output token
        and seen.latency.mean <= sla.latency * _TOLERANCE
    )


def _tightened(sla: Sla, wanted: Sla, seen: Summary) -> Sla:
    """``sla`` with each target lowered by the factor by which the replay broke the wanted one."""
    return Sla(
        ttft=sla.ttft * min(1.0, wanted.ttft / seen.ttft.mean),
        tpot=sla.tpot * min(1.0, wanted.tpot / np.nan_to_num(seen.tpot.mean, nan=1e-12)),
        latency=sla.latency * min(1.0, wanted.latency / seen.latency.mean),
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
