"""Nemotron-H and Nemotron-3: Mamba2, attention, dense and expert layers in a stated order."""

from __future__ import annotations

from collections import Counter

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import grouped_attention
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, LinearAttention, MoeFfn

_BLOCKS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def nemotron_h(config: Config) -> tuple[LayerGroup, ...]:
    """Read NemotronHForCausalLM (Nemotron-H report, arXiv 2504.03624; modeling_nemotron_h.py).

    Each block of ``hybrid_override_pattern`` is one norm and one mixer. A layer here is a Mamba2
    (M) or attention (*) block with the feed-forward (-) or expert (E) block behind it, if any.
    """
    pattern = _pattern(config)
    mixers = {"M": _mamba2, "*": grouped_attention}
    behind = {"-": _dense, "E": _experts}
    counts: Counter[tuple[str, str]] = Counter()
    for place, block in enumerate(pattern):
        following = pattern[place + 1 : place + 2]
        if block in mixers:
            counts[block, following if following in behind else ""] += 1
        elif place == 0 or pattern[place - 1] not in mixers:
            raise config.problem(f"block {place} is a feed-forward block without a mixer before it")
    groups = []
    for (mixer, ffn), count in sorted(counts.items(), reverse=True):
        attention = mixers[mixer](config)
        block_ffn = behind[ffn](config) if ffn else None
        groups.append(LayerGroup(count, attention, block_ffn, 2 if ffn else 1))
    return tuple(groups)


def _pattern(config: Config) -> str:
    stated = config.get("hybrid_override_pattern")
    if stated is None:
        kinds = config.listed("layers_block_type") or ()
        unknown = sorted({str(kind) for kind in kinds} - set(_BLOCKS))
        if unknown or not kinds:
            raise config.problem(f"layers_block_type is missing or has '{', '.join(unknown)}'")
        stated = "".join(_BLOCKS[kind] for kind in kinds)
    pattern = str(stated)
    if not pattern or set(pattern) - set(_BLOCKS.values()):
        raise config.problem(f"hybrid_override_pattern '{pattern}' has blocks other than M * - E")
    layers = config.whole("num_hidden_layers", default=len(pattern))
    if layers != len(pattern):
        raise config.problem(f"the pattern has {len(pattern)} blocks for {layers} layers")
    return pattern


def _mamba2(config: Config) -> Attention | LinearAttention:
    return LinearAttention(
        "mamba2",
        config.whole("n_groups"),
        config.whole("mamba_num_heads"),
        config.whole("ssm_state_size"),
        config.whole("mamba_head_dim"),
        config.whole("conv_kernel"),
    )


def _dense(config: Config) -> DenseFfn | MoeFfn:
    return DenseFfn(config.whole("intermediate_size"), gated=False)  # ReLU^2


def _experts(config: Config) -> DenseFfn | MoeFfn:
    experts, topk = config.experts("n_routed_experts")
    shared = config.whole("n_shared_experts", default=0, least=0)
    width = config.whole("moe_shared_expert_intermediate_size", default=0, least=0)
    return MoeFfn(
        experts,
        topk,
        config.whole("moe_intermediate_size"),
        shared_intermediate=shared * width,
        router_bias=True,
        gated=False,
        latent=config.whole("moe_latent_size", default=0, least=0),
    )


ARCHITECTURES = {
    "NemotronHForCausalLM": Family(nemotron_h),
}
