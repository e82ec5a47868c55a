"""The kinds of operator in a forward pass: shapes of one rank, counts of the whole model.

Tokens: ``all`` are the tokens that this attention rank computes in the iteration; ``prefill``
and ``decode`` the parts of them that belong to prompts and to running sequences; ``sampled``
one per sequence that gets a new token. ``count`` is over all layers of the model, so a rank of a
pipeline of ``pp`` stages runs ``count / pp`` of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiconf.model.spec import Precision

Tokens = Literal["all", "prefill", "decode", "sampled"]
Part = Literal["attention", "dense", "shared", "router", "lm_head"]
Producer = Literal["norm", "attention", "activation"]
Where = Literal["embedding", "qk_norm", "attention", "ffn", "moe", "lm_head"]


@dataclass(frozen=True)
class Gemm:
    """y[m, n] = x[m, k] w[n, k], with m the ``tokens`` of this rank.

    beside: routed experts run at the same time, in engines that give both a stream.
    """

    n: int
    k: int
    dtype: Precision | Literal["float32"]
    count: int
    tokens: Tokens
    part: Part
    beside: bool = False


@dataclass(frozen=True)
class BatchedGemm:
    """One product per head, y[h, m, n] = x[h, m, k] w[h, n, k]: the absorbed halves of kv_b.

    ``mla_pre`` turns the query into the latent space, ``mla_post`` brings the output back.
    """

    batch: int  # heads of this rank
    n: int
    k: int
    dtype: Precision
    count: int
    tokens: Tokens
    kind: Literal["mla_pre", "mla_post"]


@dataclass(frozen=True)
class GqaAttention:
    """Softmax attention kernel of one rank; ``kv_heads`` counts replicas (at least 1)."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    count: int
    sinks: bool = False


@dataclass(frozen=True)
class MlaAttention:
    """Latent attention of one rank.

    A prompt expands the latent cache with kv_b and attends with ``heads`` full heads; decode
    absorbs kv_b into query and output (``absorbed``) and attends to the latent as one KV head.
    ``projections`` and ``absorbed`` are not listed again among the operators: time this module
    either whole, or as its kernel plus these.
    """

    heads: int
    count: int
    gemm_dtype: Precision  # of the projections
    kv_lora_rank: int
    q_lora_rank: int
    qk_nope: int
    qk_rope: int
    v_head_dim: int
    hidden: int
    projections: tuple[Gemm, ...]
    absorbed: tuple[BatchedGemm, ...]
    index_heads: int = 0  # of sparse attention, see `Attention`
    index_dim: int = 0
    index_topk: int = 0


@dataclass(frozen=True)
class SparseBlock:
    """A whole attention block that reads part of its cache, with its projections.

    kind: csa, hca, swa (DeepSeek-V4) or msa (MiniMax-M3). window: tokens that are read as they
    are (0: none); ratio: tokens of one entry of the rest (0: no rest); topk: entries that a
    query attends to (0: all), chosen by ``index_heads``.
    """

    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    rope_dim: int
    window: int
    ratio: int
    topk: int
    index_heads: int
    index_dim: int
    hidden: int
    gemm_dtype: Precision
    projections: tuple[Gemm, ...]
    count: int


@dataclass(frozen=True)
class HyperConnection:
    """Mixing of ``streams`` residual streams before and after both blocks of a layer."""

    hidden: int
    streams: int
    count: int


@dataclass(frozen=True)
class LinearScan:
    """Convolution and recurrence of linear attention (kind as in `LinearAttention`), one rank."""

    kind: Literal["gdn", "kda", "mamba2"]
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int
    count: int


@dataclass(frozen=True)
class Moe:
    """Routed experts of a layer: both grouped products, activation and weighted sum.

    ``gated``: the first product has a gate beside it (both of width ``inter``).

    ``inter`` and ``experts`` are of the whole model. Tokens: those of all ``dp`` attention ranks
    together; each visits ``topk`` experts.
    """

    hidden: int
    inter: int
    topk: int
    experts: int
    tp: int  # ranks that split each expert
    ep: int  # ranks that the experts are divided over
    dtype: Precision
    count: int
    gated: bool = True
    attention_dp: bool = False  # tokens come from several attention ranks


@dataclass(frozen=True)
class Elementwise:
    """A memory-bound step: bytes read and written per token of this rank, kernels launched.

    beside: as in `Gemm`.
    """

    bytes_per_token: float
    launches: int  # per occurrence; occurrences are ``count``
    count: int
    kind: Literal[
        "norm", "qk_norm", "latent_norm", "rope", "kv_write", "activation", "topk", "embedding",
        "gate", "convert", "index",
    ]  # fmt: skip
    beside: bool = False


@dataclass(frozen=True)
class Quantize:
    """Quantisation of the ``k`` activations of a token before a product of precision ``dtype``.

    after: the kernel that produces them, which some engines fuse the quantisation into.
    in_module: it is part of an MLA block, and of that block's time where it is timed whole.
    beside: as in `Gemm`.
    """

    k: int
    dtype: Precision
    count: int
    after: Producer
    tokens: Tokens = "all"
    in_module: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Collective:
    """A collective over ``ranks``.

    ``bytes_per_token`` is of the full message per token of this attention rank: the buffer of an
    all_reduce, the output of an all_gather, the input of a reduce_scatter (NCCL's sizes).
    """

    op: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    ranks: int
    bytes_per_token: float
    count: int
    where: Where
    tokens: Tokens = "all"


@dataclass(frozen=True)
class MoeExchange:
    """Tokens go to the ranks of their experts and back; how is the engine's choice.

    Each of the ``ranks`` sends ``token_share`` of the tokens of its attention rank: with tensor
    parallel attention its ranks hold the same tokens and each sends its part.
    """

    ranks: int
    hidden: int
    topk: int
    experts: int
    dtype: Precision  # of the experts
    count: int
    token_share: float = 1.0


@dataclass(frozen=True)
class PipelineSend:
    """Activations to the next stage, once per stage boundary; bytes per token of this rank."""

    bytes_per_token: float


Operator = (
    Gemm
    | GqaAttention
    | MlaAttention
    | SparseBlock
    | HyperConnection
    | LinearScan
    | Moe
    | Elementwise
    | Quantize
    | Collective
    | MoeExchange
    | PipelineSend
)
