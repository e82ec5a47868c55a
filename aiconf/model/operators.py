"""The operators of one forward pass of a model under a parallel layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from aiconf.model.activations import BF16
from aiconf.model.attention_operators import attention_operators
from aiconf.model.ffn_operators import ffn_operators
from aiconf.model.operation import (
    BatchedGemm,
    Collective,
    Elementwise,
    Gemm,
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    MoeExchange,
    Operator,
    PipelineSend,
    Quantize,
    SparseBlock,
)
from aiconf.model.shard import rank_vocab
from aiconf.model.spec import Attention, LinearAttention, ModelSpec
from aiconf.parallel import Parallel

__all__ = [
    "BatchedGemm",
    "Collective",
    "Elementwise",
    "Gemm",
    "GqaAttention",
    "HyperConnection",
    "LinearScan",
    "MlaAttention",
    "Moe",
    "MoeExchange",
    "Operator",
    "PipelineSend",
    "Quantize",
    "SparseBlock",
    "operators",
]


# Not counted, or carrying counted parts: one entry each already.
_ONCE = (PipelineSend, MlaAttention, SparseBlock)


def operators(spec: ModelSpec, parallel: Parallel) -> tuple[Operator, ...]:
    """List the operators that one rank runs in a forward pass.

    Parameters
    ----------
    spec
        The model.
    parallel
        A layout that `aiconf.model.layout_problem` accepts for the model.

    Returns
    -------
    tuple of Operator
        Shapes of one rank; counts over all layers of the model (divide by ``pp`` for a stage).
        Equal operators of different layers are one entry. `PipelineSend` is there when pp > 1.
        Fused as engines fuse them: qkv in one product, gate and up in one product.
    """
    return tuple(_merged(_all(spec, parallel)))


def _all(spec: ModelSpec, parallel: Parallel) -> Iterator[Operator]:
    tp, hidden = parallel.tp, spec.hidden
    yield Elementwise(2 * hidden * BF16, 1, 1, "embedding")
    if tp > 1:
        yield Collective("all_reduce", tp, hidden * BF16, 1, "embedding")
    blocks: Counter[Attention | LinearAttention] = Counter()
    for group in spec.layers:
        if group.attention:
            blocks[group.attention] += group.count
    for attention, count in blocks.items():
        yield from attention_operators(spec, attention, tp, count)
    for group in spec.layers:
        if group.ffn is not None:
            yield from ffn_operators(spec, group.ffn, parallel, group.count)
    if spec.streams > 1:
        yield HyperConnection(hidden, spec.streams, spec.layer_count)
    behind = sum(max(group.norms - 2, 0) * group.count for group in spec.layers)
    if behind:
        yield Elementwise(2 * hidden * BF16, 1, behind, "norm")
    yield Elementwise(4 * hidden * BF16, 1, 1, "norm")
    rows = rank_vocab(spec, tp)
    yield Gemm(rows, hidden, spec.quantization.lm_head, 1, "sampled", "lm_head")
    if tp > 1:
        yield Collective("all_gather", tp, rows * tp * BF16, 1, "lm_head", "sampled")
    if parallel.pp > 1:
        # Hidden state and residual, each tp rank its part (vLLM IntermediateTensors); residual
        # streams are the hidden state themselves (vllm pull request 55520).
        sent = spec.streams if spec.streams > 1 else 2
        yield PipelineSend(sent * hidden * BF16 / tp)


def _merged(found: Iterator[Operator]) -> Iterator[Operator]:
    counts: dict[Operator, int] = {}
    for operator in found:
        if isinstance(operator, _ONCE):
            counts[operator] = 0
            continue
        key = replace(operator, count=0)
        counts[key] = counts.get(key, 0) + operator.count
    for operator, count in counts.items():
        if isinstance(operator, _ONCE):
            yield operator
        else:
            yield replace(operator, count=count)
