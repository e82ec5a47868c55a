"""Which experts tokens are routed to: the loads that the tables' column ``distribution`` names.

balanced: every expert gets as many tokens as any other. uniform: each token draws its experts at
random. power_law_ALPHA: popularities drawn from a density x^-ALPHA on [1, 0.8 tokens] (on
[0.01, 2] where there are fewer pairs than experts), scaled to all pairs, and the rank with most
pairs made the one that is measured: the definition of the imported tables (collector/helper.py of
ai-dynamo/aiconfigurator).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.source import Source

POWER_LAW = "power_law_"
_SURE = 12.0  # by which logits of chosen experts exceed the others: noise never reaches it


def chosen(
    source: Source, distribution: str, tokens: int, experts: int, topk: int, ep: int
) -> Tensor:
    """Return experts [tokens, topk] of every token, all different; those of rank 0 come first."""
    import torch

    if distribution == "uniform":
        drawn = source.normal(tokens, experts, dtype=torch.float32)
        return drawn.topk(topk, dim=1).indices
    random = np.random.default_rng(int(source.integers(0, 1 << 31, 1)))
    if distribution == "balanced":
        found = _balanced(tokens, experts, topk)
    else:
        alpha = float(distribution.removeprefix(POWER_LAW))
        counts = power_law(random, tokens, experts, topk, alpha)
        found = _dealt(random, _busiest_first(counts, ep), topk)
    # Which expert of a rank it is, is chance: sets of inputs then hit different weights.
    each = experts // ep
    names = np.concatenate([r * each + random.permutation(each) for r in range(ep)])
    return torch.from_numpy(names[found]).to(source.device)


def logits(source: Source, picked: Tensor, experts: int) -> Tensor:
    """Router logits [tokens, experts] float32 whose best are ``picked``."""
    import torch

    noise = source.normal(len(picked), experts, dtype=torch.float32)
    sure = torch.full(picked.shape, _SURE, device=picked.device)
    return noise.scatter_add_(1, picked, sure)


def _balanced(tokens: int, experts: int, topk: int) -> NDArray[np.int64]:
    """Slots lie a stride apart; tokens move on by one, or spread where they do not fill it."""
    stride = -(-experts // topk)
    step = max(1.0, stride / tokens)
    token, slot = np.arange(tokens)[:, None], np.arange(topk)[None, :]
    found: NDArray[np.int64] = (token * step).astype(np.int64) + slot * stride
    return found % experts


def power_law(
    random: np.random.Generator, tokens: int, experts: int, topk: int, alpha: float
) -> NDArray[np.int64]:
    """Tokens of each expert: tokens x topk in all, ``tokens`` at most of one."""
    pairs = tokens * topk
    low, high = (1.0, 0.8 * tokens) if pairs > experts else (0.01, 2.0)
    power = 1.0 - alpha
    ends = high**power, low**power
    drawn = ((ends[0] - ends[1]) * random.random(experts) + ends[1]) ** (1.0 / power)
    counts: NDArray[np.int64] = np.minimum(
        np.floor(drawn / drawn.sum() * pairs).astype(np.int64), tokens
    )
    while (left := pairs - int(counts.sum())) > 0:  # the most popular that have room take the rest
        room = np.flatnonzero(counts < tokens)
        room = room[np.argsort(-drawn[room])][:left]
        counts[room] += 1
    return counts


def _busiest_first(counts: NDArray[np.int64], ep: int) -> NDArray[np.int64]:
    ranks = counts.reshape(ep, -1).copy()
    busiest = int(ranks.sum(axis=1).argmax())
    ranks[[0, busiest]] = ranks[[busiest, 0]]
    return ranks.reshape(-1)


def _dealt(random: np.random.Generator, counts: NDArray[np.int64], topk: int) -> NDArray[np.int64]:
    """Experts by token: copies of an expert, no more than tokens, never meet in one token."""
    order: Any = np.argsort(-counts, kind="stable")
    flat = np.repeat(order, counts[order])
    found: NDArray[np.int64] = random.permutation(flat.reshape(topk, -1).T)
    return found
