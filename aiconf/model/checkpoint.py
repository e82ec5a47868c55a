"""A checkpoint's config.json (and hf_quant_config.json beside it) to a ModelSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.model.families import FAMILIES, Config, Family
from aiconf.model.quantized import read_quantization
from aiconf.model.spec import ModelSpec
from aiconf.model.vision import VisionTower


def read_config(config: str | Path | Mapping[str, Any], name: str | None = None) -> ModelSpec:
    """Read a Hugging Face checkpoint's figures.

    Parameters
    ----------
    config
        Folder that holds config.json, the file itself, or the parsed object.
    name
        What to call the model; by default the folder's name.

    Raises
    ------
    UserError
        Names the file and the key that is missing, malformed or contradicts another, or the
        architecture that is not known with those that are.
    """
    if isinstance(config, Mapping):
        return build(config, None, name or "config.json", name or "unnamed")
    path = Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    beside = path.with_name("hf_quant_config.json")
    pixels = path.with_name("preprocessor_config.json")
    return build(
        _json(path),
        _json(beside) if beside.is_file() else None,
        str(path),
        name or path.resolve().parent.name,
        checkpoint=str(path.parent),
        pixels=_json(pixels) if pixels.is_file() else None,
    )


def build(
    figures: Mapping[str, Any],
    beside: Mapping[str, Any] | None,
    source: str,
    name: str,
    checkpoint: str | None = None,
    pixels: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Build the model from parsed files; ``source`` is what messages call config.json.

    beside: hf_quant_config.json. pixels: preprocessor_config.json of the image processor.
    """
    config = Config(figures, source)
    architecture = _architecture(config)
    family = FAMILIES[architecture]
    text = config.section(family.section) if family.section else config
    layers = family.layers(text)
    stated = text if text.get("quantization_config") else config
    vision = _vision(config, text, family, pixels)
    return ModelSpec(
        name=name.rsplit("/", 1)[-1],
        checkpoint=checkpoint or name,
        architecture=architecture,
        hidden=text.whole("hidden_size"),
        vocab=text.whole("vocab_size"),
        layers=layers,
        max_context=text.whole("max_position_embeddings"),
        quantization=read_quantization(stated, beside, layers, family.experts),
        tied_embeddings=text.flag("tie_word_embeddings"),
        mtp_layers=text.whole(
            "num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0
        ),
        vision=vision,
        notes=_notes(text, family.section if vision is None else None, architecture),
    )


def _vision(
    config: Config, text: Config, family: Family, pixels: Mapping[str, Any] | None
) -> VisionTower | None:
    """Read the vision tower; None where there is none or its kind is not known."""
    if family.vision is None or not config.get("vision_config"):
        return None
    found = family.vision(config, text)
    if pixels is None:
        return found
    from aiconf.model.families.tower import with_processor

    return with_processor(found, pixels, "preprocessor_config.json")


def _architecture(config: Config) -> str:
    listed = config.get("architectures")
    if not isinstance(listed, list) or not listed:
        raise config.problem("'architectures' is missing")
    if listed[0] not in FAMILIES:
        raise config.problem(
            f"architecture '{listed[0]}' is not known; known are {', '.join(FAMILIES)}"
        )
    return str(listed[0])


def _notes(text: Config, section: str | None, architecture: str) -> tuple[str, ...]:
    """Say what was assumed; ``section``: all that was read of a model with more parts."""
    found = []
    if architecture == "NemotronHForCausalLM":
        found.append("one precision per kind of block: single bf16 blocks are not told apart")
    if section:
        found.append(f"only {section} is modelled; vision weights are not counted")
    dtype = text.get("torch_dtype") or text.get("dtype")
    if dtype not in (None, "bfloat16", "float16"):
        found.append(f"unquantised weights are {dtype} in the file, taken as bf16")
    return tuple(found)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"no config.json at '{path}'") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"{path}: cannot be read: {problem}") from None
    except json.JSONDecodeError as problem:
        raise UserError(f"{path}: not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object")
    return found
