"""Attention blocks that are measured with their projections: latent, compressed, sparse.

Two kinds of tables exist. ``kernel``: the attention kernel of latent attention (DeepSeek-V2,
arXiv 2405.04434) alone; projections are separate products and decode absorbs the KV
up-projection as two batched products (``absorb.py``). The others hold a whole block with its
projections: MLA as vLLM was measured, sparse MLA (DeepSeek-V3.2, GLM-5), compressed attention
(DeepSeek-V4) and chosen blocks (MiniMax-M3). The caller learns which (``BlockKernel.whole``), so
that projections are counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.latent import Latent
from aiconf.perf.light import Array
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.sparse import Sparse
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables, having
from aiconf.system.spec import Gpu

Block = Latent | Sparse


@dataclass(frozen=True)
class BlockKernel:
    """A surface over (batch, length); ``whole``: it contains the projections."""

    surface: Surface | None
    whole: bool
    origin: Origin


def _build(tables: Tables, phase: str, shape: Block) -> BlockKernel:
    axis = "past" if phase == "decode" else "isl"
    for rows, whole, best in shape.sources(tables, phase):
        exact = best
        kept = having(rows, "kv_dtype", shape.kv_dtype, ("bf16", "fp8"))
        if kept is None:
            continue
        if kept["kv_dtype"][0] != shape.kv_dtype:
            exact = Origin.FALLBACK
        if whole:
            kept = having(kept, "gemm_dtype", shape.gemm_dtype, ("fp8_block", "bf16"))
            if kept is None:
                continue
            if kept["gemm_dtype"][0] != shape.gemm_dtype:
                exact = Origin.FALLBACK
        heads = np.unique(kept["heads"])
        near = int(heads[int(np.argmin(np.abs(np.log2(heads / shape.heads))))])
        mask = kept["heads"] == near
        weights = int(shape.projection_weights * near / shape.heads)
        measured_shape = replace(shape, heads=near, projection_weights=weights)
        gpu = tables.system.gpu
        fit = Surface.fit(
            (kept["batch"][mask], kept[axis][mask]),
            kept["seconds"][mask],
            partial(_light(measured_shape, phase), gpu, whole),
            (1, 2 if phase == "prefill" and not whole else 1),
        )
        surface = fit.serving(partial(_light(shape, phase), gpu, whole))
        origin = exact if near == shape.heads else max(exact, Origin.INTERPOLATED)
        return BlockKernel(surface, whole, origin)
    return BlockKernel(None, False, Origin.FALLBACK)


def _light(shape: Block, phase: str) -> Callable[..., Array]:
    return shape.decode_light if phase == "decode" else shape.prefill_light


def block_kernel(tables: Tables, phase: str, shape: Block) -> BlockKernel:
    """The surface that answers ``phase`` ("prefill" or "decode") of this block."""
    key = ("block", phase, shape)
    if key not in tables.built:
        tables.built[key] = _build(tables, phase, shape)
    kernel: BlockKernel = tables.built[key]
    return kernel


def block_decode_seconds(tables: Tables, shape: Block, batch: ArrayLike, past: ArrayLike) -> Array:
    """Decode of ``batch`` sequences with ``past`` cached tokens each (one layer), in seconds."""
    kernel = block_kernel(tables, "decode", shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    p = np.maximum(np.asarray(past, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return shape.decode_light(tables.system.gpu, False, b, p)
    return kernel.surface.seconds(b, p)


def block_prefill_seconds(
    tables: Tables, shape: Block, sequences: ArrayLike, chunk: ArrayLike, past: ArrayLike
) -> Array:
    """Prefill of ``sequences`` chunks of ``chunk`` tokens behind ``past`` (one layer), seconds.

    The past adds the score pairs of q p tokens at the efficiency of the equal causal prompt
    (see ``attention.py``) without its projections.
    """
    kernel = block_kernel(tables, "prefill", shape)
    n = np.maximum(np.asarray(sequences, dtype=np.float64), 1.0)
    q = np.maximum(np.asarray(chunk, dtype=np.float64), 1.0)
    p = np.asarray(past, dtype=np.float64)
    equal = np.sqrt(q * (q + 2.0 * p))
    gpu = tables.system.gpu
    if shape.sparse:
        return _sparse_prefill(gpu, kernel, shape, n, q, p)
    if kernel.surface is None:
        return shape.prefill_light(gpu, False, n, equal)
    own = kernel.surface.seconds(n, q)
    extra = shape.prefill_light(gpu, False, n, equal) - shape.prefill_light(gpu, False, n, q)
    whole = kernel.surface.floor + shape.prefill_light(gpu, kernel.whole, n, equal)
    return own + extra * kernel.surface.seconds(n, equal) / whole


def _sparse_prefill(
    gpu: Gpu, kernel: BlockKernel, shape: Block, n: Array, q: Array, p: Array
) -> Array:
    """What the past adds runs at the measured efficiency of the chunk alone."""
    if kernel.surface is None:
        return shape.chunk_light(gpu, n, q, p)
    own = kernel.surface.seconds(n, q)
    alone = shape.chunk_light(gpu, n, q, np.zeros(q.shape))
    extra = shape.chunk_light(gpu, n, q, p) - alone
    return own + extra * own / (kernel.surface.floor + shape.prefill_light(gpu, True, n, q))


def block_origin(
    tables: Tables, phase: str, shape: Block, batch: ArrayLike, length: ArrayLike
) -> Origins:
    """Origin of each point of ``block_decode_seconds`` or ``block_prefill_seconds``."""
    kernel = block_kernel(tables, phase, shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return unmeasured(b)
    return reached(kernel.surface, kernel.origin, b, np.maximum(length, 1.0))
