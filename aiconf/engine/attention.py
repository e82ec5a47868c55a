"""Attention of one iteration: prefill chunks and decoding sequences, summed over the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.model.operators import GqaAttention, MlaAttention, Operator
from aiconf.perf.attention import Heads, attention_origin, decode_seconds, prefill_seconds
from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.mla import (
    Latent,
    mla_absorb_seconds,
    mla_decode_seconds,
    mla_kernel,
    mla_origin,
    mla_prefill_seconds,
)
from aiconf.perf.origin import Origin, Origins
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

    @property
    def whole(self) -> bool:
        """Whether decode is read from a table of whole blocks."""
        return any(mla_kernel(self._tables, "decode", latent).whole for latent, _ in self._mla)

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration."""
        total = np.zeros(len(batch))
        for _, _, _, time in self._timed(batch):
            total += time
        return total

    def add(self, attention: Array, batch: Batch) -> None:
        """Add seconds to ``attention``, shape (origin, point), by where they came from."""
        chunk = batch.prefill_tokens / np.maximum(batch.prefill_sequences, 1e-9)
        whole = np.sqrt(chunk * (chunk + 2.0 * batch.prefill_past))
        rows = batch.decode * batch.drafted
        for shape, phase, fixed, time in self._timed(batch):
            count, length = (
                (rows, batch.context) if phase == "decode" else (batch.prefill_sequences, whole)
            )
            if fixed is not None:
                origin = fixed
            elif isinstance(shape, Latent):
                origin = mla_origin(self._tables, phase, shape, count, length)
            else:
                origin = attention_origin(self._tables, phase, shape, count, length)
            for kind in Origin:
                attention[kind] += np.where(origin == kind, time, 0.0)

    def _timed(
        self, batch: Batch
    ) -> Iterator[tuple[Heads | Latent, str, Origins | None, Array]]:
        """Yield (shape, phase, origin where known, seconds of all layers)."""
        tables = self._tables
        prefill, decode = batch.prefill_tokens > 0, batch.decode > 0
        sequences = np.maximum(batch.prefill_sequences, 1e-9)
        chunk = batch.prefill_tokens / sequences
        rows = batch.decode * batch.drafted
        for heads, count in self._gqa:
            if decode.any():
                time = decode_seconds(tables, heads, rows, batch.context)
                yield heads, "decode", None, np.where(decode, time * count, 0.0)
            if prefill.any():
                time = prefill_seconds(tables, heads, sequences, chunk, batch.prefill_past)
                yield heads, "prefill", None, np.where(prefill, time * count, 0.0)
        for latent, block in self._mla:
            if decode.any():
                time = mla_decode_seconds(tables, latent, rows, batch.context)
                if not mla_kernel(tables, "decode", latent).whole:
                    time = time + mla_absorb_seconds(tables, latent, rows)
                yield latent, "decode", None, np.where(decode, time * block.count, 0.0)
            if prefill.any():
                time = mla_prefill_seconds(tables, latent, sequences, chunk, batch.prefill_past)
                yield latent, "prefill", None, np.where(prefill, time * block.count, 0.0)
            time, origin = self._projections(batch, latent, block)
            yield latent, "projections", origin, time * block.count

    def _projections(
        self, batch: Batch, latent: Latent, block: MlaAttention
    ) -> tuple[Array, Origins]:
        """Projections of one block, less what whole-module tables have counted already.

        They run once over all tokens of the iteration, so a prompt beside decodes saves a
        reading of the weights (the value is then negative).
        """
        prompt = batch.prefill_tokens
        rows = batch.decode * batch.drafted
        needed, origin = self._project(block, prompt + rows, prompt)
        if mla_kernel(self._tables, "decode", latent).whole:
            needed = needed - self._project(block, rows, np.zeros(len(batch)))[0]
        if mla_kernel(self._tables, "prefill", latent).whole:
            needed = needed - self._project(block, prompt, prompt)[0]
        return needed, origin

    def _project(self, block: MlaAttention, tokens: Array, prompt: Array) -> tuple[Array, Origins]:
        total, worst = np.zeros(tokens.shape), np.zeros(tokens.shape, dtype=np.intp)
        for gemm in block.projections:
            rows = prompt if gemm.tokens == "prefill" else tokens
            time, origin = gemm_seconds(self._tables, gemm.dtype, gemm.n, gemm.k, rows)
            total = total + np.where(rows > 0, time, 0.0)
            worst = np.maximum(worst, np.where(rows > 0, origin, 0))
        return total, worst


def _latent(block: MlaAttention, kv_dtype: str) -> Latent:
    return Latent(
        heads=block.heads,
        kv_lora_rank=block.kv_lora_rank,
        qk_nope=block.qk_nope,
        qk_rope=block.qk_rope,
        v_head_dim=block.v_head_dim,
        projection_weights=sum(gemm.n * gemm.k for gemm in block.projections),
        gemm_dtype=block.gemm_dtype,
        kv_dtype=kv_dtype,
    )
