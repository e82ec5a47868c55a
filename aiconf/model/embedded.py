"""The format of ``models/*.yaml``: one family of checkpoints per file, read and checked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.errors import UserError
from aiconf.model.spec import (
    Attention,
    DenseFfn,
    LayerGroup,
    ModelSpec,
    MoeFfn,
    Quantization,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def _schema() -> TypeAdapter[Any]:
    """Build the schema; pydantic is imported only when a model is read."""
    from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter

    from aiconf.model.spec import Precision

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class AttentionFile(Strict):
        kind: str = Field(default="gqa", pattern="^(gqa|mla)$")
        heads: PositiveInt
        kv_heads: PositiveInt | None = None
        head_dim: PositiveInt | None = None
        v_head_dim: PositiveInt | None = None
        window: PositiveInt | None = None
        bias: bool = False
        output_bias: bool = False
        qk_norm: bool = False
        output_gate: bool = False
        sinks: bool = False
        q_lora_rank: int = 0
        kv_lora_rank: int = 0
        qk_nope_head_dim: int = 0
        qk_rope_head_dim: int = 0

    class FfnFile(Strict):
        intermediate: PositiveInt
        experts: PositiveInt | None = None
        topk: PositiveInt | None = None
        shared_intermediate: int = 0
        bias: bool = False
        router_bias: bool = False

    class GroupFile(Strict):
        count: PositiveInt
        attention: AttentionFile
        ffn: FfnFile

    class QuantizationFile(Strict):
        attention: Precision = "bf16"
        dense: Precision = "bf16"
        experts: Precision = "bf16"
        lm_head: Precision = "bf16"
        kv: str = Field(default="bf16", pattern="^(bf16|fp8)$")
        output: Precision | None = None
        group: PositiveInt = 128

    class CheckpointFile(Strict):
        id: str
        also: list[str] = []
        quantization: QuantizationFile = QuantizationFile()
        max_context: PositiveInt | None = None
        bytes: PositiveInt | None = None
        notes: list[str] = []

    class FamilyFile(Strict):
        name: str
        source: str
        architecture: str
        hidden: PositiveInt
        vocab: PositiveInt
        max_context: PositiveInt
        tied_embeddings: bool = False
        mtp_layers: int = 0
        parameters: float | None = None
        active_parameters: float | None = None
        layers: list[GroupFile]
        checkpoints: list[CheckpointFile]

    return TypeAdapter(FamilyFile)


@cache
def read_family(path: Path) -> tuple[ModelSpec, ...]:
    """Read every checkpoint of a family file, the default first.

    Raises
    ------
    UserError
        When the file does not follow the format.
    """
    family = family_file(path)
    layers = tuple(_layer_group(group) for group in family.layers)
    return tuple(
        ModelSpec(
            name=identifier.rsplit("/", 1)[-1],
            checkpoint=identifier,
            architecture=family.architecture,
            hidden=family.hidden,
            vocab=family.vocab,
            layers=layers,
            max_context=checkpoint.max_context or family.max_context,
            quantization=Quantization(**checkpoint.quantization.model_dump()),
            tied_embeddings=family.tied_embeddings,
            mtp_layers=family.mtp_layers,
            notes=tuple(checkpoint.notes),
        )
        for checkpoint in family.checkpoints
        for identifier in (checkpoint.id, *checkpoint.also)
    )


def family_file(path: Path) -> Any:
    """Parse and check one family file; the published figures are in it too."""
    import yaml
    from pydantic import ValidationError

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _schema().validate_python(yaml.load(path.read_text("utf-8"), Loader=loader))
    except yaml.YAMLError as problem:
        raise UserError(f"{path.name}: not YAML: {' '.join(str(problem).split())}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path.name}: {where}: {first['msg']}") from None


def _layer_group(group: Any) -> LayerGroup:
    return LayerGroup(group.count, _attention(group.attention), _ffn(group.ffn))


def _attention(figures: Any) -> Attention:
    values = figures.model_dump()
    if figures.kind == "mla":
        values["kv_heads"] = figures.heads
        values["head_dim"] = figures.qk_nope_head_dim + figures.qk_rope_head_dim
    values["kv_heads"] = values["kv_heads"] or figures.heads
    values["v_head_dim"] = values["v_head_dim"] or values["head_dim"]
    return Attention(**values)


def _ffn(figures: Any) -> DenseFfn | MoeFfn:
    if figures.experts is None:
        return DenseFfn(figures.intermediate)
    return MoeFfn(**figures.model_dump())
