"""Ling and Ring 2.0: grouped attention with normed heads, small experts behind a dense layer."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import dense_then_experts, grouped_attention
from aiconf.model.spec import LayerGroup, MoeFfn


def bailing_moe_v2(config: Config) -> tuple[LayerGroup, ...]:
    """Read BailingMoeV2ForCausalLM (configuration_bailing_moe_v2.py beside the checkpoints)."""
    experts, topk = config.experts("num_experts")
    width = config.whole("moe_intermediate_size")
    ffn = MoeFfn(
        experts,
        topk,
        width,
        shared_intermediate=width * config.whole("num_shared_experts", default=0, least=0),
        router_bias=config.flag("moe_router_enable_expert_bias", default=True),
        router_float32=(config.get("router_dtype") or "fp32") == "fp32",  # BailingMoeV2Gate
    )
    attention = grouped_attention(config, qk_norm=config.flag("use_qk_norm", default=True))
    attention = replace(attention, bias=config.flag("use_qkv_bias"))
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    return dense_then_experts(config, attention, ffn, dense)


ARCHITECTURES = {"BailingMoeV2ForCausalLM": Family(bailing_moe_v2)}
