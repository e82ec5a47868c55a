"""The keys of a ``models/*.yaml`` file.

Kept apart from its reader so that pydantic is imported only when a model is read.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from aiconf.model.spec import Precision


class Strict(BaseModel):
    """Refuses keys that the format does not have."""

    model_config = ConfigDict(extra="forbid")


class AttentionFile(Strict):
    """`aiconf.model.spec.Attention`; sizes that follow from others may be left out."""

    kind: str = Field(default="gqa", pattern="^(gqa|mla|compressed)$")
    heads: PositiveInt
    kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    v_head_dim: PositiveInt | None = None
    window: PositiveInt | None = None
    bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    qk_norm_joint: bool = False
    output_gate: bool = False
    joint_kv: bool = False
    sinks: bool = False
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0
    compress: Literal[0, 4, 128] = 0
    output_groups: int = 0
    output_rank: int = 0


class LinearFile(Strict):
    """`aiconf.model.spec.LinearAttention`."""

    kind: str = Field(pattern="^(gdn|kda|mamba2)$")
    key_heads: PositiveInt
    value_heads: PositiveInt
    key_dim: PositiveInt
    value_dim: PositiveInt
    taps: PositiveInt


class FfnFile(Strict):
    """A dense feed-forward block, or a block of experts where ``experts`` is given."""

    intermediate: PositiveInt
    experts: PositiveInt | None = None
    topk: PositiveInt | None = None
    shared_intermediate: int = 0
    bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False
    router_float32: bool = False
    gated: bool = True
    latent: int = 0


class GroupFile(Strict):
    """``count`` identical layers; ``attention: null`` where there is a feed-forward block only."""

    count: PositiveInt
    attention: AttentionFile | LinearFile | None
    ffn: FfnFile | None = None
    norms: PositiveInt = 2


class QuantizationFile(Strict):
    """`aiconf.model.spec.Quantization`."""

    attention: Precision = "bf16"
    dense: Precision = "bf16"
    experts: Precision = "bf16"
    lm_head: Precision = "bf16"
    kv: str = Field(default="bf16", pattern="^(bf16|fp8)$")
    output: Precision | None = None
    linear: Precision | None = None
    group: PositiveInt = 128


class VisionFile(Strict):
    """`aiconf.model.vision.VisionTower`; processor: one of ``vision_processors.yaml``."""

    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    head_dim: PositiveInt
    intermediate: PositiveInt
    patch: PositiveInt
    merge: PositiveInt
    out: PositiveInt
    positions: PositiveInt
    processor: str = Field(pattern="^(qwen|kimi_k25|kimi_k3|gemma3)$")
    frames: PositiveInt = 1
    mergers: PositiveInt = 1
    bias: bool = True
    layer_norm: bool = True
    projector_split: bool = True
    post_norm: bool = False
    pooled: bool = False


class CheckpointFile(Strict):
    """A checkpoint: hub id, ids of others with the same shapes and precisions, total bytes.

    own_code: `FamilyFile.own_code` of this one alone.
    """

    id: str
    also: list[str] = Field(default_factory=list)
    quantization: QuantizationFile = Field(default_factory=QuantizationFile)
    max_context: PositiveInt | None = None
    bytes: PositiveInt | None = None
    own_code: bool = False
    notes: list[str] = Field(default_factory=list)


class FamilyFile(Strict):
    """One family: figures, published parameter counts, checkpoints with the default first.

    own_code: engines start its checkpoints only when they may run Python code from the repository
    (configuration or tokenizer); a comment behind it says who launches them so.
    """

    name: str
    source: str
    architecture: str
    hidden: PositiveInt
    vocab: PositiveInt
    max_context: PositiveInt
    tied_embeddings: bool = False
    mtp_layers: int = 0
    mtp_ends: bool = False
    streams: PositiveInt = 1
    rotary: list[PositiveInt] = Field(default_factory=list)
    parameters: float | None = None
    active_parameters: float | None = None
    layers: list[GroupFile]
    vision: VisionFile | None = None
    own_code: bool = False
    checkpoints: list[CheckpointFile]
