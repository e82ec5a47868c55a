"""Attention of one iteration: prefill chunks and decoding sequences, summed over the layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.model.operators import Gemm, GqaAttention, MlaAttention, Operator
from aiconf.perf.attention import Heads, decode_seconds, prefill_seconds
from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.mla import (
    Latent,
    mla_absorb_seconds,
    mla_decode_seconds,
    mla_prefill_seconds,
)
from aiconf.perf.origin import Origin
from aiconf.perf.tables import Tables


class AttentionTimer:
    """Times the attention operators of a layout, GQA and MLA, for arrays of batches."""

    def __init__(self, tables: Tables, stage: Sequence[Operator], kv_dtype: str) -> None:
        self._tables = tables
        self._gqa = [
            (Heads(o.heads, o.kv_heads, o.head_dim, o.window, kv_dtype), o.count)
            for o in stage
            if isinstance(o, GqaAttention)
        ]
        self._mla = [(_latent(o, kv_dtype), o) for o in stage if isinstance(o, MlaAttention)]

    def add(self, attention: Array, batch: Batch) -> None:
        """Add seconds to ``attention``, shape (origin, point)."""
        prefill, decode = batch.prefill_tokens > 0, batch.decode > 0
        chunk = batch.prefill_tokens / np.maximum(batch.prefill_sequences, 1e-9)
        rows = batch.decode * batch.drafted
        for heads, count in self._gqa:
            if decode.any():
                time, origin = decode_seconds(self._tables, heads, rows, batch.context)
                attention[origin] += np.where(decode, time * count, 0.0)
            if prefill.any():
                time, origin = prefill_seconds(
                    self._tables, heads, batch.prefill_sequences, chunk, batch.prefill_past
                )
                attention[origin] += np.where(prefill, time * count, 0.0)
        for latent, block in self._mla:
            self._add_mla(attention, batch, latent, block)

    def _add_mla(self, attention: Array, batch: Batch, latent: Latent, block: MlaAttention) -> None:
        """Projections run once over all tokens, whichever kind of table answers."""
        tables, count = self._tables, block.count
        rows = batch.decode * batch.drafted
        tokens = batch.prefill_tokens + rows
        project = self._projections(block)
        needed, origin = project(tokens, batch.prefill_tokens)
        counted: Array = np.zeros(len(batch))
        if (batch.decode > 0).any():
            time, kernel = mla_decode_seconds(tables, latent, rows, batch.context)
            if kernel.whole:
                counted = counted + np.where(rows > 0, project(rows, np.zeros(len(batch)))[0], 0.0)
            else:
                time = time + mla_absorb_seconds(tables, latent, rows)[0]
            attention[kernel.origin] += np.where(rows > 0, time * count, 0.0)
        if (batch.prefill_tokens > 0).any():
            sequences = np.maximum(batch.prefill_sequences, 1e-9)
            chunk = batch.prefill_tokens / sequences
            time, kernel = mla_prefill_seconds(
                tables, latent, sequences, chunk, batch.prefill_past
            )
            if kernel.whole:
                own = project(batch.prefill_tokens, batch.prefill_tokens)[0]
                counted = counted + np.where(batch.prefill_tokens > 0, own, 0.0)
            attention[kernel.origin] += np.where(batch.prefill_tokens > 0, time * count, 0.0)
        attention[origin] += np.where(tokens > 0, (needed - counted) * count, 0.0)

    def _projections(self, block: MlaAttention):  # type: ignore[no-untyped-def]
        """Seconds of one block's projections as a function of all tokens and prompt tokens."""

        def project(tokens: Array, prompt: Array) -> tuple[Array, Origin]:
            total, worst = np.zeros(tokens.shape), Origin.MEASURED
            for gemm in block.projections:
                rows = prompt if gemm.tokens == "prefill" else tokens
                time, origin = gemm_seconds(self._tables, gemm.dtype, gemm.n, gemm.k, rows)
                total = total + np.where(rows > 0, time, 0.0)
                worst = max(worst, origin)
            return total, worst

        return project


def _latent(block: MlaAttention, kv_dtype: str) -> Latent:
    weights = sum(gemm.n * gemm.k for gemm in block.projections if isinstance(gemm, Gemm))
    return Latent(
        heads=block.heads,
        kv_lora_rank=block.kv_lora_rank,
        qk_nope=block.qk_nope,
        qk_rope=block.qk_rope,
        v_head_dim=block.v_head_dim,
        projection_weights=weights,
        gemm_dtype=block.gemm_dtype,
        kv_dtype=kv_dtype,
    )
