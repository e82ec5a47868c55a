"""Granite 4: Mamba2 with attention in a few layers, experts or one dense block in each."""

from __future__ import annotations

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import grouped_attention
from aiconf.model.families.routed import granite_experts
from aiconf.model.spec import LayerGroup, LinearAttention


def granite_hybrid(config: Config) -> tuple[LayerGroup, ...]:
    """Read GraniteMoeHybridForCausalLM (transformers models/granitemoehybrid)."""
    kinds = config.kinds("layer_types") or config.kinds("layers_block_type")
    if kinds is None:
        raise config.problem("'layer_types' is missing")
    linear = sum(kind in ("mamba", "linear_attention") for kind in kinds)
    full = sum(kind in ("attention", "full_attention") for kind in kinds)
    if linear + full != len(kinds):
        raise config.problem("layer_types other than 'mamba' and 'attention' are not modelled")
    ffn = granite_experts(config)
    groups = []
    if linear:
        groups.append(LayerGroup(linear, _mamba2(config), ffn))
    if full:
        groups.append(LayerGroup(full, grouped_attention(config), ffn))
    return tuple(groups)


def _mamba2(config: Config) -> LinearAttention:
    heads = config.whole("mamba_n_heads")
    inner = config.whole("mamba_expand", default=2) * config.whole("hidden_size")
    stated = config.get("mamba_d_head")
    size = config.whole("mamba_d_head") if stated not in (None, "auto") else inner // heads
    groups = config.whole("mamba_n_groups", default=1)
    if heads * size != inner or heads % groups:
        said = f"mamba_n_heads {heads} of {size} in {groups} groups"
        raise config.problem(f"{said} do not fit an inner width of {inner}")
    state, taps = config.whole("mamba_d_state"), config.whole("mamba_d_conv")
    return LinearAttention("mamba2", groups, heads, state, size, taps)


ARCHITECTURES = {
    "GraniteMoeHybridForCausalLM": Family(granite_hybrid, experts="block_sparse_moe.experts"),
}
