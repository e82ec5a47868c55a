"""DeepSeek-V2, V3, R1 and Kimi-K2: latent attention, dense first layers, shared experts."""

from __future__ import annotations

from aiconf.model.families.config import Config
from aiconf.model.families.moe import dense_then_experts
from aiconf.model.spec import Attention, LayerGroup, MoeFfn


def deepseek(config: Config) -> tuple[LayerGroup, ...]:
    """Read DeepseekV2ForCausalLM and DeepseekV3ForCausalLM."""
    if config.get("index_topk"):
        raise config.problem("sparse attention (index_topk) is not modelled")
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
    return dense_then_experts(config, attention, ffn, dense)
