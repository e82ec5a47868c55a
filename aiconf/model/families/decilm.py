"""DeciLM (Llama-Nemotron Super): Llama with attention left out and widths chosen layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiconf.model.families.config import Config, shown
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup

_MULTIPLE = 256  # widths are rounded up to it (configuration_decilm.py of the checkpoints)


def decilm(config: Config) -> tuple[LayerGroup, ...]:
    """Read DeciLMForCausalLM (Puzzle, arXiv 2411.19146; vllm models/nemotron_nas.py).

    Each of ``block_configs`` says whether its attention is there and how many query heads share a
    KV head, and how wide its feed-forward is: 2/3 of ``ffn_mult`` hidden sizes. Blocks replaced by
    a linear layer and attention with sinks are not modelled.
    """
    layers = config.whole("num_hidden_layers")
    blocks = config.listed("block_configs") or []
    if len(blocks) != layers:
        raise config.problem(f"block_configs has {len(blocks)} entries for {layers} layers")
    counts: Counter[tuple[Attention | None, DenseFfn | None]] = Counter()
    for place, block in enumerate(blocks):
        parts = block if isinstance(block, Mapping) else {}
        attention = _attention(config, _part(config, parts, "attention", place))
        ffn = _ffn(config, _part(config, parts, "ffn", place))
        counts[attention, ffn] += 1
    counts.pop((None, None), None)  # a layer of which nothing is left
    if not any(attention for attention, _ in counts):
        raise config.problem("block_configs has no layer with attention")
    groups = [
        LayerGroup(count, attention, ffn, norms=(attention is not None) + (ffn is not None))
        for (attention, ffn), count in counts.items()
    ]
    return tuple(sorted(groups, key=lambda group: group.count))  # the commonest last


def _part(config: Config, block: Mapping[str, Any], name: str, place: int) -> Config:
    part = block.get(name)
    if not isinstance(part, Mapping):
        raise config.problem(f"block_configs: layer {place} has no '{name}'")
    for key in ("replace_with_linear", "sparsify", "window_length", "num_sink_tokens"):
        if part.get(key):
            raise config.problem(f"block_configs: '{key}' in layer {place} is not modelled")
    return Config(part, f"{config.source}: block_configs {place}")


def _attention(config: Config, part: Config) -> Attention | None:
    if part.flag("no_op"):
        return None
    heads, shared = config.whole("num_attention_heads"), part.whole("n_heads_in_group")
    if heads % shared:
        raise part.problem(f"n_heads_in_group {shared} does not divide {heads} heads")
    size = config.whole("head_dim", default=max(1, config.whole("hidden_size") // heads))
    bias = config.flag("attention_bias")
    return Attention("gqa", heads, heads // shared, size, size, bias=bias, output_bias=bias)


def _ffn(config: Config, part: Config) -> DenseFfn | None:
    if part.flag("no_op"):
        return None
    times = part.get("ffn_mult")
    if isinstance(times, bool) or not isinstance(times, int | float) or not 0 < times <= 100:
        raise part.problem(f"'ffn_mult' must be a positive number: {shown(times)}")
    width = int(2 * times * config.whole("hidden_size") / 3)
    return DenseFfn(max(1, -(-width // _MULTIPLE)) * _MULTIPLE)


ARCHITECTURES = {"DeciLMForCausalLM": Family(decilm)}
