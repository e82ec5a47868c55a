"""DeepSeek-V2, V3, R1 and Kimi-K2: latent attention, dense first layers, shared experts."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families import tower
from aiconf.model.families.config import Config
from aiconf.model.families.dense import mistral
from aiconf.model.families.family import Family
from aiconf.model.families.moe import dense_then_experts
from aiconf.model.spec import Attention, LayerGroup, MoeFfn


def deepseek(config: Config) -> tuple[LayerGroup, ...]:
    """Read DeepseekV2ForCausalLM and DeepseekV3ForCausalLM; with an indexer V3.2 and GLM-5."""
    heads = config.whole("num_attention_heads")
    nope, rope = config.whole("qk_nope_head_dim"), config.whole("qk_rope_head_dim")
    attention = Attention(
        "mla",
        heads,
        heads,
        nope + rope,
        config.whole("v_head_dim"),
        q_lora_rank=config.whole("q_lora_rank", default=0, least=0),
        kv_lora_rank=config.whole("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
    )
    experts, topk = config.experts("n_routed_experts")
    width = config.whole("moe_intermediate_size")
    ffn = MoeFfn(
        experts,
        topk,
        width,
        shared_intermediate=width * config.whole("n_shared_experts", default=0, least=0),
        router_bias=config.get("topk_method") == "noaux_tc",
    )
    if config.whole("moe_layer_freq", default=1) != 1:
        raise config.problem("moe_layer_freq other than 1 is not modelled")
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    kinds = config.kinds("mlp_layer_types")
    if kinds is not None:  # Glm4MoeLite states both, and its engines read this one
        dense = kinds.count("dense")
        if kinds != ["dense"] * dense + ["sparse"] * (len(kinds) - dense):
            raise config.problem("mlp_layer_types other than dense, then sparse are not modelled")
    groups = dense_then_experts(config, attention, ffn, dense)
    return _indexed(config, attention, groups) if config.get("index_topk") else groups


def mistral3(config: Config) -> tuple[LayerGroup, ...]:
    """Read the text side of Mistral3ForConditionalGeneration.

    Mistral Small 3 and Ministral are dense; Mistral Small 4 (transformers models/mistral4) and
    Large 3 have latent attention and experts.
    """
    return deepseek(config) if config.get("kv_lora_rank") else mistral(config)


def _indexed(
    config: Config, attention: Attention, groups: tuple[LayerGroup, ...]
) -> tuple[LayerGroup, ...]:
    """Give each layer its indexer; layers that share one (``indexer_types``) have none."""
    topk = config.whole("index_topk")
    heads, dim = config.whole("index_n_heads"), config.whole("index_head_dim")
    layers = config.whole("num_hidden_layers")
    kinds = config.kinds("indexer_types") or ["full"] * layers
    if set(kinds) - {"full", "shared"}:
        raise config.problem("indexer_types must be 'full' or 'shared' in each layer")
    shared = replace(attention, index_topk=topk)
    full = replace(shared, index_heads=heads, index_dim=dim)
    found, start = [], 0
    for group in groups:
        own = kinds[start : start + group.count].count("full")
        start += group.count
        found.append(LayerGroup(own, full, group.ffn))
        found.append(LayerGroup(group.count - own, shared, group.ffn))
    return tuple(group for group in found if group.count)


ARCHITECTURES = {
    "DeepseekV2ForCausalLM": Family(deepseek, mtp_ends=True),
    "DeepseekV3ForCausalLM": Family(deepseek, mtp_ends=True),
    "DeepseekV32ForCausalLM": Family(deepseek, mtp_ends=True),
    "Glm4MoeLiteForCausalLM": Family(deepseek),
    "Mistral3ForConditionalGeneration": Family(mistral3, section="text_config"),
    "Mistral4ForCausalLM": Family(deepseek),
    "MistralLarge3ForCausalLM": Family(deepseek),
    "GlmMoeDsaForCausalLM": Family(deepseek),
    "KimiK25ForConditionalGeneration": Family(
        deepseek, section="text_config", vision=tower.moonvit
    ),
}
