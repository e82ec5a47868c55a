"""Shape of a latent-attention block (MLA, dense or sparse) and its speed of light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiconf.perf.light import CACHE_BYTES, FORMATS, Array, peak, roofline
from aiconf.system.spec import Gpu


@dataclass(frozen=True)
class Latent:
    """One MLA block on one rank.

    projection_weights: elements of all its projections. index_topk: tokens that a query attends
    to (0: all), chosen by ``index_heads`` heads of ``index_dim`` (0: chosen by another layer).
    """

    heads: int
    kv_lora_rank: int
    qk_nope: int
    qk_rope: int
    v_head_dim: int
    projection_weights: int
    gemm_dtype: str
    kv_dtype: str
    hidden: int = 0
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0


def _projection_light(gpu: Gpu, shape: Latent, tokens: Array, whole: bool) -> Array:
    kind = FORMATS[shape.gemm_dtype]
    weights = shape.projection_weights * (1.0 if whole else 0.0)
    flops = 2.0 * tokens * weights / peak(gpu, kind.rate)
    return np.maximum(flops, weights * kind.weight_bytes / gpu.memory_bandwidth)


def _index_light(gpu: Gpu, shape: Latent, pairs: Array, keys: Array) -> Array:
    """Score ``pairs`` of query and key in fp8 and read ``keys`` fp8 keys with their scale."""
    if not shape.index_heads:
        return np.zeros(np.broadcast(pairs, keys).shape)
    flops = 2.0 * pairs * shape.index_heads * shape.index_dim
    return roofline(gpu, "fp8", flops, keys * (shape.index_dim + 4.0))


def _absorbed_light(gpu: Gpu, shape: Latent, seen: Array, keys: Array) -> Array:
    """Every head scores ``seen`` latent vectors and sums them up; ``keys`` are read."""
    latent = shape.kv_lora_rank + shape.qk_rope
    flops = 2.0 * seen * shape.heads * (latent + shape.kv_lora_rank)
    return roofline(gpu, "bf16", flops, keys * latent * CACHE_BYTES[shape.kv_dtype])


def decode_light(gpu: Gpu, shape: Latent, whole: bool, batch: Array, past: Array) -> Array:
    """Absorbed form: every head reads the one latent vector of each cached token it attends to."""
    length = past + 1.0
    seen = batch * (np.minimum(length, shape.index_topk) if shape.index_topk else length)
    core = _absorbed_light(gpu, shape, seen, seen)
    if shape.index_topk:
        core = core + _index_light(gpu, shape, batch * length, batch * length)
    return core + _projection_light(gpu, shape, batch, whole)


def prefill_light(gpu: Gpu, shape: Latent, whole: bool, batch: Array, length: Array) -> Array:
    """Prompts without a past.

    Dense: the unabsorbed form, ordinary causal attention with qk_nope + qk_rope and v_head_dim.
    """
    tokens = batch * length
    if shape.index_topk:
        core = sparse_light(gpu, shape, batch, length, np.zeros(np.shape(length)))
    else:
        width = shape.qk_nope + shape.qk_rope + shape.v_head_dim
        pairs = tokens * length / 2.0
        moved = tokens * 2.0 * shape.heads * 2.0 * width
        core = roofline(gpu, "bf16", 2.0 * pairs * shape.heads * width, moved)
    return core + _projection_light(gpu, shape, tokens, whole)


def sparse_light(gpu: Gpu, shape: Latent, batch: Array, chunk: Array, past: Array) -> Array:
    """Sparse attention of ``chunk`` new tokens behind ``past``, without projections.

    The indexer scores every earlier token; the absorbed attention sees ``index_topk`` at most.
    """
    topk, end = float(shape.index_topk), past + chunk
    pairs = chunk * (past + chunk / 2.0)
    # Tokens seen by a query at position t, min(t, topk), summed from past to end.
    below = np.minimum(end, topk) ** 2 - np.minimum(past, topk) ** 2
    seen = below / 2.0 + topk * (np.maximum(end, topk) - np.maximum(past, topk))
    index = _index_light(gpu, shape, batch * pairs, batch * end)
    return index + _absorbed_light(gpu, shape, batch * seen, batch * end)
