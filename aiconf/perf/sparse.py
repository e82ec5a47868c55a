"""Shape of an attention block that reads part of its cache, and its speed of light.

Compressed attention (DeepSeek-V4): a window of recent tokens and one entry per ``ratio`` earlier
ones, all of them or those that an indexer chose. Chosen blocks (MiniMax-M3): ``topk`` keys of the
whole cache. Tables hold such blocks whole, with their projections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiconf.perf.light import CACHE_BYTES, FORMATS, Array, peak, roofline
from aiconf.perf.origin import Origin
from aiconf.perf.tables import Columns, Tables, nearest
from aiconf.system.spec import Gpu


@dataclass(frozen=True)
class Sparse:
    """One block on one rank.

    kind: csa, hca, swa or msa (see `aiconf.model.operation.SparseBlock`). projection_weights:
    elements of all projections. window, ratio, topk, index_heads, index_dim: as there.
    """

    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    ratio: int
    topk: int
    index_heads: int
    index_dim: int
    hidden: int
    projection_weights: int
    gemm_dtype: str
    kv_dtype: str

    @property
    def sparse(self) -> bool:
        """Whether a query attends to part of the cache."""
        return True

    @property
    def entry_bytes(self) -> float:
        """Bytes of one cached entry of all KV heads: a joint vector, or key and value."""
        vectors = 2 if self.kind == "msa" else 1
        return self.kv_heads * vectors * self.head_dim * CACHE_BYTES[self.kv_dtype]

    def projection_light(self, gpu: Gpu, tokens: Array) -> Array:
        """Seconds of the projections of ``tokens``, whose weights are read once."""
        kind = FORMATS[self.gemm_dtype]
        flops = 2.0 * tokens * self.projection_weights / peak(gpu, kind.rate)
        read = self.projection_weights * kind.weight_bytes / gpu.memory_bandwidth
        return np.maximum(flops, read)

    def decode_light(self, gpu: Gpu, whole: bool, batch: Array, past: Array) -> Array:
        """One new token of each of ``batch`` sequences behind ``past``."""
        length = past + 1.0
        seen = batch * self._seen(past, length)
        core = self._core(gpu, seen, seen, batch * length, batch * length)
        return core + self.projection_light(gpu, batch) if whole else core

    def prefill_light(self, gpu: Gpu, whole: bool, batch: Array, length: Array) -> Array:
        """``batch`` prompts without a past."""
        core = self.chunk_light(gpu, batch, length, np.zeros(np.shape(length)))
        return core + self.projection_light(gpu, batch * length) if whole else core

    def chunk_light(self, gpu: Gpu, batch: Array, chunk: Array, past: Array) -> Array:
        """``chunk`` new tokens of each prompt behind ``past``, without projections."""
        end = past + chunk
        seen = self._seen(past, end)
        # Queries of a chunk share what they read: at most every entry there is.
        entries = np.minimum(end, self.window) + (end / self.ratio if self.ratio else 0.0)
        scored = (end**2 - past**2) / 2.0
        read = batch * np.minimum(seen, entries)
        return self._core(gpu, batch * seen, read, batch * scored, batch * end)

    def _seen(self, start: Array, end: Array) -> Array:
        """Entries that the queries at positions from ``start`` to ``end`` attend to, in all."""
        found = _sum_of_least(start, end, self.window) if self.window else np.zeros(np.shape(end))
        if self.ratio:
            first, last = start / self.ratio, end / self.ratio
            found = found + self.ratio * _sum_of_least(first, last, self.topk)
        return found

    def _core(self, gpu: Gpu, seen: Array, read: Array, scored: Array, past: Array) -> Array:
        """Attention to ``seen`` entries, ``read`` from memory, and the choice of them.

        The indexer scores ``scored`` pairs of query and token, and reads a key for each of the
        ``past`` tokens (both divided by ``ratio``): fp8 with a scale, MiniMax-M3's in bf16.
        """
        flops = 4.0 * seen * self.heads * self.head_dim
        core = roofline(gpu, "bf16", flops, read * self.entry_bytes)
        if not self.index_heads or not self.ratio:
            return core
        rate, key = "fp8", self.index_dim + 4.0
        if self.kind == "msa":
            rate, key = "bf16", 2.0 * self.index_dim
        flops = 2.0 * scored / self.ratio * self.index_heads * self.index_dim
        return core + roofline(gpu, rate, flops, past / self.ratio * key)

    def sources(self, tables: Tables, phase: str) -> Iterator[tuple[Columns, bool, Origin]]:
        """Yield the rows that may answer, that they are whole blocks, and their origin at best.

        Nobody measured layers with a window alone: they are read as hca, whose compressed
        entries are few.
        """
        kind = "hca" if self.kind == "swa" else self.kind
        choice = f"{phase}_{kind}.{self.kv_dtype}"
        rows = tables.read(f"sparse_{phase}", choice, kind=kind)
        if rows is not None:
            kept, same = nearest(rows, "hidden", self.hidden)
            own = Origin.INTERPOLATED if tables.borrowed(choice) else Origin.MEASURED
            yield kept, True, own if same and kind == self.kind else Origin.FALLBACK


def _sum_of_least(start: Array, end: Array, limit: float) -> Array:
    """Integral of min(t, limit) from ``start`` to ``end``; ``limit`` 0: of t."""
    if not limit:
        return (end**2 - start**2) / 2.0
    below: Array = np.minimum(end, limit) ** 2 - np.minimum(start, limit) ** 2
    above: Array = np.maximum(end, limit) - np.maximum(start, limit)
    return below / 2.0 + limit * above
