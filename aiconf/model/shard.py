"""How tensors are cut over ranks: heads, feed-forward widths, vocabulary, pipeline stages."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.spec import Attention, LayerGroup, LinearAttention, ModelSpec, Precision
from aiconf.parallel import Parallel

# Weights along each axis that share one scale, so that no shard may cut through them:
# fp8_block 128 x 128 (DeepSeek-V3 report, section 3.3.2), nvfp4 16, mxfp4 32 (OCP MX v1.0).
_BLOCKS = {"fp8_block": 128, "nvfp4": 16, "mxfp4": 32}
_VOCAB_MULTIPLE = 64  # vLLM DEFAULT_VOCAB_PADDING_SIZE


def block(precision: Precision, group: int) -> int:
    """Weights along an axis that share one scale (1 where scales are per tensor or channel)."""
    return group if precision == "int4" else _BLOCKS.get(precision, 1)


def ceil_div(whole: int, parts: int) -> int:
    """Return ``whole / parts`` rounded up."""
    return -(-whole // parts)


def rank_heads(attention: Attention, tp: int) -> int:
    """Query heads of one rank."""
    return ceil_div(attention.heads, tp)


def rank_kv_heads(attention: Attention, tp: int) -> int:
    """KV heads of one rank; each is replicated once there are more ranks than KV heads."""
    return max(1, ceil_div(attention.kv_heads, tp))


def mixed_width(attention: LinearAttention, tp: int) -> int:
    """Channels of the convolution of linear attention on one rank: q, k and v."""
    keys, values = attention.key_heads // tp, attention.value_heads // tp
    return 2 * keys * attention.key_dim + values * attention.value_dim


def rank_vocab(spec: ModelSpec, tp: int) -> int:
    """Rows of the embedding and of the output head on one rank, padded as engines do."""
    return ceil_div(ceil_div(spec.vocab, _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE, tp)


def expert_width(width: int, precision: Precision, group: int, moe_tp: int) -> int:
    """Width of one expert on one rank; mxfp4 rounds up to whole blocks (vLLM mxfp4.py)."""
    if precision != "mxfp4" or moe_tp == 1:
        return ceil_div(width, moe_tp)
    size = block(precision, group)
    return ceil_div(ceil_div(width, size), moe_tp) * size


def stage_layers(layers: int, pp: int) -> tuple[int, ...]:
    """Layers of each pipeline stage: the remainder goes before the last stage.

    As vLLM ``get_pp_indices``: the last stage has the output head, so it is served last.
    """
    base, rest = divmod(layers, pp)
    sizes = [base] * pp
    for back in range(2, rest + 2):
        sizes[-back] += 1
    return tuple(sizes)


def stages(spec: ModelSpec, parallel: Parallel) -> tuple[tuple[LayerGroup, ...], ...]:
    """Layer groups of each pipeline stage.

    Groups follow one another (dense first layers, then experts), except that kinds of attention
    (windowed or linear, and full) alternate: there each stage holds its share of both, rounded up.
    """
    sizes = stage_layers(spec.layer_count, parallel.pp)
    if len({group.attention for group in spec.layers}) > 1:
        total = spec.layer_count
        return tuple(
            tuple(_sized(group, ceil_div(group.count * size, total)) for group in spec.layers)
            for size in sizes
        )
    found, start = [], 0
    for size in sizes:
        found.append(_between(spec.layers, start, start + size))
        start += size
    return tuple(found)


def _sized(group: LayerGroup, count: int) -> LayerGroup:
    return replace(group, count=count)


def _between(groups: tuple[LayerGroup, ...], start: int, end: int) -> tuple[LayerGroup, ...]:
    kept, position = [], 0
    for group in groups:
        overlap = min(end, position + group.count) - max(start, position)
        if overlap > 0:
            kept.append(_sized(group, overlap))
        position += group.count
    return tuple(kept)
