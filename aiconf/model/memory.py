"""Parameters and weight bytes of a model, whole or on one rank.

A block of weights is a list of `Weights`: how many, in which precision. The same lists, cut by
tp = 1 or by the layout, give the parameter count, the checkpoint's size and the bytes on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiconf.model.expert_kernel import PLAIN, ExpertKernel
from aiconf.model.formats import weight_bytes_per_element
from aiconf.model.shard import (
    ceil_div,
    expert_width,
    mixed_width,
    rank_heads,
    rank_kv_heads,
    rank_vocab,
    stages,
)
from aiconf.model.sparse_operators import compressed_shapes
from aiconf.model.spec import (
    Attention,
    DenseFfn,
    LayerGroup,
    LinearAttention,
    ModelSpec,
    MoeFfn,
    Precision,
    Quantization,
    draft_layer,
)
from aiconf.model.vision import vision_parameters
from aiconf.parallel import Parallel

_WHOLE = Parallel()
_MTP_PROJECTION = 2  # an MTP layer joins hidden state and embedding: 2 hidden -> hidden


@dataclass(frozen=True)
class Weights:
    """``count`` weights stored in one precision; ``active``: those that one token meets."""

    count: float
    precision: Precision
    active: float

    def bytes(self, group: int) -> float:
        """Bytes in memory, scales included."""
        return self.count * weight_bytes_per_element(self.precision, group)


def _dense(count: float, precision: Precision) -> Weights:
    return Weights(count, precision, count)


def parameters(spec: ModelSpec) -> float:
    """Parameters of the main model; MTP layers not counted."""
    return sum(weights.count for weights in _model(spec, _WHOLE))


def checkpoint_parameters(spec: ModelSpec) -> float:
    """Parameters of all tensors of the checkpoint, MTP layers included; scales are none."""
    return parameters(spec) + sum(weights.count for weights in _checkpoint_drafts(spec))


def active_parameters(spec: ModelSpec) -> float:
    """Parameters that one token is multiplied with: ``topk`` experts, no input embedding.

    Published figures of DeepSeek, Kimi and Qwen count the input embedding too; gpt-oss does not.
    """
    embedding = 0 if spec.tied_embeddings else spec.vocab * spec.hidden
    return sum(weights.active for weights in _model(spec, _WHOLE)) - embedding


def checkpoint_bytes(spec: ModelSpec) -> float:
    """Size of the checkpoint's tensors, MTP layers included as far as their layout is known."""
    return _bytes(spec, _model(spec, _WHOLE)) + _bytes(spec, _checkpoint_drafts(spec))


def weight_bytes(
    spec: ModelSpec, parallel: Parallel, mtp: bool = False, experts: ExpertKernel = PLAIN
) -> float:
    """Weight bytes on the fullest GPU.

    Parameters
    ----------
    spec
        The model.
    parallel
        A layout that `aiconf.model.layout_problem` accepts.
    mtp
        Whether the layers that draft tokens are loaded too (speculative decoding; see
        ``draft_layer``); they go on the last stage.
    experts
        How the engine's kernel holds routed experts; as they are stored by default.

    Returns
    -------
    float
        Bytes of one rank of the heaviest pipeline stage: attention and dense feed-forward
        divided by tp (KV heads replicated beyond their number), experts by ep and moe_tp, the
        input embedding on the first stage and the output head on the last. Latent attention
        keeps kv_b a second time, split per head in bf16, for decoding (vLLM W_UK_T and W_UV,
        SGLang w_kc and w_vc).
    """
    cut = stages(spec, parallel)
    sizes = []
    for index, groups in enumerate(cut):
        found = _bytes(spec, _layers(spec, groups, parallel, experts))
        found += sum(g.count * _beside(spec, g.ffn, parallel, experts) for g in groups)
        found += sum(g.count * _absorbed_bytes(g.attention, parallel.tp) for g in groups)
        first, last = index == 0, index == len(cut) - 1
        found += _bytes(spec, _ends(spec, parallel, first, last))
        if mtp and last:
            found += _bytes(spec, _drafts(spec, parallel, max(1, spec.mtp_layers), experts))
        sizes.append(found)
    return max(sizes)


def layer_weights(
    spec: ModelSpec, group: LayerGroup, parallel: Parallel = _WHOLE
) -> tuple[Weights, ...]:
    """Weights of one layer of a group: norms and attention first, then the feed-forward."""
    return tuple(_layer(spec, group, parallel))


def _bytes(spec: ModelSpec, found: Iterable[Weights]) -> float:
    return sum(weights.bytes(spec.quantization.group) for weights in found)


def _model(spec: ModelSpec, parallel: Parallel) -> Iterator[Weights]:
    yield from _layers(spec, spec.layers, parallel)
    yield from _ends(spec, parallel, True, True)


def _ends(spec: ModelSpec, parallel: Parallel, first: bool, last: bool) -> Iterator[Weights]:
    """Vision tower and input embedding on the first stage; final norm and head on the last."""
    rows = spec.vocab if parallel == _WHOLE else rank_vocab(spec, parallel.tp)
    if first and spec.vision is not None:
        # Quantised checkpoints leave the tower in bf16; a text token never meets it.
        yield Weights(vision_parameters(spec.vision, parallel.tp), "bf16", 0.0)
    if first:
        yield _dense(rows * spec.hidden, "bf16")
    if last:
        yield _dense(spec.hidden, "bf16")
        if not (spec.tied_embeddings and first):
            yield _dense(rows * spec.hidden, spec.quantization.lm_head)


def _layers(
    spec: ModelSpec, groups: Iterable[LayerGroup], parallel: Parallel,
    experts: ExpertKernel = PLAIN,
) -> Iterator[Weights]:  # fmt: skip
    for group in groups:
        for weights in _layer(spec, group, parallel, experts):
            yield Weights(
                weights.count * group.count, weights.precision, weights.active * group.count
            )


def _layer(
    spec: ModelSpec, group: LayerGroup, parallel: Parallel, experts: ExpertKernel = PLAIN
) -> Iterator[Weights]:
    yield _dense(group.norms * spec.hidden, "bf16")
    if group.attention is None:
        pass
    elif isinstance(group.attention, LinearAttention):
        yield from _linear(spec.hidden, group.attention, spec.quantization, parallel.tp)
    else:
        attention = _BLOCKS[group.attention.kind]
        yield from attention(spec.hidden, group.attention, spec.quantization, parallel.tp)
    if spec.streams > 1:
        yield _dense(2 * _mixing(spec.hidden, spec.streams), "bf16")
    if isinstance(group.ffn, DenseFfn):
        width = ceil_div(group.ffn.intermediate, parallel.tp)
        products = 3 if group.ffn.gated else 2
        yield _dense(products * spec.hidden * width, spec.quantization.dense)
    elif group.ffn is not None:
        yield from _experts(spec, group.ffn, parallel, experts)


def _gqa(hidden: int, attention: Attention, kinds: Quantization, tp: int) -> Iterator[Weights]:
    heads, kv_heads = rank_heads(attention, tp), rank_kv_heads(attention, tp)
    query = heads * attention.head_dim * (2 if attention.output_gate else 1)
    width = query + kv_heads * (
        attention.head_dim + (0 if attention.joint_kv else attention.v_head_dim)
    )
    yield _dense(hidden * width, kinds.attention)
    yield _dense(hidden * heads * attention.v_head_dim, kinds.attention_output)
    small = width * attention.bias + hidden * attention.output_bias + heads * attention.sinks
    yield _dense(small + 2 * attention.head_dim * attention.qk_norm, "bf16")
    if attention.index_heads:  # queries of the rank's KV heads, one key, a norm each
        index = (min(kv_heads, attention.index_heads) + 1) * attention.index_dim
        yield _dense(hidden * index, kinds.attention)
        yield _dense(2 * attention.index_dim, "bf16")


def _compressed(
    hidden: int, attention: Attention, kinds: Quantization, tp: int
) -> Iterator[Weights]:
    """Projections as one rank multiplies them; norms, sinks and the compressors' positions."""
    for n, k, precision in compressed_shapes(hidden, attention, tp, kinds):
        yield _dense(n * k, precision)
    small = attention.q_lora_rank + attention.head_dim + rank_heads(attention, tp)
    if attention.compress:
        overlap = 2 if attention.index_heads else 1
        small += attention.head_dim * (1 + overlap * attention.compress)
    if attention.index_heads:
        small += attention.index_dim * (1 + 2 * attention.compress)
    yield _dense(small, "bf16")


def _mixing(hidden: int, streams: int) -> float:
    """Weights that mix residual streams before and after one block.

    From all streams together: a weight for each going in and coming out, and a matrix between
    them (transformers models/deepseek_v4, DeepseekV4HyperConnection), with biases and 3 scales.
    """
    mixes = streams * (streams + 2)
    return mixes * streams * hidden + mixes + 3


def _linear(
    hidden: int, attention: LinearAttention, kinds: Quantization, tp: int
) -> Iterator[Weights]:
    """Projections, gates (always bf16), convolution, decay and time step, norm of a head.

    Mamba2: the time step is projected with the rest, the convolution has a bias, the norm a
    weight per channel, and each head a weight of its input (D).
    """
    values = attention.value_heads // tp
    width, mixed = values * attention.value_dim, mixed_width(attention, tp)
    yield _dense(hidden * width, kinds.linear_output)
    if attention.kind == "mamba2":
        yield _dense(hidden * (mixed + width + values), kinds.linear_input)
        yield _dense((attention.taps + 1) * mixed + 3 * values + width, "bf16")
        return
    yield _dense(hidden * (mixed + width), kinds.linear_input)
    if attention.kind == "kda":
        dim = attention.key_dim
        gates = hidden * (attention.value_heads + dim) + dim * width
        yield _dense(gates, kinds.linear_input)
        yield _dense(attention.taps * mixed + values + width + attention.value_dim, "bf16")
        return
    small = 2 * values * hidden + attention.taps * mixed + 2 * values + attention.value_dim
    yield _dense(small, "bf16")


def _mla(hidden: int, attention: Attention, kinds: Quantization, tp: int) -> Iterator[Weights]:
    heads, rank = rank_heads(attention, tp), attention.kv_lora_rank
    low = attention.q_lora_rank
    query = (
        hidden * low + low * heads * attention.head_dim
        if low
        else (hidden * heads * attention.head_dim)
    )
    latent = hidden * (rank + attention.qk_rope_head_dim)
    expanded = rank * heads * (attention.qk_nope_head_dim + attention.v_head_dim)
    yield _dense(query + latent + expanded, kinds.attention)
    yield _dense(hidden * heads * attention.v_head_dim, kinds.attention_output)
    yield _dense(low + rank, "bf16")  # norms of both latents
    if attention.output_gate:
        yield _dense(hidden * heads * attention.v_head_dim, kinds.attention)
    if attention.index_heads:
        queries = (low or hidden) * attention.index_heads * attention.index_dim
        yield _dense(queries + hidden * attention.index_dim, kinds.attention)
        # weights of the heads, and the layer norm of the key with its bias
        yield _dense(hidden * attention.index_heads + 2 * attention.index_dim, "bf16")


_BLOCKS = {"gqa": _gqa, "mla": _mla, "compressed": _compressed}


def _absorbed_bytes(attention: Attention | LinearAttention | None, tp: int) -> float:
    if not isinstance(attention, Attention) or attention.kind != "mla":
        return 0.0
    per_head = attention.kv_lora_rank * (attention.qk_nope_head_dim + attention.v_head_dim)
    return rank_heads(attention, tp) * per_head * weight_bytes_per_element("bf16")


def _rank_width(spec: ModelSpec, ffn: MoeFfn, parallel: Parallel) -> int:
    kinds = spec.quantization
    return expert_width(ffn.intermediate, kinds.experts, kinds.group, parallel.moe_tp)


def _beside(
    spec: ModelSpec, ffn: DenseFfn | MoeFfn | None, parallel: Parallel, experts: ExpertKernel
) -> float:
    """Bytes that the kernel of routed experts holds twice, on one rank and layer."""
    if not isinstance(ffn, MoeFfn):
        return 0.0
    width = _rank_width(spec, ffn, parallel)
    return ceil_div(ffn.experts, parallel.ep) * experts.beside(
        ffn, ffn.latent or spec.hidden, width
    )


def _experts(
    spec: ModelSpec, ffn: MoeFfn, parallel: Parallel, experts: ExpertKernel
) -> Iterator[Weights]:
    kinds, hidden = spec.quantization, spec.hidden
    width = _rank_width(spec, ffn, parallel)
    held = ceil_div(ffn.experts, parallel.ep)
    products = 3 if ffn.gated else 2
    one = experts.weights(ffn, ffn.latent or hidden, width)
    yield Weights(held * one, kinds.experts, ffn.topk * one)
    if ffn.bias:
        biases = experts.biases(hidden, width)
        yield Weights(held * biases, "bf16", ffn.topk * biases)
    if ffn.shared_intermediate:
        shared = ceil_div(ffn.shared_intermediate, parallel.tp)
        yield _dense(products * hidden * shared, kinds.dense)
        yield _dense(hidden * ffn.shared_gate, "bf16")
    yield _dense(2 * hidden * ffn.latent, "bf16")
    rows = hidden + (1 if ffn.bias or ffn.router_bias else 0)
    yield _dense(ffn.experts * rows, "bf16")  # the router is whole on every rank


def _checkpoint_drafts(spec: ModelSpec) -> Iterator[Weights]:
    """MTP layers of a checkpoint, some with an embedding and a head of their own each."""
    yield from _drafts(spec, _WHOLE, spec.mtp_layers)
    if spec.mtp_ends:
        yield _dense(spec.mtp_layers * 2 * spec.vocab * spec.hidden, "bf16")


def _drafts(
    spec: ModelSpec, parallel: Parallel, layers: int, experts: ExpertKernel = PLAIN
) -> Iterator[Weights]:
    """Draft layers as engines hold them: each with three norms and a projection.

    Embedding and head are shared with the main model (DeepSeek-V3 report, section 2.2).
    """
    layer = draft_layer(spec)
    group = LayerGroup(layers, layer.attention, layer.ffn)
    yield from _layers(spec, (group,), parallel, experts)
    joined = _MTP_PROJECTION * spec.hidden**2 + 3 * spec.hidden
    yield _dense(layers * joined, "bf16")
