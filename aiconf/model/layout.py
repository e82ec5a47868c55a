"""Which parallel layouts a model can be cut into."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.model.shard import block
from aiconf.model.spec import Attention, DenseFfn, LinearAttention, ModelSpec, MoeFfn, Precision
from aiconf.parallel import Parallel


def layout_problem(spec: ModelSpec, parallel: Parallel) -> str | None:
    """Say why a model cannot be served under a layout, or None when it can.

    Holds for every engine: whole heads and experts per rank, KV heads divided or replicated
    evenly, and no shard that cuts through a quantisation block.
    """
    return next(_problems(spec, parallel), None)


def head_counts(spec: ModelSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the counts of heads that tensor parallelism must divide, and of KV heads.

    KV heads may be copied, so that tensor parallelism may be a multiple of them, too; so may
    the groups of Mamba-2, which are left out.
    """
    heads = {attention.heads for attention, _ in spec.softmax}
    for one in (group.attention for group in spec.layers):
        if isinstance(one, LinearAttention):
            heads |= {one.value_heads} if one.kind == "mamba2" else {one.value_heads, one.key_heads}
    kv_heads = {attention.kv_heads for attention, _ in spec.softmax}
    return tuple(sorted(heads, reverse=True)), tuple(sorted(kv_heads))


def _problems(spec: ModelSpec, parallel: Parallel) -> Iterator[str]:
    if not spec.is_moe and (parallel.dp > 1 or parallel.ep > 1):
        yield f"{spec.name} has no experts: dp and ep must be 1, not {parallel.dp}, {parallel.ep}"
    if parallel.pp > spec.layer_count:
        yield f"pp {parallel.pp} exceeds the {spec.layer_count} layers of {spec.name}"
    for attention in dict.fromkeys(group.attention for group in spec.layers):
        if attention is None:
            continue
        if isinstance(attention, LinearAttention):
            yield from _linear_problems(spec, attention, parallel.tp)
        else:
            yield from _attention_problems(spec, attention, parallel.tp)
    for ffn in dict.fromkeys(group.ffn for group in spec.layers):
        if isinstance(ffn, MoeFfn):
            yield from _expert_problems(spec, ffn, parallel)
        elif ffn is not None:
            yield from _dense_problems(spec, ffn, parallel.tp)


def _attention_problems(spec: ModelSpec, attention: Attention, tp: int) -> Iterator[str]:
    heads, kv_heads = attention.heads, attention.kv_heads
    if heads % tp:
        yield f"tp {tp} does not divide the {heads} attention heads of {spec.name}"
    elif kv_heads % tp and tp % kv_heads:
        yield f"tp {tp} neither divides nor is a multiple of the {kv_heads} KV heads"
    if attention.output_groups % min(tp, heads):
        yield f"tp {tp} does not divide the {attention.output_groups} output groups of {spec.name}"
    if attention.kind == "gqa":
        per_rank = max(1, kv_heads // tp) * attention.head_dim
        yield from _cut(spec, "KV width", per_rank, tp, spec.quantization.attention)
    per_rank = heads // tp * attention.v_head_dim
    yield from _cut(spec, "attention width", per_rank, tp, spec.quantization.attention_output)


def _linear_problems(spec: ModelSpec, attention: LinearAttention, tp: int) -> Iterator[str]:
    for what, heads, dim in (
        ("key", attention.key_heads, attention.key_dim),
        ("value", attention.value_heads, attention.value_dim),
    ):
        if heads % tp:
            yield f"tp {tp} does not divide the {heads} linear {what} heads of {spec.name}"
        else:
            width = heads // tp * dim
            yield from _cut(spec, f"{what} width", width, tp, spec.quantization.attention)


def _dense_problems(spec: ModelSpec, ffn: DenseFfn, tp: int) -> Iterator[str]:
    yield from _width_problem(
        spec, "feed-forward width", ffn.intermediate, tp, spec.quantization.dense
    )


def _expert_problems(spec: ModelSpec, ffn: MoeFfn, parallel: Parallel) -> Iterator[str]:
    if ffn.experts % parallel.ep:
        yield f"ep {parallel.ep} does not divide the {ffn.experts} experts of {spec.name}"
    precision = spec.quantization.experts
    if precision != "mxfp4":  # engines pad mxfp4 experts to whole blocks
        for problem in _width_problem(
            spec, "expert width", ffn.intermediate, parallel.moe_tp, precision
        ):
            yield f"{problem}; a larger ep splits experts less"
    if ffn.shared_intermediate:
        yield from _width_problem(
            spec,
            "shared expert width",
            ffn.shared_intermediate,
            parallel.tp,
            spec.quantization.dense,
        )


def _width_problem(
    spec: ModelSpec, what: str, width: int, ranks: int, precision: Precision
) -> Iterator[str]:
    if width % ranks:
        yield f"{ranks} ranks do not divide the {what} {width} of {spec.name}"
    else:
        yield from _cut(spec, what, width // ranks, ranks, precision)


def _cut(
    spec: ModelSpec, what: str, per_rank: int, ranks: int, precision: Precision
) -> Iterator[str]:
    size = block(precision, spec.quantization.group)
    if ranks > 1 and per_rank % size:
        yield (
            f"{what} of {spec.name} is {per_rank} on each of {ranks} ranks, "
            f"not a multiple of the {precision} block of {size}"
        )
