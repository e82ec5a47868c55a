"""DeepSeek-V4: compressed attention in two strengths, hyper-connections, experts in fp4."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, LayerGroup, MoeFfn, Quantization

_CHOOSING = 4  # the ratio whose entries an indexer chooses from (configuration_deepseek_v4.py)
# vLLM models/deepseek_v4/compressor.py knows no others; 1 is 0 (its attention.py).
_RATIOS = (0, 1, _CHOOSING, 128)


def deepseek_v4(config: Config) -> tuple[LayerGroup, ...]:
    """Read DeepseekV4ForCausalLM; ``compress_ratios`` goes on with those of the MTP layers."""
    layers = config.whole("num_hidden_layers")
    ratios = config.get("compress_ratios")
    if not isinstance(ratios, list) or len(ratios) < layers:
        raise config.problem(f"'compress_ratios' must list a ratio for each of {layers} layers")
    unknown = [ratio for ratio in ratios if type(ratio) is not int or ratio not in _RATIOS]
    if unknown:
        raise config.problem(f"'compress_ratios' must hold 0, 4 and 128, not {unknown[0]!r}")
    ratios = [0 if ratio == 1 else ratio for ratio in ratios]
    ffn = _experts(config)
    counts = {ratio: ratios[:layers].count(ratio) for ratio in sorted(set(ratios[:layers]))}
    return tuple(LayerGroup(n, _attention(config, ratio), ffn) for ratio, n in counts.items())


def deepseek_v4_precisions(config: Config, found: Quantization) -> Quantization:
    """Return what the engines hold: the cache is always fp8, only experts differ.

    NVIDIA's checkpoints list attention and shared experts as not nvfp4; they stay in fp8 blocks.
    """
    stated = config.get("quantization_config")
    if not isinstance(stated, dict):
        return replace(found, kv="fp8")
    experts = found.experts
    if stated.get("moe_quant_algo") == "NVFP4":
        experts = "nvfp4"
    elif config.get("expert_dtype") == "fp4":
        experts = "mxfp4"
    return replace(
        found, attention="fp8_block", output=None, dense="fp8_block", experts=experts, kv="fp8"
    )


def _attention(config: Config, ratio: int) -> Attention:
    heads, dim = config.whole("num_attention_heads"), config.whole("head_dim")
    groups, rotated = config.whole("o_groups"), config.whole("qk_rope_head_dim")
    if rotated > dim:
        raise config.problem(f"qk_rope_head_dim {rotated} is more than the head_dim {dim}")
    if heads % groups:
        raise config.problem(f"num_attention_heads {heads} is not a multiple of o_groups {groups}")
    block = Attention(
        "compressed",
        heads,
        1,
        dim,
        dim,
        window=config.whole("sliding_window"),
        sinks=True,
        q_lora_rank=config.whole("q_lora_rank"),
        qk_rope_head_dim=rotated,
        compress=ratio,
        output_groups=groups,
        output_rank=config.whole("o_lora_rank"),
    )
    if ratio != _CHOOSING:
        return block
    return replace(
        block,
        index_heads=config.whole("index_n_heads"),
        index_dim=config.whole("index_head_dim"),
        index_topk=config.whole("index_topk"),
    )


def _experts(config: Config) -> MoeFfn:
    experts, topk = config.experts("n_routed_experts")
    width = config.whole("moe_intermediate_size")
    shared = width * config.whole("n_shared_experts", default=0, least=0)
    return MoeFfn(experts, topk, width, shared_intermediate=shared, router_bias=True)


ARCHITECTURES = {
    "DeepseekV4ForCausalLM": Family(
        deepseek_v4, experts="ffn.experts", precisions=deepseek_v4_precisions
    ),
}
