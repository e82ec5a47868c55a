"""Operating points of one engine: arrays of what a user of it would see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Steady states of one worker, one per (concurrency, token budget); equally long arrays.

    concurrency: requests in flight in the whole worker. ttft, tpot: mean seconds (tpot is NaN
    when a request has one output token). request_rate: requests/s of the worker.
    decoding: sequences in decode per attention rank. mixed: share of iterations that carry
    prompt tokens. prompt_tokens: prompt tokens of such an iteration on the busiest rank.
    prompt_ranks: attention ranks that have any. prompt_past: mean tokens before those tokens.
    busy: share of the token budget (or of time, when prompts go first) that is used.
    """

    concurrency: Array
    token_budget: Array
    ttft: Array
    tpot: Array
    request_rate: Array
    decoding: Array
    mixed: Array
    prompt_tokens: Array
    prompt_ranks: Array
    prompt_past: Array
    busy: Array

    def __len__(self) -> int:
        return len(self.concurrency)


def busiest(mean: Array, ranks: int) -> Array:
    """Prompts on the busiest of ``ranks`` when each has ``mean`` (at least one somewhere).

    Extreme value of ``ranks`` Poisson counts: mean + sqrt(2 mean ln ranks).
    """
    if ranks == 1:
        return np.maximum(mean, 1e-12)
    spread: Array = np.sqrt(2.0 * mean * np.log(ranks))
    return np.maximum(1.0, mean + spread)
