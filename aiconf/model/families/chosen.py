"""MiniMax-M3: grouped attention over blocks of keys that an indexer chooses, after dense layers."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.families.moe import grouped_attention
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, MoeFfn


def minimax_m3(config: Config) -> tuple[LayerGroup, ...]:
    """Read MiniMaxM3(Sparse)ForCausalLM and the text of MiniMaxM3SparseForConditionalGeneration.

    Lists of 0 and 1 say which layers route to experts (``moe_layer_freq``) and which choose
    their keys (``sparse_attention_freq``). Source: transformers models/minimax_m3_vl.
    """
    layers = config.whole("num_hidden_layers")
    sparse = config.section("sparse_attention_config")
    routed = _switches(config, "moe_layer_freq", layers)
    chosen = _switches(sparse, "sparse_attention_freq", layers)
    if not sparse.flag("use_sparse_attention", default=True):
        chosen = [False] * layers
    full = grouped_attention(config, qk_norm=config.flag("use_qk_norm"))
    indexed = _indexed(sparse, full) if any(chosen) else full
    plain, experts = DenseFfn(config.whole("dense_intermediate_size")), _experts(config)
    counts: dict[tuple[bool, bool], int] = {}
    for key in zip(routed, chosen, strict=True):
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        LayerGroup(count, indexed if is_chosen else full, experts if is_routed else plain)
        for (is_routed, is_chosen), count in sorted(counts.items())
    )


def _switches(config: Config, key: str, layers: int) -> list[bool]:
    found = config.get(key)
    if not isinstance(found, list) or len(found) != layers:
        raise config.problem(f"'{key}' must list 0 or 1 for each of {layers} layers")
    return [bool(switch) for switch in found]


def _indexed(sparse: Config, full: Attention) -> Attention:
    heads = sparse.whole("sparse_num_index_heads")
    if heads != full.kv_heads:
        raise sparse.problem(
            f"sparse_num_index_heads {heads} is not one for each of {full.kv_heads} KV heads"
        )
    block = sparse.whole("sparse_block_size")
    return replace(
        full,
        index_heads=heads,
        index_dim=sparse.whole("sparse_index_dim"),
        index_topk=block * sparse.whole("sparse_topk_blocks"),
    )


def _experts(config: Config) -> MoeFfn:
    experts, topk = config.experts("num_local_experts")
    return MoeFfn(
        experts,
        topk,
        config.whole("intermediate_size"),
        shared_intermediate=config.whole("shared_intermediate_size", default=0, least=0),
        router_bias=config.flag("use_routing_bias"),
    )


ARCHITECTURES = {
    "MiniMaxM3ForCausalLM": Family(minimax_m3, experts="block_sparse_moe.experts"),
    "MiniMaxM3SparseForCausalLM": Family(minimax_m3, experts="block_sparse_moe.experts"),
    "MiniMaxM3SparseForConditionalGeneration": Family(
        minimax_m3, section="text_config", experts="block_sparse_moe.experts"
    ),
}
