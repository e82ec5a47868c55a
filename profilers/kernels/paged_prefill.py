"""Prefill attention over a paged KV cache in Triton: new tokens of a ragged batch, causal.

One program has a tile of new tokens of one request and query head and walks the keys it sees,
tile by tile, with an online softmax (FlashAttention-2, Dao 2023, arXiv 2307.08691). Tiles that
all queries see entirely need no mask, and only the others are compared. The last tiles of a
request see most keys, so they are started first.
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


# By elements of a head. Hopper multiplies 64 rows per group of 4 warps: 128 queries keep two such
# groups busy. Compiled for sm 90 these spill no registers worth mentioning (paged keys take
# some for their addresses, so that tiles are smaller than FlashAttention's own).
CONFIGS = {
    64: (Config(128, 64, 8, 5), Config(128, 128, 8, 3), Config(64, 64, 4, 5)),
    128: (
        Config(128, 64, 8, 5), Config(128, 64, 8, 3), Config(128, 128, 8, 2), Config(64, 64, 4, 5),
    ),
    256: (Config(128, 32, 8, 3), Config(64, 64, 8, 3), Config(64, 32, 4, 3)),
}  # fmt: skip
SHORT = (Config(16, 64, 4, 5), Config(64, 64, 4, 3))  # for prompts of few tokens
_SHORT = 32  # tokens


@triton.jit
def _walk(
    q_tile, k_cache, v_cache, own_pages, begin, end, top, total, values,
    query_at, window, scale, kv_head, kv_heads,
    DIM: tl.constexpr, PAGE: tl.constexpr, BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    dim = tl.arange(0, DIM)
    for start in range(begin, end, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        if MASKED:
            page = tl.load(own_pages + at // PAGE, mask=at < end, other=0).to(tl.int64)
        else:
            page = tl.load(own_pages + at // PAGE).to(tl.int64)
        place = ((page * PAGE + at % PAGE) * kv_heads + kv_head) * DIM
        k = tl.load(k_cache + place[None, :] + dim[:, None])
        scores = tl.dot(q_tile, k.to(q_tile.dtype)) * scale
        if MASKED:
            seen = (at[None, :] <= query_at[:, None]) & (at[None, :] < end)
            seen = seen & ((window == 0) | (at[None, :] > query_at[:, None] - window))
            scores = tl.where(seen, scores, -1.0e30)
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        v = tl.load(v_cache + place[:, None] + dim[None, :])
        values = values * shrunk[:, None]
        values += tl.dot(weights.to(q_tile.dtype), v.to(q_tile.dtype))
        top = higher
    return top, total, values


@triton.jit(do_not_specialize=["page_columns", "heads", "kv_heads"])
def _prefill(
    q, k_cache, v_cache, pages, starts, lengths, out, scale, window, page_columns, heads, kv_heads,
    DIM: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    request, head = tl.program_id(2), tl.program_id(1)
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    first = tl.load(starts + request)
    count = tl.load(starts + request + 1) - first
    if tile * BLOCK_M >= count:
        return
    length = tl.load(lengths + request)
    past = length - count
    token, dim = tile * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, DIM)
    used = token < count
    row = (first + token).to(tl.int64) * heads + head
    q_tile = tl.load(q + row[:, None] * DIM + dim[None, :], mask=used[:, None], other=0.0)
    query_at = past + token
    top = tl.full((BLOCK_M,), -1.0e30, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    values = tl.zeros((BLOCK_M, DIM), tl.float32)
    own_pages = pages + request.to(tl.int64) * page_columns
    kv_head = head // (heads // kv_heads)

    end = min(past + (tile + 1) * BLOCK_M, length)
    begin = 0
    # Every query of the tile sees the keys before the first of them, which need no mask.
    clear = (past + tile * BLOCK_M + 1) // BLOCK_N * BLOCK_N
    if window > 0:
        begin = max(past + tile * BLOCK_M - window + 1, 0) // BLOCK_N * BLOCK_N
        clear = begin
    top, total, values = _walk(
        q_tile, k_cache, v_cache, own_pages, begin, clear, top, total, values,
        query_at, window, scale, kv_head, kv_heads, DIM, PAGE, BLOCK_N, False,
    )  # fmt: skip
    top, total, values = _walk(
        q_tile, k_cache, v_cache, own_pages, clear, end, top, total, values,
        query_at, window, scale, kv_head, kv_heads, DIM, PAGE, BLOCK_N, True,
    )  # fmt: skip
    found = (values / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + row[:, None] * DIM + dim[None, :], found, mask=used[:, None])


def paged_prefill(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, pages: torch.Tensor,
    starts: torch.Tensor, lengths: torch.Tensor, scale: float, window: int, config: Config,
    most: int,
) -> torch.Tensor:  # fmt: skip
    """Return [tokens, heads, dim] for the new tokens of all requests, one after the other.

    q [tokens, heads, dim] bf16; k_cache and v_cache [pages, page, kv_heads, dim] bf16 or E4M3,
    which hold the new tokens too; pages [batch, most pages] int32; starts [batch + 1] int32: where
    the tokens of a request begin in q; lengths [batch] int32: its cached tokens, new ones
    included; window: 0, or tokens that are seen; most: new tokens of a request at most.
    """
    heads, dim = q.shape[1:]
    page, kv_heads = k_cache.shape[1:3]
    out = torch.empty_like(q)
    _prefill[(triton.cdiv(most, config.queries), heads, len(lengths))](
        q, k_cache, v_cache, pages, starts, lengths, out, scale * _LOG2E, window,
        pages.shape[1], heads, kv_heads,
        DIM=dim, PAGE=page, BLOCK_M=config.queries, BLOCK_N=config.keys,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out


def chosen(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, pages: torch.Tensor,
    starts: torch.Tensor, lengths: torch.Tensor, scale: float, window: int, most: int,
) -> Config:  # fmt: skip
    """Return the fastest configuration for this shape."""
    shape = (
        "paged_prefill", *q.shape, k_cache.dtype, *k_cache.shape[1:], len(lengths), window, most,
        pages.shape[1],
    )  # fmt: skip

    def run(config: Config) -> torch.Tensor:
        return paged_prefill(
            q, k_cache, v_cache, pages, starts, lengths, scale, window, config, most
        )

    return fastest(shape, SHORT if most <= _SHORT else CONFIGS[q.shape[2]], run, q.device)
