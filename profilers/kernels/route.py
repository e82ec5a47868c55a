"""Routing in Triton: the best experts of every token, and tokens gathered by expert.

A matrix product per expert wants the pairs (token, expert) of one expert side by side, each
expert's beginning at a whole tile. The router hands every pair its rank among those of its expert
while it counts them (one atomic addition each); a second kernel turns counts into places. The
order inside an expert varies from run to run; results do not, as each row is computed alone.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_PAIRS = 32  # that one program places


@dataclass(frozen=True)
class Workspace:
    """What routing of ``tokens`` writes; ``counts`` [experts] int32 are zero before each call.

    ids and weights [tokens, topk], int32 and float32; ranks [tokens, topk] int32.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    ranks: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def of(cls, tokens: int, topk: int, local: int, device: torch.device) -> "Workspace":
        """Allocate it; ``local``: experts of this GPU."""
        ids, ranks = torch.empty((2, tokens, topk), dtype=torch.int32, device=device)
        weights = torch.empty((tokens, topk), dtype=torch.float32, device=device)
        return cls(ids, weights, ranks, torch.zeros(local, dtype=torch.int32, device=device))


@triton.jit
def _topk(
    logits, ids, weights, ranks, counts, experts, local,
    TOPK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    expert, slot = tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_K)
    left = tl.load(logits + token * experts + expert, mask=expert < experts, other=float("-inf"))
    left = left.to(tl.float32)
    best = tl.full((BLOCK_K,), float("-inf"), tl.float32)
    chosen = tl.zeros((BLOCK_K,), tl.int32)
    for i in tl.static_range(TOPK):
        value, index = tl.max(left, 0), tl.argmax(left, 0)
        best = tl.where(slot == i, value, best)
        chosen = tl.where(slot == i, index, chosen)
        left = tl.where(expert == index, float("-inf"), left)
    # Softmax over all experts, divided by its sum over those chosen, is softmax over these.
    share = tl.exp(best - tl.max(best, 0))
    used, place = slot < TOPK, token * TOPK + slot
    tl.store(ids + place, chosen, mask=used)
    tl.store(weights + place, share / tl.sum(share, 0), mask=used)
    here = used & (chosen < local)
    rank = tl.atomic_add(counts + chosen, 1, mask=here)
    tl.store(ranks + place, rank, mask=here)


@triton.jit
def _place(
    ids, ranks, counts, pairs_by_place, tile_expert, tile_first, pairs, tiles, local,
    BLOCK_M: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    expert = tl.arange(0, BLOCK_E)
    count = tl.load(counts + expert, mask=expert < local, other=0)
    own_tiles = tl.cdiv(count, BLOCK_M)
    last = tl.cumsum(own_tiles, 0)  # the tile after those of each expert

    at = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    used = at < pairs
    own = tl.load(ids + at, mask=used, other=local)
    before = tl.sum(tl.where(expert[None, :] < own[:, None], own_tiles[None, :], 0), 1)
    here = used & (own < local)
    rank = tl.load(ranks + at, mask=here, other=0)
    tl.store(pairs_by_place + before * BLOCK_M + rank, at, mask=here)

    # The same programs say which expert a tile belongs to: the first whose tiles end after it.
    owner = tl.sum((last[None, :] <= at[:, None]).to(tl.int32), 1)
    begin = tl.sum(tl.where(expert[None, :] < owner[:, None], own_tiles[None, :], 0), 1)
    owner = tl.where(owner < local, owner, -1)
    tl.store(tile_expert + at, owner, mask=at < tiles)
    tl.store(tile_first + at, (at - begin) * BLOCK_M, mask=at < tiles)


@dataclass(frozen=True)
class Tiles:
    """Tiles of ``rows`` pairs, each of one expert.

    pairs [tiles * rows] int32: token * topk + slot by place; expert [tiles] int32: -1 for a tile
    without pairs; first [tiles] int32: how many pairs of its expert lie in earlier tiles.
    """

    rows: int
    count: int
    pairs: torch.Tensor
    expert: torch.Tensor
    first: torch.Tensor


def route(logits: torch.Tensor, space: Workspace) -> None:
    """Choose experts: softmax over logits [tokens, experts], the best, renormalised to one."""
    tokens, experts = logits.shape
    topk = space.ids.shape[1]
    _topk[(tokens,)](
        logits, space.ids, space.weights, space.ranks, space.counts, experts, len(space.counts),
        TOPK=topk, BLOCK_K=triton.next_power_of_2(topk),
        BLOCK_E=triton.next_power_of_2(experts), num_warps=1 if experts <= 256 else 2,
    )  # fmt: skip


def gather(space: Workspace, rows: int) -> Tiles:
    """Gather the pairs of each expert of this GPU into tiles of ``rows``."""
    pairs, local = space.ids.numel(), len(space.counts)
    # No more tiles than pairs, and all but one of each expert are full.
    count = min(pairs, pairs // rows + local)
    device = space.ids.device
    by_place = torch.empty(count * rows, dtype=torch.int32, device=device)
    expert, first = torch.empty((2, count), dtype=torch.int32, device=device)
    _place[(triton.cdiv(max(pairs, count), _PAIRS),)](
        space.ids, space.ranks, space.counts, by_place, expert, first, pairs, count, local,
        BLOCK_M=rows, BLOCK_E=triton.next_power_of_2(local), BLOCK_P=_PAIRS,
    )  # fmt: skip
    return Tiles(rows, count, by_place, expert, first)
