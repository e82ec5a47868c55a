"""Decode of multi-head latent attention in Triton: the absorbed form over a paged latent cache.

All heads read the same latent vector of a token: its first 512 numbers are key and value at once,
64 more carry the position (DeepSeek-V2, arXiv 2405.04434, section 2.1). A program has a tile of
heads of one request and a part of its tokens; the parts are joined as in ``paged_decode``.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from profilers.kernels.choose import fastest
from profilers.kernels.paged_decode import JOINED, join_splits, splits_of

_LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Config:
    """Heads and tokens of a tile, warps and stages of a program, programs per multiprocessor."""

    heads: int
    tokens: int
    warps: int
    stages: int
    waves: int


# A latent vector has 576 numbers, so a tile of 64 takes 72 KiB of shared memory. With many heads
# the arithmetic binds: 64 of them share a tile. With few, memory does, and reads in flight count
# (5 stages keep two tiles, see ``paged_decode``).
FEW = (
    Config(16, 32, 8, 5, 2), Config(16, 64, 8, 5, 1), Config(16, 32, 4, 5, 2),
    Config(16, 64, 8, 3, 2),
)  # fmt: skip
MANY = (
    Config(64, 32, 8, 5, 1), Config(64, 64, 8, 3, 1), Config(64, 32, 8, 3, 1),
    Config(32, 32, 8, 5, 2),
)  # fmt: skip
_FEW = 16  # heads


@triton.jit(do_not_specialize=["page_columns", "splits", "heads"])
def _split(
    q, cache, pages, lengths, out, part, part_max, part_sum, scale, heads, page_columns, splits,
    LATENT: tl.constexpr, ROPE: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    request, split = tl.program_id(1).to(tl.int64), tl.program_id(2)
    length = tl.load(lengths + request)
    each = tl.cdiv(tl.cdiv(length, splits), BLOCK_N) * BLOCK_N
    begin = split * each
    end = min(begin + each, length)

    head = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    latent, rope = tl.arange(0, LATENT), LATENT + tl.arange(0, ROPE)
    used = head < heads
    row = request * heads + head
    q_row = q + row[:, None] * (LATENT + ROPE)
    q_latent = tl.load(q_row + latent[None, :], mask=used[:, None], other=0.0)
    q_rope = tl.load(q_row + rope[None, :], mask=used[:, None], other=0.0)
    top = tl.full((BLOCK_H,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_H,), tl.float32)
    values = tl.zeros((BLOCK_H, LATENT), tl.float32)
    for start in range(begin, end, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        inside = at < end
        page = tl.load(pages + request * page_columns + at // PAGE, mask=inside, other=0)
        place = (page.to(tl.int64) * PAGE + at % PAGE) * (LATENT + ROPE)
        k = tl.load(cache + place[:, None] + latent[None, :], mask=inside[:, None], other=0.0)
        k = k.to(q_latent.dtype)
        turned = tl.load(cache + place[None, :] + rope[:, None], mask=inside[None, :], other=0.0)
        scores = tl.dot(q_rope, turned.to(q_rope.dtype))
        scores = tl.dot(q_latent, tl.trans(k), scores) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        values = values * shrunk[:, None]
        values += tl.dot(weights.to(k.dtype), k)
        top = higher

    if WHOLE:
        found = (values / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + row[:, None] * LATENT + latent[None, :], found, mask=used[:, None])
    else:
        where = row * splits + split
        tl.store(part + where[:, None] * LATENT + latent[None, :], values, mask=used[:, None])
        tl.store(part_max + where, top, mask=used)
        tl.store(part_sum + where, total, mask=used)


def latent_decode(
    q: torch.Tensor, cache: torch.Tensor, pages: torch.Tensor, lengths: torch.Tensor,
    scale: float, latent: int, config: Config, longest: int,
) -> torch.Tensor:  # fmt: skip
    """Return [batch, heads, latent]: what the heads see of the ``lengths`` cached tokens.

    q [batch, heads, latent + rope] bf16, latent part first; cache [pages, page, latent + rope]
    bf16 or E4M3; pages [batch, most pages] int32; longest: the largest of ``lengths``.
    """
    batch, heads, width = q.shape
    out = torch.empty((batch, heads, latent), dtype=q.dtype, device=q.device)
    blocks = triton.cdiv(heads, config.heads)
    splits = splits_of(config.waves, batch * blocks, longest, q.device)
    rows, part, tops, totals = batch * heads, out, out, out
    if splits > 1:
        part = torch.empty((rows, splits, latent), dtype=torch.float32, device=q.device)
        tops, totals = torch.empty((2, rows, splits), dtype=torch.float32, device=q.device)
    _split[(blocks, batch, splits)](
        q, cache, pages, lengths, out, part, tops, totals, scale * _LOG2E, heads, pages.shape[1],
        splits, LATENT=latent, ROPE=width - latent, PAGE=cache.shape[1],
        BLOCK_H=config.heads, BLOCK_N=config.tokens, WHOLE=splits == 1,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    if splits > 1:
        join_splits[(rows, latent // JOINED)](
            out, part, tops, totals, splits,
            DIM=latent, SPLITS=triton.next_power_of_2(splits), BLOCK_D=JOINED,
        )  # fmt: skip
    return out


def chosen(
    q: torch.Tensor, cache: torch.Tensor, pages: torch.Tensor, lengths: torch.Tensor,
    scale: float, latent: int, longest: int,
) -> Config:  # fmt: skip
    """Return the fastest configuration for this shape."""
    shape = ("latent_decode", *q.shape, cache.dtype, cache.shape[1], longest)

    def run(config: Config) -> torch.Tensor:
        return latent_decode(q, cache, pages, lengths, scale, latent, config, longest)

    return fastest(shape, FEW if q.shape[1] <= _FEW else MANY, run, q.device)
