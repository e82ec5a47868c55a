"""What an engine did: a row for every stretch of iterations with one batch.

A replay writes a row per event, not per iteration or token, so that a long run stays small;
times between tokens and the use of the cache over time are worked out from the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# end, iterations, seconds, prompt_tokens, decoding, running, joined, waited, waiting, kv, worker
Row = tuple[float, int, float, int, int, int, int, float, int, float, int]


@dataclass(frozen=True)
class Spans:
    """Equally long arrays, one entry per stretch; of a worker in order of time.

    end: when it ended, seconds. iterations, seconds: how many and how long all took.
    prompt_tokens: on the busiest rank in each, 0 in a decode stretch. decoding: sequences of
    the busiest rank that got a token in each iteration. running: sequences that decode, on all
    ranks; of these ``joined`` had their first token since the decode stretch before, ``waited``
    seconds (their sum) before this one began. waiting: requests that are queued or whose prompt
    is not finished. kv: tokens in the cache of all ranks at the end. worker: which one.
    """

    end: Array
    iterations: Array
    seconds: Array
    prompt_tokens: Array
    decoding: Array
    running: Array
    joined: Array
    waited: Array
    waiting: Array
    kv: Array
    worker: Array

    @classmethod
    def of(cls, rows: list[Row]) -> Spans:
        """Turn rows into columns."""
        if not rows:
            return cls(*(np.zeros(0) for _ in fields(cls)))
        return cls(*np.array(rows, dtype=np.float64).T)

    @classmethod
    def joined_of(cls, parts: Sequence[Spans]) -> Spans:
        """Put those of single workers together, the workers numbered in their order."""
        columns = [
            np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)
        ]
        numbers = np.repeat(np.arange(float(len(parts))), [len(part) for part in parts])
        return replace(cls(*columns), worker=numbers)

    def __len__(self) -> int:
        return len(self.end)

    def of_worker(self, worker: int) -> Spans:
        """Keep those of one worker."""
        return self.where(self.worker == worker)

    def where(self, kept: NDArray[np.bool_]) -> Spans:
        """Keep some."""
        return Spans(*(getattr(self, field.name)[kept] for field in fields(self)))


def between_tokens(spans: Spans) -> tuple[Array, Array]:
    """Seconds between tokens (ITL) of the decoding sequences, as values with weights.

    A stretch of k iterations with n sequences gives k n gaps of an iteration each. The first
    iteration of a stretch also ends the pause that prompts before it made, for those that
    decoded before them; sequences that joined in between waited since their own first token.
    With speculative decoding a gap is that between two streamed chunks.
    """
    values: list[Array] = [np.zeros(0)]
    weights: list[Array] = [np.zeros(0)]
    for worker in np.unique(spans.worker):
        mine = spans.of_worker(int(worker))
        mine = mine.where(mine.decoding > 0)
        if not len(mine):
            continue
        each = mine.seconds / mine.iterations
        begin = mine.end - mine.seconds
        pause = np.concatenate([[0.0], np.maximum(begin[1:] - mine.end[:-1], 0.0)])
        waited = mine.waited / np.maximum(mine.joined, 1.0)
        values += [each, each + pause, each + waited]
        weights += [mine.running * (mine.iterations - 1.0), mine.running - mine.joined, mine.joined]
    value, weight = np.concatenate(values), np.concatenate(weights)
    return value[weight > 0], weight[weight > 0]


def weighted_percentiles(values: Array, weights: Array, shares: Array) -> Array:
    """Return the values that ``shares`` (0 to 1) of the weight do not exceed; NaN for none."""
    if not len(values):
        return np.full(len(shares), np.nan)
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    place = np.searchsorted(sums, shares * sums[-1], "left")
    found: Array = values[order][np.minimum(place, len(values) - 1)]
    return found
