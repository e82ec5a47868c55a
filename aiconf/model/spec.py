"""What a model is: layers of attention and feed-forward blocks, before any sharding.

Counts are tokens, heads, elements; precisions are named as in perf_db:
``bf16``, ``fp8`` (per tensor or channel), ``fp8_block`` (128 x 128 blocks), ``int8``,
``int4`` (weight only), ``nvfp4``, ``mxfp4`` (weight only).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from aiconf.model.vision import VisionTower

Precision = Literal["bf16", "fp8", "fp8_block", "int8", "int4", "nvfp4", "mxfp4"]


@dataclass(frozen=True)
class Attention:
    """Softmax attention: grouped KV heads (``gqa``), a latent KV (``mla``), or ``compressed``.

    For ``mla``: head_dim = qk_nope_head_dim + qk_rope_head_dim and kv_heads = heads. With
    ``index_topk`` a query attends to that many entries only, which an indexer of ``index_heads``
    small heads chooses (DeepSeek-V3.2 report, arXiv 2512.02556, section 2.1); without index
    heads the choice of an earlier layer is used again. ``gqa`` with ``index_topk`` chooses whole
    blocks of keys, for each KV head its own (MiniMax-M3, arXiv 2606.13392).

    ``compressed`` is DeepSeek-V4's: one vector per token is key and value of all heads; a query
    sees the last ``window`` of them and one entry for every ``compress`` earlier tokens (0: none),
    of which an indexer may choose. The output is projected in ``output_groups`` groups of heads
    to ``output_rank`` each (transformers models/deepseek_v4, which cites the report's sections).
    """

    kind: Literal["gqa", "mla", "compressed"]
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int  # equals head_dim for gqa
    window: int | None = None  # tokens a query sees; None: all
    bias: bool = False  # bias on q, k, v
    output_bias: bool = False
    qk_norm: bool = False
    qk_norm_joint: bool = False  # over all heads together: tp ranks exchange sums of squares
    output_gate: bool = False
    joint_kv: bool = False  # one projection serves k and v (Gemma 4's full layers)
    sinks: bool = False  # one learned logit per head (gpt-oss)
    q_lora_rank: int = 0  # 0: queries are projected directly
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0  # entries; 0: dense
    compress: int = 0
    output_groups: int = 0
    output_rank: int = 0


@dataclass(frozen=True)
class LinearAttention:
    """Attention with a state of fixed size per sequence in place of a KV cache.

    ``gdn``: gated delta net (arXiv 2412.06464). ``kda``: Kimi delta attention (arXiv 2510.26692),
    which forgets by channel and not by head. ``mamba2`` (arXiv 2405.21060): keys are the groups
    that share B and C, key_dim the size of the state, values the heads. A short convolution over
    q, k and v keeps the last ``taps`` - 1 inputs; the recurrence keeps a ``key_dim`` x
    ``value_dim`` matrix per value head, in float32 as the checkpoints state it
    (``mamba_ssm_dtype``).
    """

    kind: Literal["gdn", "kda", "mamba2"]
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int  # of the convolution


@dataclass(frozen=True)
class DenseFfn:
    """Feed-forward block: up, gate, down; without a gate the activation of up alone (ReLU^2)."""

    intermediate: int
    gated: bool = True


@dataclass(frozen=True)
class MoeFfn:
    """Routed experts (gated feed-forward each) with optional always-active shared expert."""

    experts: int
    topk: int
    intermediate: int  # of one routed expert
    shared_intermediate: int = 0  # of all shared experts together; 0: none
    bias: bool = False  # biases on router and expert projections (gpt-oss)
    router_bias: bool = False  # a per-expert correction bias of the router (DeepSeek-V3)
    gated: bool = True  # each expert, as in `DenseFfn`
    latent: int = 0  # width that experts read and write, after a projection; 0: the hidden size
    shared_gate: bool = False  # the shared expert is weighted by a learned sigmoid (Qwen)
    router_float32: bool = False  # the router's weights and product are float32 (MiniMax-M2)


@dataclass(frozen=True)
class LayerGroup:
    """``count`` identical layers.

    ffn: None where another attention block follows at once (Nemotron-H), attention: None where
    another feed-forward block does (DeciLM). norms: 1 then; 4 where both blocks are normed
    behind, too (Gemma).
    """

    count: int
    attention: Attention | LinearAttention | None
    ffn: DenseFfn | MoeFfn | None
    norms: int = 2


@dataclass(frozen=True)
class Quantization:
    """Precision of each class of weights, and of the KV cache, as the checkpoint states it."""

    attention: Precision = "bf16"  # q, k, v, o projections
    dense: Precision = "bf16"  # dense feed-forward and shared experts
    experts: Precision = "bf16"
    lm_head: Precision = "bf16"
    kv: Literal["bf16", "fp8"] = "bf16"
    output: Precision | None = None  # o projection, where it differs from ``attention``
    linear: Precision | None = None  # both of linear attention, where they differ
    group: int = 128  # weights that share one scale, for int4

    @property
    def attention_output(self) -> Precision:
        """Precision of the o projection."""
        return self.output or self.attention

    @property
    def linear_input(self) -> Precision:
        """Precision of the projections into linear attention."""
        return self.linear or self.attention

    @property
    def linear_output(self) -> Precision:
        """Precision of the projection out of linear attention."""
        return self.linear or self.attention_output


@dataclass(frozen=True)
class ModelSpec:
    """A checkpoint, as far as serving time and memory depend on it."""

    name: str  # short name, e.g. Qwen3-32B-FP8
    checkpoint: str  # Hugging Face id, or the path it was read from
    architecture: str  # e.g. Qwen3ForCausalLM
    hidden: int
    vocab: int
    layers: tuple[LayerGroup, ...]
    max_context: int
    quantization: Quantization
    tied_embeddings: bool = False
    mtp_layers: int = 0  # multi-token-prediction layers shipped with the checkpoint
    mtp_ends: bool = False  # those layers ship an embedding and a head of their own
    streams: int = 1  # residual streams, mixed around every block (hyper-connections)
    rotary: tuple[int, ...] = ()  # rows of each table of rotary angles; (): one of max_context
    vision: VisionTower | None = None  # None: no tower, or one that is not known
    own_code: bool = False  # engines must run Python code of its repository to start
    notes: tuple[str, ...] = field(default=())  # what was assumed while reading

    def __hash__(self) -> int:
        """Hash a few fields: specs key the caches of hot paths, and few are alike in these."""
        return hash((self.checkpoint, self.hidden, self.vocab, self.quantization))

    @property
    def layer_count(self) -> int:
        """Layers of the main model (MTP layers not counted)."""
        return sum(group.count for group in self.layers)

    @property
    def softmax(self) -> tuple[tuple[Attention, int], ...]:
        """Attention blocks that keep a KV cache, and how many layers have each."""
        found = [(g.attention, g.count) for g in self.layers]
        return tuple((block, n) for block, n in found if isinstance(block, Attention))

    @property
    def shape(self) -> str:
        """What checkpoints of equal shape share: layers, hidden size and experts."""
        routed = [g.ffn.experts for g in self.layers if isinstance(g.ffn, MoeFfn)]
        layers = sum(group.count for group in self.layers)
        experts = f"-{max(routed)}e" if routed else ""
        return f"{layers}x{self.hidden}{experts}"

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return any(isinstance(group.ffn, MoeFfn) for group in self.layers)

    @property
    def precision(self) -> Precision:
        """Precision of most of the weights: of the experts, or of the dense feed-forward."""
        return self.quantization.experts if self.is_moe else self.quantization.dense


def draft_layer(spec: ModelSpec) -> LayerGroup:
    """Return the one layer that drafts tokens for ``spec``.

    An MTP layer is built like the last layer of the model (DeepSeek-V3 report, section 2.2);
    DeepSeek-V4's has the window alone (its ratio in ``compress_ratios`` is 0).
    Checkpoints without one are given drafts of EAGLE-3's kind (arXiv 2503.01840): one layer
    with the model's attention over all of the past and a dense block as wide as what a token
    meets in the model's own layers, which is an approximation.
    """
    last = next(group for group in reversed(spec.layers) if group.attention)
    if spec.mtp_layers:
        return LayerGroup(1, _drafting(last.attention), last.ffn)
    ffn = last.ffn
    if isinstance(ffn, MoeFfn):
        ffn = DenseFfn(ffn.topk * ffn.intermediate + ffn.shared_intermediate)
    attention = spec.softmax[-1][0]
    return LayerGroup(1, replace(attention, window=None), ffn)


def _drafting(block: Attention | LinearAttention | None) -> Attention | LinearAttention | None:
    if isinstance(block, Attention) and block.kind == "compressed":
        return replace(block, compress=0, index_heads=0, index_dim=0, index_topk=0)
    return block


def draft_model(spec: ModelSpec) -> ModelSpec:
    """Return what drafts tokens for ``spec`` as a model of one layer, with its output head."""
    return replace(
        spec,
        name=f"{spec.name} draft",
        checkpoint=f"{spec.checkpoint} draft",
        layers=(draft_layer(spec),),
        mtp_layers=0,
        vision=None,
    )
