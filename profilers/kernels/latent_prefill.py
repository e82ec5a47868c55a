"""Prefill of multi-head latent attention in Triton: the unabsorbed form, causal, ragged batches.

Keys and values were projected from the latent vectors before, and every head has its own: keys of
128 numbers and 64 that carry the position, values of 128. The loop is that of ``paged_prefill``.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from profilers.kernels.choose import fastest

_LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Config:
    """Queries and keys of a tile, warps and pipeline stages of a program."""

    queries: int
    keys: int
    warps: int
    stages: int


CONFIGS = (Config(128, 64, 8, 3), Config(128, 128, 8, 2), Config(64, 64, 4, 2))


@triton.jit
def _walk(
    q_tile, q_rope, k, v, begin, end, top, total, values, query_at, scale, row_step, value_step,
    NOPE: tl.constexpr, ROPE: tl.constexpr, VALUE: tl.constexpr, BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    nope, rope, value = tl.arange(0, NOPE), NOPE + tl.arange(0, ROPE), tl.arange(0, VALUE)
    for start in range(begin, end, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        # Keys behind the end repeat the first: they are masked below.
        place = tl.where(at < end, at, 0).to(tl.int64)
        key = k + place[None, :] * row_step
        scores = tl.dot(q_rope, tl.load(key + rope[:, None]))
        scores = tl.dot(q_tile, tl.load(key + nope[:, None]), scores) * scale
        if MASKED:
            seen = (at[None, :] <= query_at[:, None]) & (at[None, :] < end)
            scores = tl.where(seen, scores, -1.0e30)
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        found = tl.load(v + place[:, None] * value_step + value[None, :])
        values = values * shrunk[:, None]
        values += tl.dot(weights.to(found.dtype), found)
        top = higher
    return top, total, values


@triton.jit(do_not_specialize=["heads"])
def _prefill(
    q, k, v, starts, out, scale, heads,
    NOPE: tl.constexpr, ROPE: tl.constexpr, VALUE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    request, head = tl.program_id(2), tl.program_id(1)
    tile = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest first
    first = tl.load(starts + request).to(tl.int64)
    count = (tl.load(starts + request + 1) - first).to(tl.int32)
    if tile * BLOCK_M >= count:
        return
    token = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    nope, rope, value = tl.arange(0, NOPE), NOPE + tl.arange(0, ROPE), tl.arange(0, VALUE)
    used = token < count
    row = (first + token) * heads + head
    q_row = q + row[:, None] * (NOPE + ROPE)
    q_tile = tl.load(q_row + nope[None, :], mask=used[:, None], other=0.0)
    q_rope = tl.load(q_row + rope[None, :], mask=used[:, None], other=0.0)
    top = tl.full((BLOCK_M,), -1.0e30, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    values = tl.zeros((BLOCK_M, VALUE), tl.float32)
    own_k = k + (first * heads + head) * (NOPE + ROPE)
    own_v = v + (first * heads + head) * VALUE
    clear = (tile * BLOCK_M + 1) // BLOCK_N * BLOCK_N
    end = min((tile + 1) * BLOCK_M, count)
    top, total, values = _walk(
        q_tile, q_rope, own_k, own_v, 0, clear, top, total, values, token, scale,
        heads * (NOPE + ROPE), heads * VALUE, NOPE, ROPE, VALUE, BLOCK_N, False,
    )  # fmt: skip
    top, total, values = _walk(
        q_tile, q_rope, own_k, own_v, clear, end, top, total, values, token, scale,
        heads * (NOPE + ROPE), heads * VALUE, NOPE, ROPE, VALUE, BLOCK_N, True,
    )  # fmt: skip
    found = (values / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + row[:, None] * VALUE + value[None, :], found, mask=used[:, None])


def latent_prefill(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor, scale: float,
    nope: int, config: Config, most: int,
) -> torch.Tensor:  # fmt: skip
    """Return [tokens, heads, value]; every token sees those of its request up to itself.

    q and k [tokens, heads, nope + rope], v [tokens, heads, value], bf16; starts [batch + 1]
    int32: where the tokens of a request begin; most: tokens of a request at most.
    """
    _, heads, width = q.shape
    out = torch.empty_like(v)
    _prefill[(triton.cdiv(most, config.queries), heads, len(starts) - 1)](
        q, k, v, starts, out, scale * _LOG2E, heads,
        NOPE=nope, ROPE=width - nope, VALUE=v.shape[2],
        BLOCK_M=config.queries, BLOCK_N=config.keys,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out


def chosen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor, scale: float,
    nope: int, most: int,
) -> Config:  # fmt: skip
    """Return the fastest configuration for this shape."""

    def run(config: Config) -> torch.Tensor:
        return latent_prefill(q, k, v, starts, scale, nope, config, most)

    return fastest(("latent_prefill", *q.shape, len(starts), most), CONFIGS, run, q.device)
