"""Decode attention over a paged KV cache in Triton: keys of a request divided over programs.

One new token per request leaves few programs where each has all keys of a KV head; the keys are
therefore split, every split keeps its running maximum, sum and weighted values, and a second
kernel joins them (Flash-Decoding, Dao et al. 2023; the online softmax is that of Milakov and
Gimelshein 2018, arXiv 1805.02867). All query heads that share a KV head sit in one tile, so that
a key is read once. Scores are kept in base 2, whose exponential is one instruction.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from profilers.kernels.choose import fastest, processors

_LOG2E = 1.4426950408889634
_MOST_SPLITS = 256  # what one program can join
JOINED = 64  # values of a row that one program joins
_FEWEST_KEYS = 128  # of a split


@dataclass(frozen=True)
class Config:
    """Keys per step, warps and pipeline stages of a program, and programs per multiprocessor."""

    keys: int
    warps: int
    stages: int
    waves: int


# By elements of a head. Keys come through page numbers, which takes a stage of its own: Triton
# 3.6 keeps one tile of keys and values with 3 stages, two with 5, three with 7. Small tiles keep
# several programs on a multiprocessor, deep pipelines fewer with more reads in flight each.
# Compiled for sm 90, none of them spills registers.
CONFIGS = {
    64: (
        Config(64, 4, 5, 4), Config(128, 4, 3, 4), Config(128, 4, 5, 2), Config(64, 4, 7, 2),
        Config(128, 8, 5, 1),
    ),
    128: (
        Config(64, 4, 5, 3), Config(64, 4, 3, 4), Config(128, 4, 3, 2), Config(64, 4, 7, 2),
        Config(32, 4, 5, 5), Config(64, 4, 5, 1),
    ),
    256: (Config(32, 4, 5, 2), Config(64, 8, 3, 2), Config(64, 8, 5, 1)),
}  # fmt: skip


@triton.jit(do_not_specialize=["page_columns", "splits", "kv_heads", "group"])
def _split(
    q, k_cache, v_cache, pages, lengths, out, part, part_max, part_sum,
    scale, window, page_columns, splits, kv_heads, group,
    DIM: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    request, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + request)
    first = 0
    if window > 0:
        first = max(length - window, 0)
    each = tl.cdiv(tl.cdiv(length - first, splits), BLOCK_N) * BLOCK_N
    begin = first + split * each
    end = min(begin + each, length)

    member, dim = tl.arange(0, BLOCK_H), tl.arange(0, DIM)
    head = kv_head * group + member
    used = member < group
    row = request * kv_heads * group + head
    q_tile = tl.load(q + row[:, None] * DIM + dim[None, :], mask=used[:, None], other=0.0)
    top = tl.full((BLOCK_H,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_H,), tl.float32)
    values = tl.zeros((BLOCK_H, DIM), tl.float32)
    own_pages = pages + request.to(tl.int64) * page_columns
    for start in range(begin, end, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        inside = at < end
        page = tl.load(own_pages + at // PAGE, mask=inside, other=0).to(tl.int64)
        place = ((page * PAGE + at % PAGE) * kv_heads + kv_head) * DIM
        k = tl.load(k_cache + place[None, :] + dim[:, None], mask=inside[None, :], other=0.0)
        scores = tl.dot(q_tile, k.to(q_tile.dtype)) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        v = tl.load(v_cache + place[:, None] + dim[None, :], mask=inside[:, None], other=0.0)
        values = values * shrunk[:, None]
        values += tl.dot(weights.to(q_tile.dtype), v.to(q_tile.dtype))
        top = higher

    if WHOLE:
        found = (values / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + row[:, None] * DIM + dim[None, :], found, mask=used[:, None])
    else:
        # An empty split has maximum -inf and weighs nothing where splits are joined.
        where = row * splits + split
        tl.store(part + where[:, None] * DIM + dim[None, :], values, mask=used[:, None])
        tl.store(part_max + where, top, mask=used)
        tl.store(part_sum + where, total, mask=used)


@triton.jit(do_not_specialize=["splits"])
def join_splits(
    out, part, part_max, part_sum, splits,
    DIM: tl.constexpr, SPLITS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Weigh the splits of one row by their maxima; one program per row and ``BLOCK_D`` values."""
    row = tl.program_id(0)
    split, dim = tl.arange(0, SPLITS), tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    used = split < splits
    where = row * splits + split
    top = tl.load(part_max + where, mask=used, other=float("-inf"))
    weight = tl.exp2(top - tl.max(top, 0))
    total = tl.sum(weight * tl.load(part_sum + where, mask=used, other=0.0), 0)
    values = tl.load(part + where[:, None] * DIM + dim[None, :], mask=used[:, None], other=0.0)
    found = tl.sum(values * weight[:, None], 0) / total
    tl.store(out + row * DIM + dim, found.to(out.dtype.element_ty))


def splits_of(waves: int, programs: int, keys: int, device: torch.device) -> int:
    """Parts to divide ``keys`` into, so that ``programs`` of them fill the GPU ``waves`` times."""
    wanted = triton.cdiv(waves * processors(device), programs)
    return max(1, min(int(wanted), -(-keys // _FEWEST_KEYS), _MOST_SPLITS))


def paged_decode(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, pages: torch.Tensor,
    lengths: torch.Tensor, scale: float, window: int, config: Config, longest: int,
) -> torch.Tensor:  # fmt: skip
    """Return [batch, heads, dim]; one query per request, which sees ``lengths`` cached tokens.

    q [batch, heads, dim] bf16; k_cache and v_cache [pages, page, kv_heads, dim] bf16 or E4M3;
    pages [batch, most pages] int32; lengths [batch] int32; window: 0, or tokens that are seen;
    longest: the largest of ``lengths``, known to the host.
    """
    batch, heads, dim = q.shape
    page, kv_heads = k_cache.shape[1:3]
    out = torch.empty_like(q)
    keys = min(longest, window) if window else longest
    splits = splits_of(config.waves, batch * kv_heads, keys, q.device)
    rows, part, tops, totals = batch * heads, out, out, out
    if splits > 1:
        part = torch.empty((rows, splits, dim), dtype=torch.float32, device=q.device)
        tops, totals = torch.empty((2, rows, splits), dtype=torch.float32, device=q.device)
    group = heads // kv_heads
    _split[(batch, kv_heads, splits)](
        q, k_cache, v_cache, pages, lengths, out, part, tops, totals,
        scale * _LOG2E, window, pages.shape[1], splits, kv_heads, group, DIM=dim, PAGE=page,
        BLOCK_H=max(16, triton.next_power_of_2(group)), BLOCK_N=config.keys, WHOLE=splits == 1,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    if splits > 1:
        join_splits[(rows, dim // JOINED)](
            out, part, tops, totals, splits,
            DIM=dim, SPLITS=triton.next_power_of_2(splits), BLOCK_D=JOINED,
        )  # fmt: skip
    return out


def chosen(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, pages: torch.Tensor,
    lengths: torch.Tensor, scale: float, window: int, longest: int,
) -> Config:  # fmt: skip
    """Return the fastest configuration for this shape."""
    shape = ("paged_decode", *q.shape, k_cache.dtype, *k_cache.shape[1:], window, longest)

    def run(config: Config) -> torch.Tensor:
        return paged_decode(q, k_cache, v_cache, pages, lengths, scale, window, config, longest)

    return fastest(shape, CONFIGS[q.shape[2]], run, q.device)
