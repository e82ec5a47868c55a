"""Operators of a linear-attention block, as one tensor-parallel rank runs them."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.model.activations import BF16, quantize
from aiconf.model.operation import Elementwise, Gemm, LinearScan, Operator
from aiconf.model.spec import LinearAttention, ModelSpec


def linear_operators(
    spec: ModelSpec, attention: LinearAttention, tp: int, count: int
) -> Iterator[Operator]:
    """Yield what ``count`` blocks run between the norm before and the all-reduce after.

    As engines run it: projection in, small kernels, convolution, recurrence, gated norm,
    projection out (SGLang and vLLM models/qwen3_next.py, models/nemotron_h.py).
    """
    kinds = spec.quantization
    keys, values = attention.key_heads // tp, attention.value_heads // tp
    width, value_width = keys * attention.key_dim, values * attention.value_dim
    # q, k (of Mamba: C and B, shared by a group of heads), v and the output gate
    together = 2 * width + 2 * value_width
    yield from quantize(spec.hidden, kinds.linear_input, count, "norm")
    if attention.kind == "mamba2":
        # with the time step of each head
        yield Gemm(together + values, spec.hidden, kinds.linear_input, count, "all", "attention")
    elif attention.kind == "kda":
        # Rate of forgetting: beta of each head and a low-rank gate of each channel, both whole on
        # every rank up to the gate's second product.
        small = attention.value_heads + attention.key_dim
        yield Gemm(together, spec.hidden, kinds.linear_input, count, "all", "attention")
        yield Gemm(small, spec.hidden, kinds.linear_input, count, "all", "attention")
        yield Gemm(width, attention.key_dim, kinds.linear_input, count, "all", "attention")
    else:
        yield Gemm(together, spec.hidden, kinds.linear_input, count, "all", "attention")
        yield Gemm(2 * values, spec.hidden, "bf16", count, "all", "attention")  # decay, beta
        yield Elementwise(2 * together * BF16, 1, count, "gate")  # split into q, k, v and gates
    yield LinearScan(
        attention.kind, keys, values, attention.key_dim, attention.value_dim, attention.taps, count
    )
    yield Elementwise(3 * value_width * BF16, 1, count, "gate")  # norm(o) * silu(z)
    yield from quantize(value_width, kinds.linear_output, count, "attention")
    yield Gemm(spec.hidden, value_width, kinds.linear_output, count, "all", "attention")
