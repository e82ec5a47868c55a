"""Shape of a latent-attention block (MLA, dense or sparse) and its speed of light."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiconf.perf.light import CACHE_BYTES, FORMATS, Array, peak, roofline
from aiconf.perf.origin import Origin
from aiconf.perf.tables import Columns, Tables, nearest
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

    @property
    def sparse(self) -> bool:
        """Whether a query attends to part of the cache."""
        return bool(self.index_topk)

    def _projection_light(self, gpu: Gpu, tokens: Array, whole: bool) -> Array:
        kind = FORMATS[self.gemm_dtype]
        weights = self.projection_weights * (1.0 if whole else 0.0)
        flops = 2.0 * tokens * weights / peak(gpu, kind.rate)
        return np.maximum(flops, weights * kind.weight_bytes / gpu.memory_bandwidth)

    def _index_light(self, gpu: Gpu, pairs: Array, keys: Array) -> Array:
        """Score ``pairs`` of query and key in fp8 and read ``keys`` fp8 keys with their scale."""
        if not self.index_heads:
            return np.zeros(np.broadcast(pairs, keys).shape)
        flops = 2.0 * pairs * self.index_heads * self.index_dim
        return roofline(gpu, "fp8", flops, keys * (self.index_dim + 4.0))

    def _absorbed_light(self, gpu: Gpu, seen: Array, keys: Array) -> Array:
        """Every head scores ``seen`` latent vectors and sums them up; ``keys`` are read."""
        latent = self.kv_lora_rank + self.qk_rope
        flops = 2.0 * seen * self.heads * (latent + self.kv_lora_rank)
        return roofline(gpu, "bf16", flops, keys * latent * CACHE_BYTES[self.kv_dtype])

    def decode_light(self, gpu: Gpu, whole: bool, batch: Array, past: Array) -> Array:
        """Absorbed form: all heads read the one latent vector of each token they attend to."""
        length = past + 1.0
        seen = batch * (np.minimum(length, self.index_topk) if self.index_topk else length)
        core = self._absorbed_light(gpu, seen, seen)
        if self.index_topk:
            core = core + self._index_light(gpu, batch * length, batch * length)
        return core + self._projection_light(gpu, batch, whole)

    def prefill_light(self, gpu: Gpu, whole: bool, batch: Array, length: Array) -> Array:
        """Prompts without a past.

        Dense: the unabsorbed form, ordinary causal attention with qk_nope + qk_rope and v_head_dim.
        """
        tokens = batch * length
        if self.index_topk:
            core = self.chunk_light(gpu, batch, length, np.zeros(np.shape(length)))
        else:
            width = self.qk_nope + self.qk_rope + self.v_head_dim
            pairs = tokens * length / 2.0
            moved = tokens * 2.0 * self.heads * 2.0 * width
            core = roofline(gpu, "bf16", 2.0 * pairs * self.heads * width, moved)
        return core + self._projection_light(gpu, tokens, whole)

    def chunk_light(self, gpu: Gpu, batch: Array, chunk: Array, past: Array) -> Array:
        """Sparse attention of ``chunk`` new tokens behind ``past``, without projections.

        The indexer scores every earlier token; the absorbed attention sees ``index_topk`` at most.
        """
        topk, end = float(self.index_topk), past + chunk
        pairs = chunk * (past + chunk / 2.0)
        # Tokens seen by a query at position t, min(t, topk), summed from past to end.
        below = np.minimum(end, topk) ** 2 - np.minimum(past, topk) ** 2
        seen = below / 2.0 + topk * (np.maximum(end, topk) - np.maximum(past, topk))
        index = self._index_light(gpu, batch * pairs, batch * end)
        return index + self._absorbed_light(gpu, batch * seen, batch * end)

    def sources(self, tables: Tables, phase: str) -> Iterator[tuple[Columns, bool, Origin]]:
        """Yield the rows that may answer, whether they are whole blocks, their origin at best."""
        if not self.sparse:
            choice = f"{phase}_mla.{self.kv_dtype}"
            for scope in ("kernel", "module", "module_wide"):
                rows = tables.read(f"mla_{phase}", choice, scope=scope)
                if rows is not None:
                    yield rows, scope != "kernel", Origin.MEASURED
            return
        choice = f"{phase}_dsa.{self.kv_dtype}"
        own = Origin.INTERPOLATED if tables.borrowed(choice) else Origin.MEASURED
        for indexer in (bool(self.index_heads), True):
            rows = tables.read(f"dsa_{phase}", choice, indexer=indexer)
            if rows is not None:
                kept, same = nearest(rows, "hidden", self.hidden)
                same = same and indexer == bool(self.index_heads)
                yield kept, True, own if same else Origin.FALLBACK
