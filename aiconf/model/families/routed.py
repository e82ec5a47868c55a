"""Decoders with experts that differ from Qwen3-MoE or Mixtral in small things.

What each has is read in its modeling file (huggingface/transformers, models/NAME).
"""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import dense_then_experts, glm4_moe, grouped_attention
from aiconf.model.spec import DenseFfn, LayerGroup, MoeFfn

Layers = tuple[LayerGroup, ...]


def qwen2_moe(config: Config) -> Layers:
    """Read Qwen2MoeForCausalLM: biases on q, k and v, a gated shared expert."""
    if config.flag("use_sliding_window"):
        raise config.problem("use_sliding_window is not modelled for this architecture")
    attention = replace(grouped_attention(config), bias=config.flag("qkv_bias", default=True))
    experts, topk = config.experts("num_experts")
    shared = config.whole("shared_expert_intermediate_size", default=0, least=0)
    width = config.whole("moe_intermediate_size")
    ffn = MoeFfn(experts, topk, width, shared_intermediate=shared, shared_gate=shared > 0)
    layers, step = config.whole("num_hidden_layers"), config.whole("decoder_sparse_step", default=1)
    only_dense = config.indices("mlp_only_layers")
    dense = sum(i in only_dense or bool((i + 1) % step) for i in range(layers))
    return dense_then_experts(config, attention, ffn, dense)


def granite_moe(config: Config) -> Layers:
    """Read GraniteMoe(Shared)ForCausalLM."""
    attention = replace(grouped_attention(config), bias=config.flag("attention_bias"))
    return (LayerGroup(config.whole("num_hidden_layers"), attention, granite_experts(config)),)


def granite_experts(config: Config) -> MoeFfn | DenseFfn:
    """Read Granite's experts with the block beside them, or that block alone."""
    shared = config.whole("shared_intermediate_size", default=0, least=0)
    if shared and not config.whole("num_local_experts", default=0, least=0):
        return DenseFfn(shared)
    experts, topk = config.experts("num_local_experts")
    return MoeFfn(experts, topk, config.whole("intermediate_size"), shared_intermediate=shared)


def phi_moe(config: Config) -> Layers:
    """Read PhiMoEForCausalLM (Phi-3.5-MoE)."""
    bias = config.flag("attention_bias")
    attention = replace(grouped_attention(config), bias=bias, output_bias=bias)
    window = config.whole("sliding_window", default=0, least=0)
    if 0 < window < config.whole("max_position_embeddings"):
        attention = replace(attention, window=window)
    experts, topk = config.experts("num_local_experts")
    ffn = MoeFfn(experts, topk, config.whole("intermediate_size"))
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def ernie_moe(config: Config) -> Layers:
    """Read Ernie4_5_MoeForCausalLM: experts in each layer but the first."""
    if config.whole("moe_layer_interval", default=1) != 1:
        raise config.problem("moe_layer_interval other than 1 is not modelled")
    layers = config.whole("num_hidden_layers")
    if (config.get("moe_layer_end_index") or -1) not in (-1, layers - 1):
        raise config.problem("dense layers behind layers of experts are not modelled")
    bias = config.flag("use_bias")
    attention = replace(grouped_attention(config), bias=bias, output_bias=bias)
    experts, topk = config.routing(("moe_num_experts",), ("moe_k",))
    width = config.whole("moe_intermediate_size")
    shared = width * config.whole("moe_num_shared_experts", default=0, least=0)
    ffn = MoeFfn(experts, topk, width, shared_intermediate=shared, router_bias=True)
    dense = config.whole("moe_layer_start_index", default=0, least=0)
    return dense_then_experts(config, attention, ffn, dense)


def dots1(config: Config) -> Layers:
    """Read Dots1ForCausalLM: GLM-4.5's layers with norms on q and k."""
    attention = replace(grouped_attention(config, qk_norm=True), bias=config.flag("attention_bias"))
    return tuple(replace(group, attention=attention) for group in glm4_moe(config))


def olmoe(config: Config) -> Layers:
    """Read OlmoeForCausalLM: q and k normed whole, experts of ``intermediate_size``."""
    attention = replace(grouped_attention(config, qk_norm=True), qk_norm_joint=True)
    experts, topk = config.experts("num_experts")
    ffn = MoeFfn(experts, topk, config.whole("intermediate_size"))
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def hunyuan_moe(config: Config) -> Layers:
    """Read HunYuanMoEV1ForCausalLM (Hunyuan-A13B), whose lists have one number for all layers."""
    if config.flag("use_cla"):
        raise config.problem("layers that share a KV cache (use_cla) are not modelled")
    same = Config(
        {key: _same(config, key) for key in ("moe_topk", "moe_intermediate_size", *_SHARED_COUNT)},
        config.source,
    )
    experts, topk = config.whole("num_experts"), same.whole("moe_topk")
    if topk > experts:
        raise config.problem(f"moe_topk {topk} exceeds the {experts} experts")
    width = config.whole("intermediate_size")
    shared = same.whole(*_SHARED_COUNT, default=1, least=0) * config.flag("use_mixed_mlp_moe")
    ffn = MoeFfn(
        experts,
        topk,
        same.whole("moe_intermediate_size", default=width),
        shared_intermediate=width * shared,
    )
    normed, bias = config.flag("use_qk_norm"), config.flag("attention_bias")
    attention = replace(grouped_attention(config, qk_norm=normed), bias=bias, output_bias=bias)
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


_SHARED_COUNT = ("num_shared_expert",)


def _same(config: Config, key: str) -> object:
    """Return the one number of a list, or the number that is no list."""
    value = config.get(key)
    if not isinstance(value, list):
        return value
    if not value or any(entry != value[0] for entry in value):
        raise config.problem(f"'{key}' that differs between layers is not modelled")
    return value[0]


ARCHITECTURES = {
    "Dots1ForCausalLM": Family(dots1),
    "Ernie4_5_MoeForCausalLM": Family(ernie_moe, tied=True),
    "Glm4vMoeForConditionalGeneration": Family(glm4_moe, section="text_config"),
    "GraniteMoeForCausalLM": Family(granite_moe, experts="block_sparse_moe.experts"),
    "GraniteMoeSharedForCausalLM": Family(granite_moe, experts="block_sparse_moe.experts"),
    "HunYuanMoEV1ForCausalLM": Family(hunyuan_moe),
    "OlmoeForCausalLM": Family(olmoe),
    "PhiMoEForCausalLM": Family(phi_moe, experts="block_sparse_moe.experts"),
    "Qwen2MoeForCausalLM": Family(qwen2_moe),
}
