"""Operators of the attention block of a layer, as one tensor-parallel rank runs them."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.model.activations import BF16, quantize
from aiconf.model.linear_operators import linear_operators
from aiconf.model.operation import (
    BatchedGemm,
    Collective,
    Elementwise,
    Gemm,
    GqaAttention,
    MlaAttention,
    Operator,
    Producer,
)
from aiconf.model.shard import rank_heads, rank_kv_heads
from aiconf.model.sparse_operators import sparse_block
from aiconf.model.spec import Attention, LinearAttention, ModelSpec, Quantization

_INDEX_KERNELS = 10  # small ones, where an engine does not fuse them (sglang pull request 27705)


def attention_operators(
    spec: ModelSpec, attention: Attention | LinearAttention, tp: int, count: int
) -> Iterator[Operator]:
    """Yield the operators of ``count`` attention blocks and the norm before each."""
    hidden = spec.hidden
    yield Elementwise(4 * hidden * BF16, 1, count, "norm")  # x and residual, in and out
    if isinstance(attention, LinearAttention):
        yield from linear_operators(spec, attention, tp, count)
    elif attention.kind == "compressed" or (attention.kind == "gqa" and attention.index_topk):
        yield sparse_block(spec, attention, tp, count)
    else:
        block = _mla if attention.kind == "mla" else _gqa
        yield from block(spec, attention, tp, count)
    if tp > 1:
        yield Collective("all_reduce", tp, hidden * BF16, count, "attention")


def _gqa(spec: ModelSpec, attention: Attention, tp: int, count: int) -> Iterator[Operator]:
    heads, kv_heads = rank_heads(attention, tp), rank_kv_heads(attention, tp)
    dim, dtypes = attention.head_dim, spec.quantization
    wide = attention.v_head_dim
    query = heads * (2 if attention.output_gate else 1) * dim
    yield from quantize(spec.hidden, dtypes.attention, count, "norm")
    projected = query + kv_heads * (dim + (0 if attention.joint_kv else wide))
    yield Gemm(projected, spec.hidden, dtypes.attention, count, "all", "attention")
    rotated = 2 * (heads + kv_heads) * dim * BF16  # read and written
    if attention.qk_norm:
        yield Elementwise(rotated, 2, count, "qk_norm")  # one kernel each for q and k
    if attention.qk_norm_joint and tp > 1:
        # The float32 sums of squares of q and of k, in one message (vLLM pull request 31493).
        yield Collective("all_reduce", tp, 2 * 4.0, count, "qk_norm")
    yield Elementwise(rotated, 1, count, "rope")
    cache = 2.0 if dtypes.kv == "bf16" else 1.0
    yield Elementwise(kv_heads * (dim + wide) * (BF16 + cache), 1, count, "kv_write")
    yield GqaAttention(heads, kv_heads, dim, attention.window, count, attention.sinks)
    if attention.output_gate:
        yield Elementwise(3 * heads * wide * BF16, 1, count, "gate")
    yield from quantize(heads * wide, dtypes.attention_output, count, "attention")
    yield Gemm(spec.hidden, heads * wide, dtypes.attention_output, count, "all", "attention")


def _mla(spec: ModelSpec, attention: Attention, tp: int, count: int) -> Iterator[Operator]:
    heads, dtypes = rank_heads(attention, tp), spec.quantization
    latent = attention.kv_lora_rank + attention.qk_rope_head_dim
    projections = _mla_projections(spec.hidden, attention, heads, dtypes, count)
    for gemm in projections:
        # kv_b is quantised with its own kernel inside the module
        if gemm.tokens == "all" and gemm.dtype != "float32":
            last = gemm.n == spec.hidden and gemm.k == heads * attention.v_head_dim
            after: Producer = "attention" if last else "norm"
            yield from quantize(gemm.k, gemm.dtype, count, after, in_module=True)
    normed = 2 * (attention.q_lora_rank + attention.kv_lora_rank) * BF16
    yield Elementwise(normed, 2, count, "latent_norm")
    yield Elementwise(2 * (heads + 1) * attention.qk_rope_head_dim * BF16, 1, count, "rope")
    cache = 2.0 if dtypes.kv == "bf16" else 1.0
    yield Elementwise(latent * (BF16 + cache), 1, count, "kv_write")
    if attention.index_heads:
        # Norm, rotary embeddings, Hadamard transforms, quantisation and cache write of the
        # indexer's queries and key, and the scaling of its head weights.
        width = (attention.index_heads + 1) * attention.index_dim
        yield Elementwise(_INDEX_KERNELS * 2 * width * BF16, _INDEX_KERNELS, count, "index")
    yield MlaAttention(
        heads=heads,
        count=count,
        gemm_dtype=dtypes.attention,
        kv_lora_rank=attention.kv_lora_rank,
        q_lora_rank=attention.q_lora_rank,
        qk_nope=attention.qk_nope_head_dim,
        qk_rope=attention.qk_rope_head_dim,
        v_head_dim=attention.v_head_dim,
        hidden=spec.hidden,
        projections=projections,
        absorbed=_absorbed(attention, heads, count),
        index_heads=attention.index_heads,
        index_dim=attention.index_dim,
        index_topk=attention.index_topk,
    )


def _mla_projections(
    hidden: int, attention: Attention, heads: int, dtypes: Quantization, count: int
) -> tuple[Gemm, ...]:
    """q_a and kv_a fused and replicated on all ranks; q_b, kv_b and o divided over heads.

    An indexer is replicated: its queries from q's latent, its one key and the weights of its
    heads from the hidden state.
    """
    latent = attention.kv_lora_rank + attention.qk_rope_head_dim
    dtype, per_head = dtypes.attention, attention.head_dim
    down = attention.q_lora_rank or heads * per_head
    shapes = [(down + latent, hidden, dtype, "all")]
    if attention.q_lora_rank:
        shapes.append((heads * per_head, attention.q_lora_rank, dtype, "all"))
    if attention.index_heads:
        shapes.append((attention.index_heads * attention.index_dim, down, dtype, "all"))
        shapes.append((attention.index_dim, hidden, dtype, "all"))
        shapes.append((attention.index_heads, hidden, "bf16", "all"))
    expanded = heads * (attention.qk_nope_head_dim + attention.v_head_dim)
    shapes.append((expanded, attention.kv_lora_rank, dtype, "prefill"))
    if attention.output_gate:
        shapes.append((heads * attention.v_head_dim, hidden, dtype, "all"))
    shapes.append((hidden, heads * attention.v_head_dim, dtypes.attention_output, "all"))
    return tuple(
        Gemm(n, k, kind, count, tokens, "attention")  # type: ignore[arg-type]
        for n, k, kind, tokens in shapes
    )


def _absorbed(attention: Attention, heads: int, count: int) -> tuple[BatchedGemm, ...]:
    """kv_b split per head, kept in bf16 (vLLM dequantises it when it loads the weights)."""
    rank = attention.kv_lora_rank
    return (
        BatchedGemm(heads, rank, attention.qk_nope_head_dim, "bf16", count, "decode", "mla_pre"),
        BatchedGemm(heads, attention.v_head_dim, rank, "bf16", count, "decode", "mla_post"),
    )
