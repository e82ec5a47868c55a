"""A decoder of an architecture that is not known, read as the nearest block that is.

With the figures that nearly all decoders state, an unknown architecture is taken as grouped
attention with a gated feed-forward or gated experts behind it, and all that was assumed is said.
Where a key reveals attention of another kind, no known block is near, and it is refused.
"""

from __future__ import annotations

import re

from aiconf.model.families.config import Config
from aiconf.model.families.moe import dense_then_experts, grouped_attention
from aiconf.model.families.variants import windowed_layers
from aiconf.model.spec import DenseFfn, LayerGroup, MoeFfn

# Keys that reveal what no known block has; a value that says "none" does not count.
_REVEALED = (
    (r"(^|_)(mamba|ssm|rwkv|xlstm)|^d_(state|conv)$|^conv_kernel|^state_size|^conv_L_cache$",
     "a state-space or convolution layer"),
    (r"linear_(attn|attention|key|value|num)|lightning|^attn_type_list$|retention|delta_net|gdn",
     "linear attention"),
    (r"^(kv_lora_rank|q_lora_rank|qk_rope_head_dim|qk_nope_head_dim)$", "latent attention"),
    (r"^index_|^indexer|sparse_(attention|attn)|^(nsa|moba|dsa)_|block_sparse|compress_ratio",
     "sparse attention"),
    (r"cross_attention|^encoder_(layers|attention_heads|ffn_dim)$|^is_encoder_decoder$",
     "cross attention or an encoder"),
    (r"sliding_window_pattern|attention_chunk_size|^window_(size|pattern)|hybrid_layer_pattern"
     r"|^(full|global)_attn|attn_window|local_attention|_per_layer$|^global_(head|layer)",
     "a pattern of layers that is not understood"),
    (r"attention_groups|query_group|^num_kv_heads$|n_head_kv|^multi_query|attention_other",
     "KV heads under a name that is not understood"),
    (r"kv_shared|^use_cla$|cla_share|share_kv|^cross_layer", "layers that share a KV cache"),
    (r"^block_configs$|per_layer_input|num_loops|ut_steps|^num_recurrent|engram",
     "layers of an unknown make"),
)  # fmt: skip
_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_VISITS = (
    "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts",
    "num_selected_experts", "moe_k", "experts_per_token",
)  # fmt: skip
_WIDTHS = ("moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size",
           "intermediate_size")  # fmt: skip
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_DENSE = ("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers")
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
           "max_position_embeddings")  # fmt: skip


def revealed(config: Config) -> str | None:
    """Return the kind of layer that a key reveals and no known block has, with the key."""
    for key in config.stated():
        for pattern, kind in _REVEALED:
            if re.search(pattern, key):
                return f"'{key}' means {kind}"
    return None


def missing(config: Config) -> str | None:
    """Return the first of the usual figures that config.json lacks."""
    needed = (*_NEEDED, *(() if _routed(config) else ("intermediate_size",)))
    return next((key for key in needed if config.get(key) is None), None)


def nearest_layers(config: Config) -> tuple[tuple[LayerGroup, ...], str]:
    """Read the layers as the nearest known block, and say as what.

    Raises
    ------
    UserError
        For figures that contradict each other, or experts without their number per token.
    """
    attention = grouped_attention(config)
    heads = f"{attention.heads} query and {attention.kv_heads} KV heads of {attention.head_dim}"
    said = f"full attention of {heads} without biases and without norms on q and k"
    if config.get("tie_word_embeddings") is None:
        said = f"{said}, an output head of its own"
    if not _routed(config):
        ffn = DenseFfn(config.whole("intermediate_size"))
        layers = windowed_layers(config, attention, ffn) if _windowed(config) else (
            LayerGroup(config.whole("num_hidden_layers"), attention, ffn),
        )  # fmt: skip
        windowed = sum(group.count for group in layers if _window(group))
        if windowed:
            said = f"{said}, {windowed} layers of it with a window of {_window(layers[0])}"
        return layers, f"{said}; a gated feed-forward of {ffn.intermediate}"
    if _windowed(config):
        raise config.problem("windows beside experts in an unknown architecture are not modelled")
    experts = _experts(config)
    dense = config.whole(*_DENSE, default=0, least=0)
    said = (
        f"{said}; {experts.experts} gated experts of {experts.intermediate}, {experts.topk} per "
        f"token, a shared one of {experts.shared_intermediate}"
    )
    if dense:
        said = f"{said}, a dense block in the first {dense} layers"
    return dense_then_experts(config, attention, experts, dense), said


def _routed(config: Config) -> bool:
    return any((config.get(key) or 0) not in (0, 1) for key in _COUNTS)


def _experts(config: Config) -> MoeFfn:
    for key in ("moe_layer_freq", "decoder_sparse_step", "moe_layer_interval", "expert_interval"):
        if config.get(key) not in (None, 1):
            raise config.problem(f"'{key}' other than 1 in an unknown architecture is not modelled")
    if config.get("mlp_only_layers"):
        raise config.problem("'mlp_only_layers' in an unknown architecture is not modelled")
    experts, topk = config.routing(_COUNTS, _VISITS)
    width = config.whole(*_WIDTHS)
    shared = config.whole("shared_expert_intermediate_size", "shared_intermediate_size",
                          default=0, least=0)  # fmt: skip
    return MoeFfn(
        experts,
        topk,
        width,
        shared_intermediate=shared or width * config.whole(*_SHARED, default=0, least=0),
    )


def _windowed(config: Config) -> bool:
    """Tell whether some layers see a window; which ones must then be stated."""
    window = config.whole("sliding_window", default=0, least=0)
    if not window or not config.flag("use_sliding_window", default=True):
        return False
    if window >= config.whole("max_position_embeddings"):
        return False
    if config.get("layer_types") is None:
        raise config.problem(
            f"'sliding_window' {window} without 'layer_types' does not say which layers have it"
        )
    return True


def _window(group: LayerGroup) -> int | None:
    return getattr(group.attention, "window", None)
