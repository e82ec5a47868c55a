"""What a sequence holds on a GPU: KV bytes per token, state bytes of linear attention."""

from __future__ import annotations

from aiconf.model.formats import cache_bytes_per_element
from aiconf.model.shard import mixed_width, rank_kv_heads, stages
from aiconf.model.spec import Attention, LinearAttention, ModelSpec
from aiconf.parallel import Parallel


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
    found: dict[int | None, float] = {}
    cut = [
        [(g.attention, g.count) for g in stage if isinstance(g.attention, Attention)]
        for stage in stages(spec, parallel)
    ]
    for window in {attention.window for attention, _ in spec.softmax}:
        found[window] = max(
            sum(n * _kv_bytes(a, parallel.tp, kv) for a, n in stage if a.window == window)
            for stage in cut
        )
    order = sorted(found, key=lambda window: window or 0)
    return tuple((window, found[window]) for window in order)


def state_bytes(spec: ModelSpec, parallel: Parallel) -> float:
    """Bytes that the linear-attention layers keep per sequence and GPU, however long it is.

    The recurrence's matrices in float32 (``mamba_ssm_dtype`` of the checkpoints) and the last
    inputs of the convolution in bf16, on the pipeline stage with the most such layers (SGLang
    configs/mamba_utils.py, vLLM MambaStateShapeCalculator.gated_delta_net_state_shape).
    """
    return max(
        sum(
            g.count * _state(g.attention, parallel.tp)
            for g in stage
            if isinstance(g.attention, LinearAttention)
        )
        for stage in stages(spec, parallel)
    )


def _state(attention: LinearAttention, tp: int) -> float:
    matrices = attention.value_heads // tp * attention.key_dim * attention.value_dim
    return 4.0 * matrices + 2.0 * (attention.taps - 1) * mixed_width(attention, tp)


def kv_bytes_per_token(spec: ModelSpec, parallel: Parallel, kv_dtype: str | None = None) -> float:
    """KV bytes that one more token takes per GPU, windows not yet full (`kv_layout` has both).

    GQA: keys and values of the rank's KV heads. MLA: the latent and its rope part, whole on
    every tp rank. Sparse MLA: also the indexer's key, and in fp8 the latent's scales.
    """
    return sum(size for _, size in kv_layout(spec, parallel, kv_dtype))


def _kv_bytes(attention: Attention, tp: int, kv: str) -> float:
    size = cache_bytes_per_element(kv)
    if attention.kind == "gqa":
        width = attention.head_dim + attention.v_head_dim
        return rank_kv_heads(attention, tp) * width * size
    latent = (attention.kv_lora_rank + attention.qk_rope_head_dim) * size
    if not attention.index_topk:
        return latent
    if kv == "fp8":
        # FlashMLA's layout (deepseek-ai/FlashMLA, README): the latent in fp8, a float32 scale
        # for each 128 of it, the rotary part in bf16; 656 bytes for 512 + 64.
        latent = attention.kv_lora_rank * (1 + 4 / 128) + 2 * attention.qk_rope_head_dim
    # The indexer's key is fp8 with one float32 scale (DeepSeek-V3.2 inference code).
    return latent + (attention.index_dim + 4 if attention.index_heads else 0)
