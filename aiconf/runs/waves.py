"""Closed loops of many users: a few waves of requests that stand for all that were sent.

The first wave arrives at once and waits for itself; what comes after is steady. A replay of the
first wave and a few more therefore tells what ten waves would: the later ones count for those
that were left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiconf.simulate.requests import Array, Replay
from aiconf.simulate.results import Spread, summarize


@dataclass(frozen=True)
class Seen:
    """What the client of a closed loop would have measured; seconds and tokens/s."""

    ttft: Spread
    tpot: float
    output_rate: float
    total_rate: float


def seen(replay: Replay) -> Seen:
    """Sum up a replay of everything that was sent."""
    found = summarize(replay)
    return Seen(found.ttft, found.tpot.mean, found.output_rate, found.total_rate)


def stretched(replay: Replay, users: int, sent: int) -> Seen:
    """Stretch a replay of at least two waves of ``users`` to ``sent`` requests.

    Every request after the first wave weighs as much as its share of those left out; the time
    they take is their number over the rate at which requests end while others still begin.
    """
    count = len(replay.sent)
    missing = max(sent - count, 0)
    weights: Array = np.ones(count)
    weights[users:] += missing / max(count - users, 1)
    tpot = replay.tpot
    known = ~np.isnan(tpot)
    mean = float((tpot * weights)[known].sum() / weights[known].sum()) if known.any() else np.nan
    duration = replay.duration + (missing / _steady_rate(replay, users) if missing else 0.0)
    output = float((replay.output * weights).sum())
    prompt = float((replay.prompt * weights).sum())
    return Seen(
        Spread.weighted(replay.ttft, weights), mean, output / duration, (output + prompt) / duration
    )


def _steady_rate(replay: Replay, users: int) -> float:
    """Requests per second that end between the end of the first wave and the last sending."""
    ends = np.sort(replay.last)
    begin, over = float(ends[users - 1]), float(replay.sent.max())
    inside = int(((ends > begin) & (ends <= over)).sum())
    if inside < users // 4 or over <= begin:
        return len(ends) / replay.duration
    return inside / (over - begin)
