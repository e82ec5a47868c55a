"""Which point to measure next, so that a budget buys the most accuracy.

Every line (one kernel, all key columns but one fixed) is first measured at its ends and a few
places between. Then the gap with the largest expected error per second of measuring is halved,
over all lines of all operators. The error expected in the middle of a gap is the larger of
- what leaving out its ends tells: error of a linear interpolation is curvature times the product
  of the distances to both neighbours (``aiconf.perf.leave_one_out``);
- the disagreement of the reader's interpolation with the speed of light scaled by the efficiency
  of both ends, which knows where memory stops and arithmetic begins to bind.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aiconf.perf.leave_one_out import between, curvature

Array = NDArray[np.float64]
_FIRST = 5  # places of a line that are measured first, evenly spread, the ends among them
AIM = 0.01  # expected error of an interpolation that is small enough


@dataclass
class Track:
    """One line of one kernel: its candidates, what was measured, and what is still worth it.

    light: least seconds at each value; cost: expected seconds of measuring each.
    """

    values: Array
    light: Array
    cost: Array
    power: int = 1
    seconds: Array = field(init=False)
    refused: NDArray[np.bool_] = field(init=False)
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = np.full(len(self.values), np.nan)
        self.refused = np.zeros(len(self.values), dtype=bool)
        self.left = self._left()

    def add(self, place: int, seconds: float | None) -> None:
        """Take in a result; None: the point was refused."""
        self.refused[place] = seconds is None
        self.seconds[place] = np.nan if seconds is None else seconds
        self.left = self._left()

    def _left(self) -> float:
        """Seconds of first looks and of one halving of every gap worth it."""
        places = {at for error, _, at in self.gaps() if error > AIM}
        places |= {at for at in self.seeds() if self.open(at)}
        return float(sum(self.cost[at] for at in places))

    def seeds(self) -> list[int]:
        """Places that are measured before any refinement, ends first."""
        spread = np.round(np.linspace(0, len(self.values) - 1, _FIRST)).astype(int).tolist()
        return list(dict.fromkeys([spread[-1], *spread]))

    def open(self, place: int) -> bool:
        """Whether a place was not tried yet."""
        return bool(np.isnan(self.seconds[place]) and not self.refused[place])

    def gaps(self) -> list[tuple[float, float, int]]:
        """(expected error, width in octaves, place to measure) of every gap with a candidate."""
        known = np.flatnonzero(~np.isnan(self.seconds))
        if len(known) < 2:
            return []
        x, t = self.values[known], self.seconds[known]
        bend = curvature(x, t, self.power)
        found = []
        for i, (low, high) in enumerate(pairwise(known)):
            place = self._middle(int(low), int(high))
            if place is None:
                continue
            left = np.log2(self.values[place] / x[i])
            right = np.log2(x[i + 1] / self.values[place])
            curved = float(np.nanmax([*bend[i : i + 2], 0.0]) * left * right)
            error = max(curved, self._disagreement(place, int(low), int(high)))
            found.append((error, float(left + right), place))
        return found

    def _middle(self, low: int, high: int) -> int | None:
        """The untried candidate nearest to the middle of a gap, by ratio."""
        free = np.arange(low + 1, high)
        free = free[~self.refused[free]]
        if not len(free):
            return None
        middle = np.sqrt(self.values[low] * self.values[high])
        return int(free[np.argmin(np.abs(np.log(self.values[free] / middle)))])

    def _disagreement(self, place: int, low: int, high: int) -> float:
        """|log| of linear interpolation over the speed of light at the efficiency of both ends."""
        ends = np.array([low, high])
        x, t = self.values[ends], self.seconds[ends]
        linear = between(x, t, self.values[place : place + 1], self.power)[0]
        floor = float(np.nanmin(self.seconds))
        reference = floor + self.light
        efficiency = np.log(t / reference[ends])
        share = np.log(self.values[place] / x[0]) / np.log(x[1] / x[0])
        scaled = np.exp(efficiency[0] + share * (efficiency[1] - efficiency[0])) * reference[place]
        return float(abs(np.log(linear / scaled)))


@dataclass
class Refinement:
    """The order over all tracks, which come in the order of their worth."""

    tracks: Sequence[Track]
    _seeded: int = 0  # tracks whose first points were given out
    _first: list[tuple[int, int]] = field(default_factory=list)  # popped from the end
    _worst: list[tuple[float, int, int]] = field(default_factory=list)  # a heap: least first

    def seed(self) -> tuple[int, int] | None:
        """Return (track, place) of the next first look: line by line, ends first."""
        while self._first or self._seeded < len(self.tracks):
            if not self._first:
                places = reversed(self.tracks[self._seeded].seeds())
                self._first = [(self._seeded, place) for place in places]
                self._seeded += 1
            track, place = self._first.pop()
            if self.tracks[track].open(place):
                return track, place
        return None

    def worst(self) -> tuple[int, int] | None:
        """Return (track, place) where the expected error per second is largest; None: all small."""
        while self._worst:
            rank, track, place = heapq.heappop(self._worst)
            # Every result ranks all gaps of its line anew: older ranks are out of date.
            if (rank, track, place) in self._ranked(track):
                return track, place
        return None

    def add(self, track: int, place: int, seconds: float | None) -> None:
        """Take in a result; None: the point was refused."""
        self.tracks[track].add(place, seconds)
        for ranked in self._ranked(track):
            heapq.heappush(self._worst, ranked)

    def _ranked(self, track: int) -> list[tuple[float, int, int]]:
        """Gaps of a line by minus what halving them gains: error times octaves, per second."""
        own = self.tracks[track]
        return [
            (-error * width / own.cost[at], track, at)
            for error, width, at in own.gaps()
            if error > AIM
        ]

    def left(self) -> float:
        """Seconds that first looks and one halving of every gap worth it are expected to take."""
        return sum(track.left for track in self.tracks)
