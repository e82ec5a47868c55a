"""Operators of the feed-forward block of a layer, dense or of experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiconf.model.activations import BF16, FLOAT32, quantize
from aiconf.model.operation import (
    Collective,
    Elementwise,
    Gemm,
    Moe,
    MoeExchange,
    Operator,
    Part,
    Quantize,
)
from aiconf.model.shard import ceil_div
from aiconf.model.spec import DenseFfn, ModelSpec, MoeFfn, Precision
from aiconf.parallel import Parallel


def ffn_operators(
    spec: ModelSpec, ffn: DenseFfn | MoeFfn, parallel: Parallel, count: int
) -> Iterator[Operator]:
    """Yield the operators of ``count`` feed-forward blocks and the norm before each."""
    yield Elementwise(4 * spec.hidden * BF16, 1, count, "norm")
    if isinstance(ffn, DenseFfn):
        width = ceil_div(ffn.intermediate, parallel.tp)
        yield from _block(spec.hidden, width, spec.quantization.dense, count, "dense", ffn.gated)
        if parallel.tp > 1:
            yield Collective("all_reduce", parallel.tp, spec.hidden * BF16, count, "ffn")
        return
    yield from _experts(spec, ffn, parallel, count)


def _block(
    hidden: int, width: int, dtype: Precision, count: int, part: Part, gated: bool
) -> Iterator[Gemm | Elementwise | Quantize]:
    """Gate and up fused in one product, silu(gate) * up, down; without a gate f(up), down."""
    columns = 2 * width if gated else width
    yield from quantize(hidden, dtype, count, "norm")
    yield Gemm(columns, hidden, dtype, count, "all", part)
    yield Elementwise((columns + width) * BF16, 1, count, "activation")
    yield from quantize(width, dtype, count, "activation")
    yield Gemm(hidden, width, dtype, count, "all", part)


def _shared(
    spec: ModelSpec, ffn: MoeFfn, parallel: Parallel, count: int
) -> Iterator[Gemm | Elementwise | Quantize]:
    """The shared expert, if there is one."""
    if not ffn.shared_intermediate:
        return
    width = ceil_div(ffn.shared_intermediate, parallel.tp)
    yield from _block(spec.hidden, width, spec.quantization.dense, count, "shared", ffn.gated)
    if ffn.shared_gate:
        # A product with one column reads the token once; its sigmoid scales the output.
        yield Elementwise(4 * spec.hidden * BF16, 2, count, "gate")


def _experts(spec: ModelSpec, ffn: MoeFfn, parallel: Parallel, count: int) -> Iterator[Operator]:
    """Router, shared expert (split over the attention's tp ranks, as vLLM does), experts."""
    hidden = spec.hidden
    if ffn.router_float32:  # after a conversion of the tokens
        yield Elementwise(hidden * (BF16 + FLOAT32), 1, count, "convert")
        yield Gemm(ffn.experts, hidden, "float32", count, "all", "router")
    else:
        yield Gemm(ffn.experts, hidden, "bf16", count, "all", "router")
    yield Elementwise(ffn.experts * 4.0 + ffn.topk * 8.0, 1, count, "topk")  # fp32 scores
    for operator in _shared(spec, ffn, parallel, count):
        yield replace(operator, beside=True)
    if ffn.latent:  # experts work on a projection of the token (Nemotron-3 report, LatentMoE)
        yield Gemm(ffn.latent, hidden, "bf16", count, "all", "shared")
        yield Gemm(hidden, ffn.latent, "bf16", count, "all", "shared")
    yield Moe(
        hidden=ffn.latent or hidden,
        inter=ffn.intermediate,
        topk=ffn.topk,
        experts=ffn.experts,
        tp=parallel.moe_tp,
        ep=parallel.ep,
        dtype=spec.quantization.experts,
        count=count,
        gated=ffn.gated,
        attention_dp=parallel.dp > 1,
    )
    yield from _expert_traffic(spec, ffn, parallel, count)


def _expert_traffic(
    spec: ModelSpec, ffn: MoeFfn, parallel: Parallel, count: int
) -> Iterator[Operator]:
    """What joins the ranks of an expert layer.

    One attention group (dp 1): its ranks hold the same tokens, so partial sums of the routed
    and shared experts are all-reduced together. DP attention with the experts divided over all
    ranks: dispatch and combine, each rank sending its 1 / tp of the tokens, which the tp ranks
    then gather. DP attention with experts split inside (ep < tp x dp): every rank gathers the
    tokens of all and the partial sums are reduce-scattered back.
    """
    hidden, message = ffn.latent or spec.hidden, spec.hidden * BF16
    if parallel.dp == 1:
        if parallel.tp > 1:
            yield Collective("all_reduce", parallel.tp, message, count, "moe")
        return
    if parallel.ep == parallel.stage_gpus:
        dtype, share = spec.quantization.experts, 1 / parallel.tp
        yield MoeExchange(parallel.ep, hidden, ffn.topk, ffn.experts, dtype, count, share)
    else:
        everyone = parallel.dp * message
        yield Collective("all_gather", parallel.stage_gpus, everyone, count, "moe")
        yield Collective("reduce_scatter", parallel.stage_gpus, everyone, count, "moe")
    if parallel.tp > 1:
        yield Collective("all_gather", parallel.tp, message, count, "moe")
