"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): prefill and decode.

Two kinds of tables exist. ``kernel``: the attention kernel alone; projections are separate
products and decode absorbs the KV up-projection as two batched products (``mla_bmm``).
``module``: a whole block with its projections, as vLLM was measured. The caller learns which
(``MlaKernel.whole``), so that projections are counted once. Sparse blocks (DeepSeek-V3.2, GLM-5)
have tables of their own, which hold whole blocks by the hidden size of their model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.latent import Latent, decode_light, prefill_light, sparse_light
from aiconf.perf.light import Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Columns, Tables
from aiconf.system.spec import Gpu


@dataclass(frozen=True)
class MlaKernel:
    """A surface over (batch, length); ``whole``: it contains the projections."""

    surface: Surface | None
    whole: bool
    origin: Origin


def _filtered(rows: Columns, name: str, wanted: str, instead: tuple[str, ...]) -> Columns | None:
    for value in (wanted, *instead):
        mask = rows[name] == value
        if mask.any():
            return {key: column[mask] for key, column in rows.items()}
    return None


def _sources(tables: Tables, phase: str, shape: Latent) -> Iterator[tuple[Columns, bool, Origin]]:
    """Yield the rows that may answer, whether they are whole blocks, and their origin at best."""
    if not shape.index_topk:
        choice = f"{phase}_mla.{shape.kv_dtype}"
        for scope in ("kernel", "module", "module_wide"):
            rows = tables.read(f"mla_{phase}", choice, scope=scope)
            if rows is not None:
                yield rows, scope != "kernel", Origin.MEASURED
        return
    choice = f"{phase}_dsa.{shape.kv_dtype}"
    for indexer in (bool(shape.index_heads), True):
        rows = tables.read(f"dsa_{phase}", choice, indexer=indexer)
        if rows is not None:
            sizes = np.unique(rows["hidden"])
            near = sizes[int(np.argmin(np.abs(np.log2(sizes / shape.hidden))))]
            mask = rows["hidden"] == near
            same = near == shape.hidden and indexer == bool(shape.index_heads)
            own = Origin.INTERPOLATED if tables.borrowed(choice) else Origin.MEASURED
            best = own if same else Origin.FALLBACK
            yield {key: column[mask] for key, column in rows.items()}, True, best


def _build(tables: Tables, phase: str, shape: Latent) -> MlaKernel:
    axis = "past" if phase == "decode" else "isl"
    light = decode_light if phase == "decode" else prefill_light
    for rows, whole, best in _sources(tables, phase, shape):
        exact = best
        kept = _filtered(rows, "kv_dtype", shape.kv_dtype, ("bf16", "fp8"))
        if kept is None:
            continue
        if kept["kv_dtype"][0] != shape.kv_dtype:
            exact = Origin.FALLBACK
        if whole:
            kept = _filtered(kept, "gemm_dtype", shape.gemm_dtype, ("fp8_block", "bf16"))
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
            partial(light, gpu, measured_shape, whole),
            (1, 2 if phase == "prefill" and not whole else 1),
        )
        surface = fit.serving(partial(light, gpu, shape, whole))
        origin = exact if near == shape.heads else max(exact, Origin.INTERPOLATED)
        return MlaKernel(surface, whole, origin)
    return MlaKernel(None, False, Origin.FALLBACK)


def mla_kernel(tables: Tables, phase: str, shape: Latent) -> MlaKernel:
    """The surface that answers ``phase`` ("prefill" or "decode") of this block."""
    key = ("mla", phase, shape)
    if key not in tables.built:
        tables.built[key] = _build(tables, phase, shape)
    kernel: MlaKernel = tables.built[key]
    return kernel


def mla_decode_seconds(tables: Tables, shape: Latent, batch: ArrayLike, past: ArrayLike) -> Array:
    """Decode of ``batch`` sequences with ``past`` cached tokens each (one layer), in seconds."""
    kernel = mla_kernel(tables, "decode", shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    p = np.maximum(np.asarray(past, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return decode_light(tables.system.gpu, shape, False, b, p)
    return kernel.surface.seconds(b, p)


def mla_prefill_seconds(
    tables: Tables, shape: Latent, sequences: ArrayLike, chunk: ArrayLike, past: ArrayLike
) -> Array:
    """Prefill of ``sequences`` chunks of ``chunk`` tokens behind ``past`` (one layer), seconds.

    The past adds the score pairs of q p tokens at the efficiency of the equal causal prompt
    (see ``attention.py``) without its projections.
    """
    kernel = mla_kernel(tables, "prefill", shape)
    n = np.maximum(np.asarray(sequences, dtype=np.float64), 1.0)
    q = np.maximum(np.asarray(chunk, dtype=np.float64), 1.0)
    p = np.asarray(past, dtype=np.float64)
    equal = np.sqrt(q * (q + 2.0 * p))
    gpu = tables.system.gpu
    if shape.index_topk:
        return _sparse_prefill(gpu, kernel, shape, n, q, p)
    if kernel.surface is None:
        return prefill_light(gpu, shape, False, n, equal)
    own = kernel.surface.seconds(n, q)
    extra = prefill_light(gpu, shape, False, n, equal) - prefill_light(gpu, shape, False, n, q)
    whole = kernel.surface.floor + prefill_light(gpu, shape, kernel.whole, n, equal)
    return own + extra * kernel.surface.seconds(n, equal) / whole


def _sparse_prefill(
    gpu: Gpu, kernel: MlaKernel, shape: Latent, n: Array, q: Array, p: Array
) -> Array:
    """What the past adds runs at the measured efficiency of the chunk alone."""
    if kernel.surface is None:
        return sparse_light(gpu, shape, n, q, p)
    own = kernel.surface.seconds(n, q)
    alone = sparse_light(gpu, shape, n, q, np.zeros(q.shape))
    extra = sparse_light(gpu, shape, n, q, p) - alone
    return own + extra * own / (kernel.surface.floor + prefill_light(gpu, shape, True, n, q))


def mla_origin(
    tables: Tables, phase: str, shape: Latent, batch: ArrayLike, length: ArrayLike
) -> Origins:
    """Origin of each point of ``mla_decode_seconds`` or ``mla_prefill_seconds``."""
    kernel = mla_kernel(tables, phase, shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return unmeasured(b)
    return reached(kernel.surface, kernel.origin, b, np.maximum(length, 1.0))


def mla_absorb_seconds(tables: Tables, shape: Latent, tokens: ArrayLike) -> Array:
    """The two batched products that absorb the KV up-projection in decode (one layer)."""
    count = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    key = ("mla_bmm", shape)
    if key not in tables.built:
        tables.built[key] = _absorb_surfaces(tables, shape)
    surfaces = tables.built[key]
    if not surfaces:
        return _absorb_light(tables.system.gpu, shape, count) * 2.0
    total = np.zeros(count.shape)
    for surface in surfaces:
        total = total + surface.seconds(count)
    return total


def _absorb_light(gpu: Gpu, shape: Latent, tokens: Array) -> Array:
    """x[tokens, heads, nope] times w[heads, nope, rank], bf16."""
    weights = shape.heads * shape.qk_nope * shape.kv_lora_rank
    moved = 2.0 * (weights + tokens * shape.heads * (shape.qk_nope + shape.kv_lora_rank))
    return roofline(gpu, "bf16", 2.0 * tokens * weights, moved)


def _absorb_surfaces(tables: Tables, shape: Latent) -> list[Surface]:
    surfaces = []
    gpu = tables.system.gpu
    for op in ("pre", "post"):
        rows = tables.read("mla_bmm", op=op)
        rows = rows and (_filtered(rows, "dtype", "bf16", ("fp8",)) or rows)
        if rows is None:
            return []
        heads = np.unique(rows["heads"])
        near = heads[int(np.argmin(np.abs(np.log2(heads / shape.heads))))]
        mask = rows["heads"] == near
        light = partial(_absorb_light, gpu, replace(shape, heads=int(near)))
        found = Surface.fit((rows["tokens"][mask],), rows["seconds"][mask], light)
        surfaces.append(found.serving(partial(_absorb_light, gpu, shape)))
    return surfaces
