"""Attention blocks that are timed whole: compressed (DeepSeek-V4) and in chosen blocks of keys.

Their tables hold a block with its projections, so the projections travel with the operator and
not beside it: what a prompt and decodes of one iteration share is taken off by the engine.
"""

from __future__ import annotations

from aiconf.model.operation import Gemm, SparseBlock
from aiconf.model.shard import ceil_div, rank_heads, rank_kv_heads
from aiconf.model.spec import Attention, ModelSpec, Precision, Quantization

Shape = tuple[int, int, Precision]


def sparse_block(spec: ModelSpec, attention: Attention, tp: int, count: int) -> SparseBlock:
    """Return ``count`` blocks of compressed or block-sparse attention as one rank runs them."""
    compressed = attention.kind == "compressed"
    shapes = (compressed_shapes if compressed else _chosen)(
        spec.hidden, attention, tp, spec.quantization
    )
    return SparseBlock(
        kind=sparse_kind(attention),
        heads=rank_heads(attention, tp),
        kv_heads=rank_kv_heads(attention, tp),
        head_dim=attention.head_dim,
        rope_dim=attention.qk_rope_head_dim,
        window=(attention.window or 0) if compressed else 0,
        ratio=attention.compress if compressed else 1,
        topk=attention.index_topk,
        index_heads=attention.index_heads if compressed else rank_kv_heads(attention, tp),
        index_dim=attention.index_dim,
        hidden=spec.hidden,
        gemm_dtype=spec.quantization.attention,
        projections=tuple(Gemm(n, k, kind, count, "all", "attention") for n, k, kind in shapes),
        count=count,
    )


def sparse_kind(attention: Attention) -> str:
    """Name of a block in the tables: csa, hca or swa of DeepSeek-V4, msa of MiniMax-M3."""
    if attention.kind != "compressed":
        return "msa"
    if not attention.compress:
        return "swa"
    return "csa" if attention.index_heads else "hca"


def compressed_shapes(
    hidden: int, attention: Attention, tp: int, kinds: Quantization
) -> list[Shape]:
    """(n, k, precision) of the projections of compressed attention on one rank.

    Query and key latents are replicated, heads divided; compressors stay bf16.

    vLLM models/deepseek_v4/attention.py (fused_wqa_wkv, wq_b, wo_a, wo_b) and compressor.py
    (fused_wkv_wgate, quant_config=None).
    """
    heads, dim, kind = rank_heads(attention, tp), attention.head_dim, kinds.attention
    low, rank = attention.q_lora_rank, attention.output_rank
    groups = ceil_div(attention.output_groups, tp)
    shapes: list[Shape] = [(low + dim, hidden, kind), (heads * dim, low, kind)]
    if attention.compress:
        overlap = 2 if attention.index_heads else 1
        shapes.append((2 * overlap * dim, hidden, "bf16"))  # keys and their scores
    if attention.index_heads:
        shapes.append((attention.index_heads * attention.index_dim, low, kind))
        shapes.append((4 * attention.index_dim, hidden, "bf16"))
        shapes.append((attention.index_heads, hidden, "bf16"))
    # The grouped product as one: as many weights and operations.
    shapes += [(rank, heads * dim, kind), (hidden, groups * rank, kinds.attention_output)]
    return shapes


def _chosen(hidden: int, attention: Attention, tp: int, kinds: Quantization) -> list[Shape]:
    """Grouped attention with the index queries of its KV heads and one index key."""
    heads, kv_heads = rank_heads(attention, tp), rank_kv_heads(attention, tp)
    dim = attention.head_dim
    width = (heads + 2 * kv_heads) * dim + (kv_heads + 1) * attention.index_dim
    return [
        (width, hidden, kinds.attention),
        (hidden, heads * dim, kinds.attention_output),
    ]
