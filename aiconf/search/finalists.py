"""The order of a search's finalists after replay.

The closed forms rank; a replay decides between finalists. One whose replay breaks a target by more
than the closed forms are off stands behind the first whose replay keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiconf.search.request import Request
from aiconf.search.search import Outcome, worth
from aiconf.search.verify import replayed
from aiconf.simulate.results import Summary

_TOLERANCE = 1.05  # of a target: replay and closed form of TPOT differ by 2 % in the mean
_REPLAYED = 4  # finalists of a mode that are replayed at most


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
    """Replay the finalists of each mode until one keeps the targets, and put it first.

    The order stays where the search met no target, where no replayed finalist keeps them, and
    where the replay cannot tell.
    """
    request, top = outcome.request, dict(outcome.top)
    replays: dict[str, Summary | None] = {}
    passed = dict.fromkeys(top, 0)
    for mode, ranked in outcome.top.items():
        replays[mode] = replayed(request, ranked[0]) if ranked else None
        if not ranked or not outcome.met or _keeps(request, replays[mode]):
            continue
        for place, found in enumerate(ranked[1:_REPLAYED], start=1):
            seen = replayed(request, found)
            if seen is not None and _keeps(request, seen):
                rest = [one for one in ranked if one is not found]
                top[mode], replays[mode], passed[mode] = [found, *rest], seen, place
                break
    if not any(passed.values()):
        return Settled(outcome, replays, passed)
    firsts = [ranked[0] for ranked in top.values() if ranked]
    firsts = [found for found in firsts if worth(request, found, False) >= -1.0]  # meets targets
    best = max(firsts, key=lambda found: worth(request, found, outcome.met))
    return Settled(replace(outcome, best=best, top=top), replays, passed)


def _keeps(request: Request, seen: Summary | None) -> bool:
    """Whether the means keep the targets; what the replay cannot tell counts as kept."""
    if seen is None:
        return True
    sla = request.sla
    return (
        seen.ttft.mean <= sla.ttft * _TOLERANCE
        and not seen.tpot.mean > sla.tpot * _TOLERANCE  # NaN with one output token
        and seen.latency.mean <= sla.latency * _TOLERANCE
    )
