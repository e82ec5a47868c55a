"""Models whose layers follow a pattern: windowed and full attention, dense and expert layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from aiconf.model.families import tower
from aiconf.model.families.config import Config, shown
from aiconf.model.families.family import Family
from aiconf.model.families.moe import grouped_attention
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, MoeFfn

_Layer = tuple[Attention, DenseFfn | MoeFfn]


def llama4(config: Config) -> tuple[LayerGroup, ...]:
    """Read the text side of Llama4ForConditionalGeneration.

    Chunked attention (``attention_chunk_size``) in three of four layers, taken as a window of
    that length; every ``interleave_moe_layer_step``-th layer has experts and one shared expert
    (transformers models/llama4).
    """
    layers = config.whole("num_hidden_layers")
    full = replace(grouped_attention(config), bias=config.flag("attention_bias"))
    chunked = replace(full, window=config.whole("attention_chunk_size"))
    step = config.whole("interleave_moe_layer_step", default=1)
    experts, topk = config.experts("num_local_experts")
    width = config.whole("intermediate_size")
    sparse = MoeFfn(experts, topk, width, shared_intermediate=width)
    plain = DenseFfn(config.whole("intermediate_size_mlp", default=width))
    return _grouped(
        (full if (i + 1) % 4 == 0 else chunked, sparse if (i + 1) % step == 0 else plain)
        for i in range(layers)
    )


def gemma3(config: Config) -> tuple[LayerGroup, ...]:
    """Read Gemma3ForCausalLM and the text side of Gemma3ForConditionalGeneration.

    Five windowed layers to one full layer, norms on q and k, norms after attention and
    feed-forward too (Gemma 3 report, arXiv 2503.19786, section 2).
    """
    layers = config.whole("num_hidden_layers")
    every = config.whole("sliding_window_pattern", default=6)
    kinds = config.listed("layer_types") or [
        "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)
    ]
    full = grouped_attention(config, qk_norm=True)
    windowed = replace(full, window=config.whole("sliding_window"))
    ffn = DenseFfn(config.whole("intermediate_size"))
    groups = _grouped((_either(config, kind, windowed, full), ffn) for kind in _all(config, kinds))
    return tuple(replace(group, norms=4) for group in groups)


def gemma4(config: Config) -> tuple[LayerGroup, ...]:
    """Read the text side of Gemma4ForConditionalGeneration (transformers models/gemma4).

    Full layers have wider and fewer KV heads, whose keys serve as values where
    ``attention_k_eq_v``; with ``enable_moe_block`` experts run beside the dense feed-forward,
    which is then an always-active shared expert.
    """
    if config.whole("hidden_size_per_layer_input", default=0, least=0):
        raise config.problem("embeddings per layer (hidden_size_per_layer_input) are not modelled")
    if config.whole("num_kv_shared_layers", default=0, least=0):
        raise config.problem("layers that share a KV cache (num_kv_shared_layers) are not modelled")
    windowed = replace(
        grouped_attention(config, qk_norm=True), window=config.whole("sliding_window")
    )
    heads, size = windowed.heads, config.whole("global_head_dim", default=windowed.head_dim)
    kv_heads = config.whole("num_global_key_value_heads", default=windowed.kv_heads)
    joint = config.flag("attention_k_eq_v")
    full = Attention("gqa", heads, kv_heads, size, size, qk_norm=True, joint_kv=joint)
    width = config.whole("intermediate_size")
    ffn: DenseFfn | MoeFfn = DenseFfn(width)
    if config.flag("enable_moe_block"):
        experts = config.whole("num_experts")
        topk, inner = config.whole("top_k_experts"), config.whole("moe_intermediate_size")
        ffn = MoeFfn(experts, topk, inner, shared_intermediate=width)
    kinds = _all(config, config.listed("layer_types") or ())
    groups = _grouped((_either(config, kind, windowed, full), ffn) for kind in kinds)
    return tuple(replace(group, norms=4) for group in groups)


def mimo_v2(config: Config) -> tuple[LayerGroup, ...]:
    """Read MiMoV2FlashForCausalLM: windowed layers have their own heads and sinks."""
    full = Attention(
        "gqa",
        config.whole("num_attention_heads"),
        config.whole("num_key_value_heads"),
        config.whole("head_dim"),
        config.whole("v_head_dim"),
        sinks=config.flag("add_full_attention_sink_bias"),
    )
    windowed = Attention(
        "gqa",
        config.whole("swa_num_attention_heads"),
        config.whole("swa_num_key_value_heads"),
        config.whole("swa_head_dim"),
        config.whole("swa_v_head_dim"),
        window=config.whole("sliding_window"),
        sinks=config.flag("add_swa_attention_sink_bias"),
    )
    sparse, plain = _deepseek_experts(config), DenseFfn(config.whole("intermediate_size"))
    kinds = _all(config, config.listed("hybrid_layer_pattern") or ())
    routed = _all(config, config.listed("moe_layer_freq") or ())
    pairs = zip(kinds, routed, strict=True)
    return _grouped((windowed if w else full, sparse if moe else plain) for w, moe in pairs)


def step3(config: Config) -> tuple[LayerGroup, ...]:
    """Read Step3p7FlashForCausalLM: dense first layers, then experts with a shared one."""
    full = grouped_attention(config, qk_norm=True)
    windowed = replace(full, window=config.whole("sliding_window"))
    experts, topk = config.experts("num_experts")
    sparse = MoeFfn(
        experts,
        topk,
        config.whole("moe_intermediate_size"),
        shared_intermediate=config.whole("share_expert_dim", default=0, least=0),
        router_bias=config.flag("use_moe_router_bias"),
    )
    plain = DenseFfn(config.whole("intermediate_size"))
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    kinds = _all(config, config.listed("layer_types") or ())
    return _grouped(
        (_either(config, kind, windowed, full), plain if i < dense else sparse)
        for i, kind in enumerate(kinds)
    )


def _deepseek_experts(config: Config) -> MoeFfn:
    experts, topk = config.experts("n_routed_experts")
    width = config.whole("moe_intermediate_size")
    shared = width * config.whole("n_shared_experts", default=0, least=0)
    corrected = config.get("topk_method") == "noaux_tc"
    return MoeFfn(experts, topk, width, shared_intermediate=shared, router_bias=corrected)


def _either(config: Config, kind: object, windowed: Attention, full: Attention) -> Attention:
    known = {"sliding_attention": windowed, "full_attention": full}
    if str(kind) not in known:
        raise config.problem(f"layer type '{shown(kind)}' is not modelled")
    return known[str(kind)]


def _all(config: Config, kinds: Sequence[object]) -> Sequence[object]:
    """Return the list when it has an entry per layer."""
    layers = config.whole("num_hidden_layers")
    if len(kinds) != layers:
        raise config.problem(f"a list of layer kinds has {len(kinds)} entries for {layers} layers")
    return kinds


def _grouped(layers: Iterable[_Layer]) -> tuple[LayerGroup, ...]:
    """Count equal layers; the kind of the last layer comes last."""
    listed = list(layers)
    counts = Counter(listed)
    last = counts.pop(listed[-1])
    groups = [LayerGroup(count, *layer) for layer, count in counts.items()]
    return (*groups, LayerGroup(last, *listed[-1]))


ARCHITECTURES = {
    "Llama4ForCausalLM": Family(llama4),
    "Llama4ForConditionalGeneration": Family(llama4, section="text_config"),
    "Gemma3ForCausalLM": Family(gemma3, tied=True),
    "Gemma3ForConditionalGeneration": Family(
        gemma3, section="text_config", vision=tower.siglip, tied=True
    ),
    "Gemma4ForConditionalGeneration": Family(
        gemma4, section="text_config", experts="experts", tied=True
    ),
    "MiMoV2FlashForCausalLM": Family(mimo_v2),
    "Step3p7FlashForCausalLM": Family(step3),
}
