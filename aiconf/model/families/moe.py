"""Qwen3-MoE, Mixtral, MiniMax-M2, GLM-4 MoE and gpt-oss: grouped attention, routed experts."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families import tower
from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, MoeFfn


def qwen3_moe(config: Config) -> tuple[LayerGroup, ...]:
    """Read Qwen3MoeForCausalLM; some layers may be dense (``mlp_only_layers``)."""
    bias = config.flag("attention_bias")
    attention = replace(grouped_attention(config, qk_norm=True), bias=bias, output_bias=bias)
    experts, topk = config.experts("num_experts")
    ffn = MoeFfn(experts, topk, config.whole("moe_intermediate_size"))
    layers = config.whole("num_hidden_layers")
    step = config.whole("decoder_sparse_step", default=1)
    only_dense = config.indices("mlp_only_layers")
    dense = sum(i in only_dense or bool((i + 1) % step) for i in range(layers))
    return dense_then_experts(config, attention, ffn, dense)


def mixtral(config: Config) -> tuple[LayerGroup, ...]:
    """Read MixtralForCausalLM."""
    experts, topk = config.experts("num_local_experts")
    window = config.whole("sliding_window", default=0, least=0) or None
    attention = replace(grouped_attention(config), window=window)
    ffn = MoeFfn(experts, topk, config.whole("intermediate_size"))
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def minimax_m2(config: Config) -> tuple[LayerGroup, ...]:
    """Read MiniMaxM2ForCausalLM; its MTP modules are not in the published checkpoints."""
    experts, topk = config.experts("num_local_experts")
    ffn = MoeFfn(
        experts,
        topk,
        config.whole("intermediate_size"),
        shared_intermediate=config.whole("shared_intermediate_size", default=0, least=0),
        router_bias=config.flag("use_routing_bias"),
        router_float32=True,  # the engines' MiniMaxM2MoE: params_dtype=torch.float32
    )
    normed = config.flag("use_qk_norm")
    attention = replace(grouped_attention(config, qk_norm=normed), qk_norm_joint=normed)
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def glm4_moe(config: Config) -> tuple[LayerGroup, ...]:
    """Read Glm4MoeForCausalLM (GLM-4.5 to 4.7): dense first layers, one shared expert."""
    experts, topk = config.experts("n_routed_experts")
    width = config.whole("moe_intermediate_size")
    ffn = MoeFfn(
        experts,
        topk,
        width,
        shared_intermediate=width * config.whole("n_shared_experts", default=0, least=0),
        router_bias=True,
    )
    attention = grouped_attention(config, qk_norm=config.flag("use_qk_norm"))
    attention = replace(attention, bias=config.flag("attention_bias"))
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    return dense_then_experts(config, attention, ffn, dense)


def gpt_oss(config: Config) -> tuple[LayerGroup, ...]:
    """Read GptOssForCausalLM: windowed and full attention alternate, biases everywhere."""
    experts, topk = config.experts("num_local_experts", "num_experts")
    ffn = MoeFfn(experts, topk, config.whole("intermediate_size"), bias=True)
    bias = config.flag("attention_bias", default=True)
    full = replace(grouped_attention(config), bias=bias, output_bias=bias, sinks=True)
    layers = config.whole("num_hidden_layers")
    kinds = config.kinds("layer_types")
    if kinds is None:
        kinds = [("sliding_attention", "full_attention")[layer % 2] for layer in range(layers)]
    windowed = sum(kind == "sliding_attention" for kind in kinds)
    window = config.whole("sliding_window") if windowed else None
    parts = (
        LayerGroup(windowed, replace(full, window=window), ffn),
        LayerGroup(layers - windowed, full, ffn),
    )
    return tuple(part for part in parts if part.count)


def grouped_attention(config: Config, qk_norm: bool = False) -> Attention:
    """Read heads and head size of grouped attention."""
    heads, kv_heads, size = config.head_counts()
    return Attention("gqa", heads, kv_heads, size, size, qk_norm=qk_norm)


def dense_then_experts(
    config: Config, attention: Attention, ffn: MoeFfn, dense: int
) -> tuple[LayerGroup, ...]:
    """Lay ``dense`` plain layers before the layers with experts."""
    layers = config.whole("num_hidden_layers")
    if dense > layers:
        raise config.problem(f"{dense} dense layers exceed num_hidden_layers {layers}")
    if not dense:
        return (LayerGroup(layers, attention, ffn),)
    plain = LayerGroup(dense, attention, DenseFfn(config.whole("intermediate_size")))
    if dense == layers:
        return (plain,)
    return plain, LayerGroup(layers - dense, attention, ffn)


ARCHITECTURES = {
    "Qwen3VLMoeForConditionalGeneration": Family(
        qwen3_moe, section="text_config", vision=tower.qwen
    ),
    "Qwen3MoeForCausalLM": Family(qwen3_moe),
    "MixtralForCausalLM": Family(mixtral),
    "GptOssForCausalLM": Family(gpt_oss),
    "MiniMaxM2ForCausalLM": Family(minimax_m2),
    "Glm4MoeForCausalLM": Family(glm4_moe),
}
