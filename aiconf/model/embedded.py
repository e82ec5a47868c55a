"""The format of ``models/*.yaml``: one family of checkpoints per file, read and checked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.model.spec import (
    Attention,
    DenseFfn,
    LayerGroup,
    LinearAttention,
    ModelSpec,
    MoeFfn,
    Quantization,
)
from aiconf.model.vision import VisionTower
from aiconf.resources import read_yaml


@cache
def read_family(path: Path) -> tuple[ModelSpec, ...]:
    """Read every checkpoint of a family file, the default first.

    Raises
    ------
    UserError
        When the file does not follow the format.
    """
    family = family_file(path)
    layers = tuple(_layer_group(group) for group in family["layers"])
    vision = _vision(family["vision"]) if family["vision"] else None
    return tuple(
        ModelSpec(
            name=identifier.rsplit("/", 1)[-1],
            checkpoint=identifier,
            architecture=family["architecture"],
            hidden=family["hidden"],
            vocab=family["vocab"],
            layers=layers,
            max_context=checkpoint["max_context"] or family["max_context"],
            quantization=Quantization(**checkpoint["quantization"]),
            tied_embeddings=family["tied_embeddings"],
            mtp_layers=family["mtp_layers"],
            mtp_ends=family["mtp_ends"],
            streams=family["streams"],
            rotary=tuple(family["rotary"]),
            vision=vision,
            own_code=checkpoint["own_code"] or family["own_code"],
            notes=tuple(checkpoint["notes"]),
        )
        for checkpoint in family["checkpoints"]
        for identifier in (checkpoint["id"], *checkpoint["also"])
    )


def family_file(path: Path) -> dict[str, Any]:
    """Parse and check one family file; the published figures are in it too.

    Raises
    ------
    UserError
        Names the file and the first entry that is missing, unknown or of the wrong kind.
    """
    import yaml
    from pydantic import ValidationError

    from aiconf.model.embedded_schema import FamilyFile

    try:
        raw = read_yaml(path)
        return FamilyFile.model_validate(raw).model_dump()
    except yaml.YAMLError as problem:
        raise UserError(f"{path.name}: not YAML: {' '.join(str(problem).split())}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path.name}: {where}: {first['msg']}") from None


def _vision(figures: dict[str, Any]) -> VisionTower:
    from aiconf.model.families.tower import processor

    values = dict(figures)
    return VisionTower(limits=processor(values.pop("processor")), **values)


def _layer_group(group: dict[str, Any]) -> LayerGroup:
    stated = group["attention"]
    attention, ffn = (_attention(stated) if stated else None), _ffn(group["ffn"])
    return LayerGroup(group["count"], attention, ffn, group["norms"])


def _attention(figures: dict[str, Any]) -> Attention | LinearAttention:
    values = dict(figures)
    if "taps" in values:
        return LinearAttention(**values)
    if values["kind"] == "mla":
        values["kv_heads"] = values["heads"]
        values["head_dim"] = values["qk_nope_head_dim"] + values["qk_rope_head_dim"]
    values["kv_heads"] = values["kv_heads"] or values["heads"]
    values["v_head_dim"] = values["v_head_dim"] or values["head_dim"]
    return Attention(**values)


def _ffn(figures: dict[str, Any] | None) -> DenseFfn | MoeFfn | None:
    if figures is None:
        return None
    if figures["experts"] is None:
        return DenseFfn(figures["intermediate"], figures["gated"])
    return MoeFfn(**figures)
