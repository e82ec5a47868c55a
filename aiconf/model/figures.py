"""Figures of a model: parameters by class of weights, work and traffic of a token.

No kernel and no hardware is in them: they are what the architecture asks for, for a reader and
for comparison with what the publishers of a model say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiconf.model.cache import kv_layout, state_bytes
from aiconf.model.formats import weight_bytes_per_element
from aiconf.model.memory import Weights, active_parameters, layer_weights
from aiconf.model.spec import Attention, LinearAttention, ModelSpec, MoeFfn, Precision
from aiconf.model.vision import vision_parameters
from aiconf.parallel import Parallel

# Multiply-adds with the state per token and element of it: read with k, update, read with q
# (arXiv 2412.06464; the same counts as the speed of light in perf/linear.py); Mamba2 updates
# and reads (arXiv 2405.21060).
_STATE_PRODUCTS = {"gdn": 3, "kda": 3, "mamba2": 2}
_TOWER = "vision tower"


@dataclass(frozen=True)
class Part:
    """One class of weights of the whole model.

    count: weights. active: those that one token meets. size: bytes with scales.
    """

    name: str
    precision: Precision
    count: float
    active: float
    size: float


def embedding_parameters(spec: ModelSpec) -> int:
    """Weights of the input embedding (with tied embeddings, of the output head too)."""
    return spec.vocab * spec.hidden


def parts(spec: ModelSpec) -> tuple[Part, ...]:
    """Parameters by class of weights and precision; they add up to `memory.parameters`."""
    found: dict[tuple[str, Precision], Part] = {}
    for name, weights in _named(spec):
        size = weights.bytes(spec.quantization.group)
        part = Part(name, weights.precision, weights.count, weights.active, size)
        before = found.get((name, weights.precision))
        if before is not None:
            part = replace(
                part,
                count=before.count + part.count,
                active=before.active + part.active,
                size=before.size + part.size,
            )
        if part.count:
            found[name, weights.precision] = part
    return tuple(found.values())


def _named(spec: ModelSpec) -> Iterator[tuple[str, Weights]]:
    rows, hidden = embedding_parameters(spec), spec.hidden
    yield "embedding", Weights(rows, "bf16", rows if spec.tied_embeddings else 0)
    for group in spec.layers:
        linear = isinstance(group.attention, LinearAttention)
        mixer = "linear attention" if linear else "attention"
        before = len(layer_weights(spec, replace(group, ffn=None)))  # they come first
        for place, weights in enumerate(layer_weights(spec, group)):
            name = mixer if place < before else _ffn_name(isinstance(group.ffn, MoeFfn), weights)
            yield (
                name,
                Weights(
                    weights.count * group.count, weights.precision, weights.active * group.count
                ),
            )
    if spec.vision is not None:
        yield _TOWER, Weights(vision_parameters(spec.vision), "bf16", 0)
    yield "output head", Weights(hidden, "bf16", hidden)  # the last norm
    if not spec.tied_embeddings:
        yield "output head", Weights(rows, spec.quantization.lm_head, rows)


def _ffn_name(routed: bool, weights: Weights) -> str:
    if not routed:
        return "feed-forward"
    return "routed experts" if weights.active < weights.count else "shared experts, router"


def token_flops(spec: ModelSpec, context: float, prompt: bool = False) -> float:
    """FLOP of one token: 2 per weight it meets, and attention.

    Parameters
    ----------
    spec
        The model.
    context
        Tokens before this one in decode; the length of the whole prompt where ``prompt``, whose
        mean token sees half of it.
    prompt
        Latent attention of prompts expands the latent; decode absorbs its expansion.
    """
    seen = context / 2.0 if prompt else context
    total = 2.0 * active_parameters(spec)
    for group in spec.layers:
        block = group.attention
        if isinstance(block, LinearAttention):
            state = block.value_heads * block.key_dim * block.value_dim
            total += group.count * 2.0 * _STATE_PRODUCTS[block.kind] * state
        elif isinstance(block, Attention):
            total += group.count * 2.0 * _attended(block, seen, prompt)
    return total


def _attended(block: Attention, context: float, prompt: bool) -> float:
    """Multiply-adds of one query with the keys and values (or latents) that it sees."""
    ratio = block.compress or 1
    entries = 0.0 if block.kind == "compressed" and not block.compress else context / ratio
    index = block.index_heads * block.index_dim * entries
    if block.index_topk:
        entries = min(entries, block.index_topk)
    if block.kind == "compressed":
        return index + 2 * block.heads * block.head_dim * (entries + _near(block, context))
    seen = min(entries, _near(block, context))
    if block.kind == "mla" and not (prompt and not block.index_topk):
        return index + block.heads * (2 * block.kv_lora_rank + block.qk_rope_head_dim) * seen
    return index + block.heads * (block.head_dim + block.v_head_dim) * seen


def _near(block: Attention, context: float) -> float:
    """Tokens within the window."""
    return min(context, block.window or context)


def decode_bytes(spec: ModelSpec, sequences: float, context: float, kv_dtype: str) -> float:
    """Bytes that an iteration of ``sequences`` decoding tokens reads and writes, no activations.

    Weights of all layers once, of routed experts those that a token hits with uniform routing:
    E (1 - (1 - k/E)^tokens). The cache of every sequence, and its state read and written.
    """
    return (
        _weights_read(spec, sequences)
        + sequences * cache_read_bytes(spec, context, kv_dtype)
        + sequences * 2.0 * state_bytes(spec, Parallel())
    )


def _weights_read(spec: ModelSpec, tokens: float) -> float:
    group = spec.quantization.group
    total = 0.0
    if not spec.tied_embeddings:  # a few rows of the embedding are read, not all
        total -= embedding_parameters(spec) * weight_bytes_per_element("bf16")
    for part in parts(spec):
        if part.name == _TOWER:  # text does not meet it
            continue
        share = 1.0
        if part.name == "routed experts":
            share = 1.0 - (1.0 - part.active / part.count) ** tokens
        total += share * part.count * weight_bytes_per_element(part.precision, group)
    return total


def cache_read_bytes(spec: ModelSpec, context: float, kv_dtype: str) -> float:
    """Bytes of the KV cache that one decoding token reads behind ``context`` others.

    Windows end the past; where an indexer chooses, all of its keys and the chosen entries.
    """
    total = 0.0
    for block, count in spec.softmax:
        one = replace(spec, layers=(replace(spec.layers[0], count=1, attention=block),))
        for window, size in kv_layout(one, Parallel(), kv_dtype):
            total += count * min(context, window or context) * size
            entries = context / (block.compress or 1)
            if window is None and block.index_topk and entries > block.index_topk:
                entry = size * (block.compress or 1) - _index_key(block)
                total -= count * entry * (entries - block.index_topk)
    return total


def _index_key(block: Attention) -> float:
    """Bytes of an indexer's key of one entry, as in `cache.kv_layout`."""
    if not block.index_heads:
        return 0.0
    return 2.0 * block.index_dim if block.kind == "gqa" else block.index_dim + 4.0
