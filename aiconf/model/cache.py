"""What a sequence holds on a GPU: KV bytes per token, state bytes of linear attention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

from aiconf.model.formats import cache_bytes_per_element
from aiconf.model.shard import mixed_width, rank_kv_heads, stages
from aiconf.model.spec import Attention, LinearAttention, ModelSpec
from aiconf.parallel import Parallel

CacheKind = Literal["gqa", "mla", "indexed", "compressed", "chosen"]
LATENT: tuple[CacheKind, ...] = ("mla", "indexed", "compressed")  # one vector for all heads


def cache_kind(spec: ModelSpec) -> CacheKind:
    """Return which kernels read the KV cache of ``spec``, which decides the size of its blocks.

    ``indexed``: latent attention to tokens that an indexer chooses (DeepSeek-V3.2, GLM-5);
    ``chosen``: grouped attention to blocks of keys that one chooses.
    """
    blocks = [attention for attention, _ in spec.softmax]
    if any(block.kind == "compressed" for block in blocks):
        return "compressed"
    if any(block.kind == "mla" for block in blocks):
        return "indexed" if any(block.index_topk for block in blocks) else "mla"
    return "chosen" if any(block.index_topk for block in blocks) else "gqa"


def kv_layout(
    spec: ModelSpec, parallel: Parallel, kv_dtype: str | None = None
) -> tuple[tuple[int | None, float], ...]:
    """KV bytes per token and GPU, by attention window.

    Returns
    -------
    tuple of (window, bytes per token)
        ``window`` None: the cache grows with every token; else it stops growing at that many
        tokens. On the pipeline stage with the most layers.
    """
    kv = kv_dtype or spec.quantization.kv
    cut: list[dict[int | None, float]] = [defaultdict(float) for _ in range(parallel.pp)]
    for sums, stage in zip(cut, stages(spec, parallel), strict=True):
        for group in stage:
            if isinstance(group.attention, Attention):
                for window, size in layer_caches(group.attention, parallel.tp, kv):
                    sums[window] += group.count * size
    found = {window: max(each.get(window, 0.0) for each in cut) for sums in cut for window in sums}
    order = sorted(found, key=lambda window: window or 0)
    return tuple((window, found[window]) for window in order)


def state_bytes(spec: ModelSpec, parallel: Parallel) -> float:
    """Bytes that layers keep per sequence and GPU, however long it is.

    Linear attention: the recurrence's matrices in float32 (``mamba_ssm_dtype`` of the
    checkpoints) and the last inputs of the convolution in bf16 (SGLang configs/mamba_utils.py,
    vLLM MambaStateShapeCalculator.gated_delta_net_state_shape). Compressed attention: what the
    compressors have not yet closed, in float32. On the pipeline stage with the most of it.
    """
    return max(
        sum(g.count * layer_state(g.attention, parallel.tp) for g in stage if g.attention)
        for stage in stages(spec, parallel)
    )


def layer_state(attention: Attention | LinearAttention, tp: int) -> float:
    """Bytes that one layer keeps per sequence and GPU, however long it is."""
    if isinstance(attention, Attention):
        return sum(
            window * size
            for name, window, size in packed_caches(attention, "fp8")
            if name == "state" and window
        )
    matrices = attention.value_heads // tp * attention.key_dim * attention.value_dim
    return 4.0 * matrices + 2.0 * (attention.taps - 1) * mixed_width(attention, tp)


def packed_caches(
    attention: Attention, kv: str
) -> Iterator[tuple[Literal["window", "entries", "state"], int | None, float]]:
    """Yield (what, tokens that stay, bytes per token) of each cache of compressed attention.

    A window of entries; compressed entries and the indexer's keys; and for both of these what
    the next ones are made of: keys and scores in float32. Groups of 4 overlap by one group and
    have twice the width (vLLM models/deepseek_v4/compressor.py, CompressorStateCache: window
    and state_dim).
    """
    if attention.kind != "compressed":
        return
    entry = attention.head_dim * cache_bytes_per_element(kv)
    if kv == "fp8":
        # vLLM models/deepseek_v4/attention.py: the part without rotation in fp8 with a scale
        # byte for each 64 and one of padding, the rotated part in bf16; 584 bytes of 512 elements.
        plain = attention.head_dim - attention.qk_rope_head_dim
        entry = plain + plain / 64 + 1 + 2.0 * attention.qk_rope_head_dim
    yield "window", attention.window, entry
    if not attention.compress:
        return
    overlap = 2 if attention.index_heads else 1
    open_tokens = overlap * attention.compress
    yield "entries", None, entry / attention.compress
    yield "state", open_tokens, 4.0 * 2 * overlap * attention.head_dim
    if attention.index_heads:
        yield "entries", None, _index_bytes(attention) / attention.compress
        yield "state", open_tokens, 4.0 * 2 * overlap * attention.index_dim


def kv_bytes_per_token(spec: ModelSpec, parallel: Parallel, kv_dtype: str | None = None) -> float:
    """KV bytes that one more token takes per GPU, windows not yet full (`kv_layout` has both).

    GQA: keys and values of the rank's KV heads. MLA: the latent and its rope part, whole on
    every tp rank. Sparse MLA: also the indexer's key, and in fp8 the latent's scales. Compressed:
    one entry for the window, and its share of one for ``compress`` tokens.
    """
    return sum(size for _, size in kv_layout(spec, parallel, kv_dtype))


def layer_caches(attention: Attention, tp: int, kv: str) -> Iterator[tuple[int | None, float]]:
    """Yield (window, bytes per token) of one layer on one GPU; None: every token stays."""
    if attention.kind != "compressed":
        yield attention.window, _kv_bytes(attention, tp, kv)
        return
    for name, window, size in packed_caches(attention, kv):
        if name != "state":
            yield window, size


def _index_bytes(attention: Attention) -> float:
    """An indexer's key: fp8 with one float32 scale (DeepSeek-V3.2 inference code)."""
    return attention.index_dim + 4.0 if attention.index_heads else 0.0


def _kv_bytes(attention: Attention, tp: int, kv: str) -> float:
    size = cache_bytes_per_element(kv)
    if attention.kind == "gqa":
        width = attention.head_dim + attention.v_head_dim
        # MiniMax-M3's index key is one bf16 vector (vLLM models/minimax_m3/common/indexer.py).
        index = 2.0 * attention.index_dim if attention.index_heads else 0.0
        return rank_kv_heads(attention, tp) * width * size + index
    latent = (attention.kv_lora_rank + attention.qk_rope_head_dim) * size
    if not attention.index_topk:
        return latent
    if kv == "fp8":
        # FlashMLA's layout (deepseek-ai/FlashMLA, README): the latent in fp8, a float32 scale
        # for each 128 of it, the rotary part in bf16; 656 bytes for 512 + 64.
        latent = attention.kv_lora_rank * (1 + 4 / 128) + 2 * attention.qk_rope_head_dim
    return latent + _index_bytes(attention)
