"""Deployments of the whole cluster as columns: one entry per candidate in every array."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Candidates:
    """Aggregated or disaggregated deployments; seconds, tokens and requests, all equally long.

    variant: index into the variants of the decode side (of the only side when aggregated).
    workers, batch, token_budget: of that side; batch is requests in flight per worker.
    prefill_*: the same of the prefill side, with ``prefill_variant`` -1 when aggregated.
    gpus: GPUs used. concurrency: requests in flight over the whole deployment.
    ttft, tpot: mean seconds (tpot NaN for one output token). request_rate: requests/s of all.
    transfer: seconds to move one prompt's KV cache. load: utilisation of the prefill side, or
    of the token budget when aggregated.
    """

    variant: Index
    workers: Array
    batch: Array
    token_budget: Array
    prefill_variant: Index
    prefill_workers: Array
    prefill_batch: Array
    prefill_token_budget: Array
    gpus: Array
    concurrency: Array
    ttft: Array
    tpot: Array
    request_rate: Array
    transfer: Array
    load: Array

    def __len__(self) -> int:
        return len(self.gpus)

    def take(self, index: Index | NDArray[np.bool_]) -> Candidates:
        """Return the entries at ``index``."""
        return Candidates(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def join(parts: list[Candidates]) -> Candidates:
    """Concatenate candidates."""
    return Candidates(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Candidates)}
    )


def pareto(speed: Array, yield_: Array) -> Index:
    """Indices of the points that no other point beats in both, by descending ``speed``."""
    order = np.lexsort((-yield_, -speed))
    best = np.maximum.accumulate(yield_[order])
    ahead = np.ones(len(order), dtype=bool)
    ahead[1:] = yield_[order][1:] > best[:-1]
    front: Index = order[ahead]
    return front
