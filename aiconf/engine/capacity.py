"""Memory of one GPU of a worker: what is taken, and how many tokens and sequences fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.engine.pages import Pages, shared_pages
from aiconf.engine.traits import Traits
from aiconf.model.cache import LATENT, cache_kind, kv_layout, state_bytes
from aiconf.model.expert_kernel import ExpertKernel
from aiconf.model.memory import weight_bytes
from aiconf.model.rotary import rotary_bytes
from aiconf.model.spec import DenseFfn, ModelSpec, MoeFfn, draft_model
from aiconf.parallel import Parallel
from aiconf.system.spec import System

Array = NDArray[np.float64]

# Share of a GPU's memory that the search leaves empty, since the model of memory may miss that
# much (docs/decisions/memory-margin.md).
TIGHT = 0.03


@dataclass(frozen=True)
class Capacity:
    """Bytes of the fullest GPU of a worker.

    weights: as the engine holds them, its tables of rotary angles included. kv: bytes that become
    KV blocks (0 or less: the model does not fit). per_token: KV bytes of one cached token by
    sliding window (None: never forgotten). state: bytes of a sequence in linear attention,
    however long it is. block: tokens of a KV block. pages: how caches of several kinds share one
    pool (None: each has its own blocks). passing: bytes of ``kv`` that windowed caches need for
    the prompts of one iteration, until those are computed.
    """

    total: float
    reserved: float
    weights: float
    activations: float
    graphs: float
    kv: float
    fraction: float
    per_token: tuple[tuple[int | None, float], ...]
    block: int
    state: float = 0.0
    pages: Pages | None = None
    passing: float = 0.0

    @property
    def lasting(self) -> float:
        """Bytes of ``kv`` for what sequences keep while they decode."""
        return self.kv - self.passing

    def sequence_bytes(self, tokens: ArrayLike) -> Array:
        """KV and state bytes that a sequence of ``tokens`` takes up (half a block lost)."""
        if self.pages is not None:
            return self.pages.sequence_bytes(tokens)
        return self.cache_bytes(tokens)

    def cache_bytes(self, tokens: ArrayLike) -> Array:
        """Bytes of a sequence's own caches, whole blocks: what moves from worker to worker."""
        length = np.asarray(tokens, dtype=np.float64) + self.block / 2.0
        held: Array = np.full(length.shape, self.state)
        for window, each in self.per_token:
            seen = length if window is None else np.minimum(length, window + self.block)
            held = held + seen * each
        return held

    def sequences(self, isl: float, osl: float, spare: float = 0.0) -> float:
        """Running sequences of one attention rank that fit in steady state.

        A decoding sequence holds its prompt and half its output on average, with a standard
        deviation of osl / sqrt(12); two deviations of the sum over sequences are kept free, so
        that preemption is rare: n mean + 2 deviation sqrt(n) = kv, solved for n.
        spare: bytes of ``kv`` that shall stay empty.
        """
        room = self.lasting - spare
        if room <= 0 or float(self.sequence_bytes(isl + osl)) > room:
            return 0.0
        mean, spread = self._spread(isl, osl)
        root = (-2.0 * spread + (4.0 * spread**2 + 4.0 * mean * room) ** 0.5) / (2.0 * mean)
        return float(max(root**2, 1.0))

    def held(self, sequences: float, isl: float, osl: float) -> float:
        """Bytes that so many running sequences of one attention rank need (see ``sequences``)."""
        mean, spread = self._spread(isl, osl)
        return float(sequences * mean + 2.0 * spread * sequences**0.5)

    def _spread(self, isl: float, osl: float) -> tuple[float, float]:
        """Mean bytes of a running sequence and their standard deviation."""
        mean = float(self.sequence_bytes(isl + osl / 2.0))
        most, least = float(self.sequence_bytes(isl + osl)), float(self.sequence_bytes(isl))
        return mean, (most - least) / 12**0.5


def _ffn_width(spec: ModelSpec, parallel: Parallel) -> float:
    """Widest feed-forward activation of one token on one rank, in elements."""
    widths = []
    for group in spec.layers:
        if isinstance(group.ffn, DenseFfn):
            widths.append(group.ffn.intermediate / parallel.tp)
        elif isinstance(group.ffn, MoeFfn):
            routed = group.ffn.intermediate / parallel.moe_tp + spec.hidden
            share = parallel.dp / parallel.ep  # tokens of all ranks, over the experts' ranks
            widths.append(group.ffn.topk * routed * min(share, 1.0))
    return max(widths)


@lru_cache(maxsize=4096)
def _held(
    spec: ModelSpec, parallel: Parallel, kv_dtype: str, drafting: bool, experts: ExpertKernel
) -> tuple[float, tuple[tuple[int | None, float], ...], float, float]:
    """Weights, KV bytes per token, state and feed-forward width: the same for every setting."""
    cache = dict(kv_layout(spec, parallel, kv_dtype))
    if drafting:
        for window, size in kv_layout(draft_model(spec), replace(parallel, pp=1), kv_dtype):
            cache[window] = cache.get(window, 0.0) + size
    return (
        weight_bytes(spec, parallel, drafting, experts),
        tuple(sorted(cache.items(), key=lambda item: item[0] or 0)),
        state_bytes(spec, parallel),
        _ffn_width(spec, parallel),
    )


def gathered_bytes(spec: ModelSpec, traits: Traits, sm: int, kv_dtype: str, longest: int) -> float:
    """Bytes in which entries of an fp8 cache stand once more in bf16 for prompts to read.

    longest: tokens of the longest request that the engine is told of.
    """
    requests = traits.gathered_requests(cache_kind(spec), sm)
    if kv_dtype != "fp8" or not requests:
        return 0.0
    blocks = [block for block, _ in spec.softmax]
    width = max(block.kv_lora_rank + block.qk_rope_head_dim for block in blocks)
    share = 1
    if cache_kind(spec) == "compressed":
        width = max(block.head_dim for block in blocks)
        share = min((block.compress for block in blocks if block.compress), default=1)
    return 2.0 * requests * -(-longest // share) * width


def capacity(
    spec: ModelSpec,
    system: System,
    parallel: Parallel,
    traits: Traits,
    *,
    token_budget: int,
    max_sequences: int,
    kv_dtype: str,
    fraction: float | None = None,
    drafting: bool = False,
    longest: int | None = None,
) -> Capacity:
    """Memory of one GPU as the engine will divide it.

    token_budget and max_sequences: of one attention rank. fraction: the engine's memory
    setting (None: its default). See ``Traits.kv_bytes`` for what each engine means by it.
    drafting: a draft layer with its cache is held too (speculative decoding). longest: tokens
    of the longest request that the engine is told of (None: no room is made for it).
    """
    gpu = system.gpu
    mla = cache_kind(spec) in LATENT
    if fraction is None:
        fraction = traits.memory_fraction(
            gpu.memory_bytes, gpu.sm, parallel, token_budget=token_budget * parallel.dp, mla=mla
        )
        fraction = round(fraction - traits.memory.margin, 4)
    weights, per_token, state, width = _held(
        spec, parallel, kv_dtype, drafting, traits.expert_kernel(spec, gpu.sm)
    )
    weights += rotary_bytes(spec, traits.memory.rotary_element)
    activations = traits.activation_bytes(
        tokens=token_budget,
        hidden=spec.hidden,
        width=width,
        rows=max_sequences,
        vocab=spec.vocab,
    )
    activations += traits.workspace_bytes(parallel)
    activations += gathered_bytes(spec, traits, gpu.sm, kv_dtype, longest or 0)
    reserved = system.reserved_bytes + traits.buffer_bytes(parallel)
    largest = traits.largest_graph(gpu.memory_bytes, gpu.sm, parallel.stage_gpus)
    graphs = traits.graph_bytes(traits.graph_sizes(max_sequences, largest))
    kv = traits.kv_bytes(
        fraction,
        total=gpu.memory_bytes,
        reserved=reserved,
        weights=weights,
        activations=activations,
        graphs=graphs,
    )
    block, rule = traits.block_tokens(gpu.sm, cache_kind(spec)), traits.kv.shared_pages
    pages = shared_pages(spec, parallel, kv_dtype, rule, block, drafting)
    if rule is not None and spec.architecture in rule.whole_windows:
        per_token = ((None, sum(size for _, size in per_token)),)
    return Capacity(
        total=gpu.memory_bytes,
        reserved=reserved,
        weights=weights,
        activations=activations,
        graphs=graphs,
        kv=kv,
        fraction=fraction,
        per_token=per_token,
        block=block,
        state=state,
        pages=pages,
        passing=pages.passing_bytes(token_budget, longest) if pages else 0.0,
    )
