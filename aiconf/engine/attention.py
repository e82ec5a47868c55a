"""Attention of one iteration: prefill chunks and decoding sequences, summed over the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.engine.curves import TOKENS, Curves
from aiconf.model.operators import GqaAttention, MlaAttention, Operator, SparseBlock
from aiconf.perf.absorb import mla_absorb_seconds
from aiconf.perf.attention import (
    Heads,
    attention_origin,
    decode_seconds,
    prefill_seconds,
    walk_seconds,
)
from aiconf.perf.block import (
    Block,
    block_decode_seconds,
    block_kernel,
    block_origin,
    block_prefill_seconds,
)
from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.latent import Latent
from aiconf.perf.origin import Origin, Origins
from aiconf.perf.sparse import Sparse
from aiconf.perf.tables import Tables


class AttentionTimer:
    """Times the attention operators of a layout for arrays of batches.

    scale: multiplies every time (see ``Traits.scales``).
    """

    def __init__(
        self, tables: Tables, stage: Sequence[Operator], kv_dtype: str, scale: float = 1.0
    ) -> None:
        self._tables, self._scale = tables, scale
        self._gqa = [
            (Heads(o.heads, o.kv_heads, o.head_dim, o.window, kv_dtype), o.count * scale)
            for o in stage
            if isinstance(o, GqaAttention)
        ]
        self._blocks = [
            (block_shape(o, kv_dtype), o)
            for o in stage
            if isinstance(o, (MlaAttention, SparseBlock))
        ]
        self._project = [_projections(tables, block) for _, block in self._blocks]

    @property
    def whole(self) -> bool:
        """Whether decode is read from a table of whole blocks."""
        return any(block_kernel(self._tables, "decode", shape).whole for shape, _ in self._blocks)

    @property
    def sees_all(self) -> bool:
        """Whether a chunk behind a past is as the causal prompt of as many pairs of tokens."""
        full = all(not heads.window for heads, _ in self._gqa)
        return full and not any(shape.sparse for shape, _ in self._blocks)

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration."""
        total = np.zeros(len(batch))
        for _, _, _, time in self._timed(batch):
            total += time
        return total

    def walk_seconds(self, keys: Array) -> Array:
        """Least seconds of one chunk of a prompt that sees ``keys``, its own included."""
        total = np.zeros(keys.shape)
        for heads, count in self._gqa:
            total += count * walk_seconds(self._tables, heads, keys)
        return total

    def projection_seconds(self, tokens: Array) -> Array:
        """Seconds of the projections of whole blocks that all tokens go through."""
        total = np.zeros(tokens.shape)
        for (_, block), project in zip(self._blocks, self._project, strict=True):
            total += project.every.total_at(tokens) * block.count * self._scale
        return total

    def add(self, attention: Array, batch: Batch) -> None:
        """Add seconds to ``attention``, shape (origin, point), by where they came from."""
        chunk = batch.prefill_tokens / np.maximum(batch.prefill_sequences, 1e-9)
        whole = np.sqrt(chunk * (chunk + 2.0 * batch.prefill_past))
        for shape, phase, fixed, time in self._timed(batch):
            decoding = phase == "decode"
            count = batch.decode if decoding else batch.prefill_sequences
            length = batch.context if decoding else whole
            if fixed is not None:
                origin = fixed
            elif isinstance(shape, Block):
                origin = block_origin(self._tables, phase, shape, count, length)
            else:
                origin = attention_origin(self._tables, phase, shape, count, length)
            for kind in Origin:
                attention[kind] += np.where(origin == kind, time, 0.0)

    def _timed(self, batch: Batch) -> Iterator[tuple[Heads | Block, str, Origins | None, Array]]:
        """Yield (shape, phase, origin where known, seconds of all layers)."""
        tables = self._tables
        prefill, decode = batch.prefill_tokens > 0, batch.decode > 0
        sequences = np.maximum(batch.prefill_sequences, 1e-9)
        chunk = batch.prefill_tokens / sequences
        verified = _verified(batch)
        for heads, count in self._gqa:
            for each in verified if decode.any() else ():
                wide = replace(heads, heads=heads.heads * each) if each > 1 else heads
                time = decode_seconds(tables, wide, batch.decode, batch.context)
                mine = decode & (batch.drafted == each)
                yield wide, "decode", None, np.where(mine, time * count, 0.0)
            if prefill.any():
                own = np.flatnonzero(prefill)
                time = np.zeros(len(batch))
                time[own] = count * prefill_seconds(
                    tables, heads, sequences[own], chunk[own], batch.prefill_past[own]
                )
                yield heads, "prefill", None, time
        for (shape, block), project in zip(self._blocks, self._project, strict=True):
            whole = block_kernel(tables, "decode", shape).whole
            for each in verified if decode.any() else ():
                # Tables of whole blocks hold its projections, which do not grow with heads.
                broad = shape if whole else replace(shape, heads=shape.heads * each)
                time = block_decode_seconds(tables, broad, batch.decode, batch.context)
                if not whole and isinstance(shape, Latent):
                    time = time + mla_absorb_seconds(tables, shape, batch.decode * each)
                mine = decode & (batch.drafted == each)
                yield broad, "decode", None, np.where(mine, time * block.count * self._scale, 0.0)
            if prefill.any():
                time = block_prefill_seconds(tables, shape, sequences, chunk, batch.prefill_past)
                time = time * (block.count * self._scale)
                yield shape, "prefill", None, np.where(prefill, time, 0.0)
            time = self._projected(batch, shape, project)
            yield shape, "projections", project.origin, time * block.count * self._scale

    def _projected(self, batch: Batch, shape: Block, project: _Projections) -> Array:
        """Projections of one block, less what whole-module tables have counted already.

        They run once over all tokens of the iteration, so a prompt beside decodes saves a
        reading of the weights (the value is then negative).
        """
        prompt = batch.prefill_tokens
        rows = batch.decode * batch.drafted
        needed = project.seconds(prompt + rows, prompt)
        if block_kernel(self._tables, "decode", shape).whole:
            needed = needed - project.seconds(batch.decode, np.zeros(len(batch)))
        if block_kernel(self._tables, "prefill", shape).whole:
            needed = needed - project.seconds(prompt, prompt)
        return needed


def _verified(batch: Batch) -> tuple[int, ...]:
    """Tokens per decoding sequence that occur in a batch.

    Tokens that are verified together read the cache of their sequence once: the kernel does
    the work of one token with that many times the query heads.
    """
    if (batch.drafted == 1.0).all():
        return (1,)
    return tuple(int(each) for each in np.unique(batch.drafted))


@dataclass(frozen=True)
class _Projections:
    """Projections of one block: those of all tokens, and those of prompt tokens alone."""

    every: Curves
    prompt: Curves
    origin: Origins  # a single one: the least trustworthy

    def seconds(self, tokens: Array, prompt: Array) -> Array:
        """Seconds for ``tokens`` in all of which ``prompt`` belong to prompts."""
        return self.every.total_at(tokens) + self.prompt.total_at(prompt)


def _projections(tables: Tables, block: MlaAttention | SparseBlock) -> _Projections:
    every, prompt, worst = Curves(), Curves(), 0
    for gemm in block.projections:
        time, origin = gemm_seconds(tables, gemm.dtype, gemm.n, gemm.k, TOKENS)
        (prompt if gemm.tokens == "prefill" else every).add("attention", time, origin)
        worst = max(worst, int(origin[0]))
    every.close()
    prompt.close()
    return _Projections(every, prompt, np.array([worst]))


def block_shape(block: MlaAttention | SparseBlock, kv_dtype: str) -> Block:
    """Return the shape that tables of attention blocks are read by."""
    weights = sum(gemm.n * gemm.k for gemm in block.projections)
    if isinstance(block, SparseBlock):
        return Sparse(
            block.kind, block.heads, block.kv_heads, block.head_dim, block.window, block.ratio,
            block.topk, block.index_heads, block.index_dim, block.hidden, weights,
            block.gemm_dtype, kv_dtype,
        )  # fmt: skip
    return Latent(
        heads=block.heads,
        kv_lora_rank=block.kv_lora_rank,
        qk_nope=block.qk_nope,
        qk_rope=block.qk_rope,
        v_head_dim=block.v_head_dim,
        projection_weights=weights,
        gemm_dtype=block.gemm_dtype,
        kv_dtype=kv_dtype,
        hidden=block.hidden,
        index_heads=block.index_heads,
        index_dim=block.index_dim,
        index_topk=block.index_topk,
    )
