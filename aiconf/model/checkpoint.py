"""A checkpoint's config.json (and hf_quant_config.json beside it) to a ModelSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiconf.errors import UserError, nearest
from aiconf.model.families import FAMILIES, Config, Family
from aiconf.model.families.config import shown
from aiconf.model.families.nearest import missing, nearest_layers, revealed
from aiconf.model.foreign import foreign_architecture, foreign_file, foreign_folder
from aiconf.model.mistral_params import from_params, is_params
from aiconf.model.own_code import needs_own_code
from aiconf.model.quantized import read_quantization
from aiconf.model.rotary import rotary_rows
from aiconf.model.spec import LayerGroup, ModelSpec
from aiconf.model.vision import VisionTower

# Where multimodal configs keep their language model.
_SECTIONS = ("text_config", "llm_config", "language_config", "language_model")


def read_config(config: str | Path | Mapping[str, Any], name: str | None = None) -> ModelSpec:
    """Read a Hugging Face checkpoint's figures.

    Parameters
    ----------
    config
        Folder that holds config.json (or Mistral's params.json), the file itself, or the parsed
        object.
    name
        What to call the model; by default the folder's name.

    Raises
    ------
    UserError
        Names the file and the key that is missing, malformed or contradicts another; or says what
        a folder holds that is no decoder; or names an architecture that is not known and has a
        kind of layer that no known one has.
    """
    if isinstance(config, Mapping):
        return build(config, None, name or "config.json", name or "unnamed")
    path = _file(Path(config).expanduser())
    beside = path.with_name("hf_quant_config.json")
    pixels = path.with_name("preprocessor_config.json")
    tokenizer = path.with_name("tokenizer_config.json")
    return build(
        _json(path),
        _json(beside) if beside.is_file() else None,
        str(path),
        name or path.resolve().parent.name,
        checkpoint=str(path.parent),
        pixels=_json(pixels) if pixels.is_file() else None,
        tokenizer=_json(tokenizer) if tokenizer.is_file() else None,
    )


def _file(path: Path) -> Path:
    """Return the file that describes the model in a folder, or the file that was named."""
    if not path.is_dir():
        problem = foreign_file(path)
    elif (path / "params.json").is_file() and not (path / "config.json").is_file():
        return path / "params.json"
    else:
        problem, path = foreign_folder(path), path / "config.json"
    if problem is not None:
        raise UserError(problem)
    return path


def build(
    figures: Mapping[str, Any],
    beside: Mapping[str, Any] | None,
    source: str,
    name: str,
    checkpoint: str | None = None,
    pixels: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Build the model from parsed files; ``source`` is what messages call config.json.

    beside: hf_quant_config.json. pixels: preprocessor_config.json of the image processor.
    tokenizer: tokenizer_config.json.
    """
    if is_params(figures):
        figures = from_params(figures, source)
    config = Config(figures, source)
    architecture = _architecture(config)
    family = FAMILIES.get(architecture)
    text, layers, notes = _read(config, architecture, family)
    stated = text if text.get("quantization_config") else config
    place = family.experts if family else "mlp.experts"
    quantization, mixed = read_quantization(stated, beside, layers, place, text)
    if family and family.precisions:
        quantization = family.precisions(stated, quantization)
    tied = config.flag("tie_word_embeddings", family.tied if family else False)
    vision = _vision(config, text, family, pixels)
    return ModelSpec(
        name=name.rsplit("/", 1)[-1],
        checkpoint=checkpoint or name,
        architecture=architecture,
        hidden=text.whole("hidden_size"),
        vocab=text.whole("vocab_size"),
        layers=layers,
        max_context=text.whole("max_position_embeddings"),
        quantization=quantization,
        tied_embeddings=text.flag("tie_word_embeddings", tied),  # the section's own word counts
        mtp_layers=text.whole(
            "num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0
        ),
        mtp_ends=family is not None and family.mtp_ends,
        streams=text.whole("hc_mult", default=1),
        rotary=rotary_rows(text, text.whole("max_position_embeddings")),
        vision=vision,
        own_code=needs_own_code(figures, tokenizer),
        notes=(*notes, *_dtype(text), *mixed),
    )


def _read(
    config: Config, architecture: str, family: Family | None
) -> tuple[Config, tuple[LayerGroup, ...], tuple[str, ...]]:
    """Return the section with the figures, the layers, and what was assumed of them."""
    if family is None:
        return _nearest(config, architecture)
    text = config
    notes = family.notes
    if family.section:
        text = config.section(family.section)
        if family.vision is None or not config.get("vision_config"):
            notes = (*notes, f"only {family.section} is modelled; vision weights are not counted")
    return text, family.layers(text), notes


def _nearest(
    config: Config, architecture: str
) -> tuple[Config, tuple[LayerGroup, ...], tuple[str, ...]]:
    """Read an architecture that is not known: its language model's, or the nearest block."""
    problem = foreign_architecture(config, architecture)
    if problem is not None:
        raise config.problem(problem)
    section = next((key for key in _SECTIONS if isinstance(config.get(key), Mapping)), None)
    text = config.section(section) if section else config
    notes: tuple[str, ...] = ()
    if section:
        inner = _language_model(text)
        notes = (
            f"architecture '{architecture}' is not known: only {section} is modelled"
            f"{f', as {inner}' if inner else ''}; what is beside it is not counted",
        )
        if inner:
            return text, FAMILIES[inner].layers(text), notes
    found = revealed(text)
    said = f"architecture '{shown(architecture)}' is not known"
    near = f"the nearest known: {', '.join(nearest(architecture, FAMILIES)) or 'LlamaForCausalLM'}"
    if found is not None:
        raise config.problem(f"{said}, and {found}, which is not modelled; {near}")
    lacking = missing(text)
    if lacking is not None:
        own = ", and its own code is not run (trust_remote_code)" if config.get("auto_map") else ""
        raise config.problem(
            f"{said}{own}, and '{lacking}' is missing to read it as a known block; {near}"
        )
    layers, kind = nearest_layers(text)
    return text, layers, (*notes, f"{said}: taken as {kind}")


def _language_model(text: Config) -> str | None:
    """Return the known architecture of a section, by its own word or by its model_type."""
    listed = text.get("architectures")
    if isinstance(listed, list) and listed and str(listed[0]) in FAMILIES:
        return str(listed[0])
    wanted = str(text.get("model_type") or "").replace("_", "").removesuffix("text")
    by_type = {name.removesuffix("ForCausalLM").lower(): name for name in FAMILIES}
    return by_type.get(wanted)


def _vision(
    config: Config, text: Config, family: Family | None, pixels: Mapping[str, Any] | None
) -> VisionTower | None:
    """Read the vision tower; None where there is none or its kind is not known."""
    if family is None or family.vision is None or not config.get("vision_config"):
        return None
    found = family.vision(config, text)
    if pixels is None:
        return found
    from aiconf.model.families.tower import with_processor

    return with_processor(found, pixels, "preprocessor_config.json")


def _architecture(config: Config) -> str:
    listed = config.get("architectures")
    if isinstance(listed, list) and listed and isinstance(listed[0], str):
        return listed[0]
    if config.get("_class_name") or config.get("peft_type"):
        return str(config.get("_class_name") or config.get("peft_type"))
    known = _language_model(config) if listed is None else None
    if known is None:
        raise config.problem("'architectures' is missing")
    return known


def _dtype(text: Config) -> tuple[str, ...]:
    dtype = text.get("torch_dtype") or text.get("dtype")
    if dtype in (None, "bfloat16", "float16"):
        return ()
    return (f"unquantised weights are {shown(dtype)} in the file, taken as bf16",)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"no config.json at '{path}'") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"{path}: cannot be read: {problem}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except json.JSONDecodeError as problem:
        raise UserError(f"{path}: not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object")
    return found
