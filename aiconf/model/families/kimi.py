"""Kimi-K3: Kimi delta attention with latent attention in every fourth layer, latent experts."""

from __future__ import annotations

from aiconf.model.families import tower
from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, LinearAttention, MoeFfn


def kimi_linear(config: Config) -> tuple[LayerGroup, ...]:
    """Read the text side of KimiK3ForConditionalGeneration (Kimi Linear, arXiv 2510.26692).

    Routed experts work on a projection of the token (``routed_expert_hidden_size``), shared ones
    on the token itself. Residuals of attention (``attn_res_block_size``) are not counted.
    """
    stated = config.section("linear_attn_config")
    if not stated.flag("use_full_rank_gate"):
        raise config.problem("an output gate of low rank (use_full_rank_gate) is not modelled")
    heads, size = stated.whole("num_heads"), stated.whole("head_dim")
    linear = LinearAttention(
        "kda", heads, heads, size, size, stated.whole("short_conv_kernel_size")
    )
    full = _latent(config)
    layers = config.whole("num_hidden_layers")
    latent_layers = stated.indices("full_attn_layers")  # counted from 1
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    plain, sparse = DenseFfn(config.whole("intermediate_size")), _experts(config)
    counts: dict[tuple[bool, bool], int] = {}
    for layer in range(1, layers + 1):
        key = (layer in latent_layers, layer > dense)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        LayerGroup(count, full if is_latent else linear, sparse if routed else plain)
        for (is_latent, routed), count in sorted(counts.items())
    )


def _latent(config: Config) -> Attention:
    heads = config.whole("num_attention_heads")
    nope, rope = config.whole("qk_nope_head_dim"), config.whole("qk_rope_head_dim")
    return Attention(
        "mla",
        heads,
        heads,
        nope + rope,
        config.whole("v_head_dim"),
        output_gate=config.flag("mla_use_output_gate"),
        q_lora_rank=config.whole("q_lora_rank", default=0, least=0),
        kv_lora_rank=config.whole("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
    )


def _experts(config: Config) -> MoeFfn:
    experts, topk = config.routing(("num_experts",), ("num_experts_per_token",))
    width = config.whole("moe_intermediate_size")
    hidden = config.whole("hidden_size")
    latent = config.whole("routed_expert_hidden_size", default=hidden)
    return MoeFfn(
        experts,
        topk,
        width,
        shared_intermediate=width * config.whole("num_shared_experts", default=0, least=0),
        router_bias=config.get("topk_method") == "noaux_tc",
        latent=0 if latent == hidden else latent,
    )


ARCHITECTURES = {
    "KimiK3ForConditionalGeneration": Family(
        kimi_linear, section="text_config", vision=tower.moonvit
    ),
}
