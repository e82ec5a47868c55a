"""Qwen3-Next, Qwen3.5 and 3.6: gated delta net with full attention in every fourth layer."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families import tower
from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import grouped_attention
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, LinearAttention, MoeFfn


def qwen3_next(config: Config) -> tuple[LayerGroup, ...]:
    """Read Qwen3NextForCausalLM and the text side of Qwen3_5(Moe)ForConditionalGeneration.

    Sources: transformers models/qwen3_next and models/qwen3_5. Full attention has norms on q and
    k and, where ``attn_output_gate`` does not say otherwise, an output gate of q's width.
    """
    layers = config.whole("num_hidden_layers")
    kinds = config.kinds("layer_types")
    if kinds is None:
        interval = config.whole("full_attention_interval", default=4)
        full = layers // interval
    else:
        unknown = sorted(set(kinds) - {"linear_attention", "full_attention"})
        if unknown:
            raise config.problem(f"layer type '{unknown[0]}' is not modelled")
        full = kinds.count("full_attention")
    ffn = _ffn(config)
    # The kinds alternate; what matters is how many there are of each.
    groups = (
        LayerGroup(layers - full, _gated_delta(config), ffn),
        LayerGroup(full, _full(config), ffn),
    )
    return tuple(group for group in groups if group.count)


def _full(config: Config) -> Attention:
    bias = config.flag("attention_bias")
    gate = config.flag("attn_output_gate", default=True)
    attention = grouped_attention(config, qk_norm=True)
    return replace(attention, bias=bias, output_bias=bias, output_gate=gate)


def _gated_delta(config: Config) -> LinearAttention:
    keys = config.whole("linear_num_key_heads")
    values = config.whole("linear_num_value_heads")
    if values % keys:
        raise config.problem(
            f"linear_num_value_heads {values} is not a multiple of linear_num_key_heads {keys}"
        )
    return LinearAttention(
        "gdn",
        keys,
        values,
        config.whole("linear_key_head_dim"),
        config.whole("linear_value_head_dim"),
        config.whole("linear_conv_kernel_dim"),
    )


def _ffn(config: Config) -> DenseFfn | MoeFfn:
    if not config.whole("num_experts", default=0, least=0):
        return DenseFfn(config.whole("intermediate_size"))
    if config.get("mlp_only_layers") or config.whole("decoder_sparse_step", default=1) != 1:
        raise config.problem("dense layers among layers of experts are not modelled here")
    experts, topk = config.experts("num_experts")
    shared = config.whole("shared_expert_intermediate_size", default=0, least=0)
    width = config.whole("moe_intermediate_size")
    return MoeFfn(experts, topk, width, shared_intermediate=shared, shared_gate=shared > 0)


ARCHITECTURES = {
    "Qwen3NextForCausalLM": Family(qwen3_next),
    "Qwen3_5ForCausalLM": Family(qwen3_next),
    "Qwen3_5MoeForCausalLM": Family(qwen3_next),
    "Qwen3_5ForConditionalGeneration": Family(qwen3_next, section="text_config", vision=tower.qwen),
    "Qwen3_5MoeForConditionalGeneration": Family(
        qwen3_next, section="text_config", vision=tower.qwen
    ),
}
