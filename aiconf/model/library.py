"""Models by name: the embedded families, a local folder or config.json, or the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import get_args

from aiconf.errors import UserError, unknown
from aiconf.model.embedded import read_family
from aiconf.model.near_names import Near, near_names
from aiconf.model.spec import ModelSpec, Precision, Quantization
from aiconf.resources import data_dir

# What a user may call a precision that several formats offer; the first one found is taken.
_BROAD = {"fp8": ("fp8", "fp8_block"), "fp4": ("nvfp4", "mxfp4"), "w4a16": ("int4", "mxfp4")}
_NAMED = re.compile(r"^(?:name|  - id|    also): *(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class _Index:
    """Where each name leads; keys are folded."""

    families: dict[str, Path]
    checkpoints: dict[str, tuple[str, Path]]  # by id, and by the part after the slash
    names: tuple[str, ...]


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9/]", "", name.lower())


@cache
def _index() -> _Index:
    """Scan names and ids line by line: parsing every file would cost tens of milliseconds."""
    families: dict[str, Path] = {}
    checkpoints: dict[str, tuple[str, Path]] = {}
    names: list[str] = []
    for path in sorted(data_dir("models").glob("*.yaml")):
        name, *listed = _NAMED.findall(path.read_text("utf-8"))
        names.append(name)
        families[_folded(name)] = path
        for identifier in [part.strip() for line in listed for part in line.strip("[]").split(",")]:
            checkpoints[_folded(identifier)] = (identifier, path)
            checkpoints.setdefault(_folded(identifier.rsplit("/", 1)[-1]), (identifier, path))
    return _Index(families, checkpoints, tuple(names))


def model_names() -> tuple[str, ...]:
    """Names of the embedded model families, sorted."""
    return tuple(sorted(_index().names, key=str.lower))


def checkpoint_names() -> tuple[str, ...]:
    """Ids of all embedded checkpoints, sorted."""
    return tuple(sorted({identifier for identifier, _ in _index().checkpoints.values()}))


def checkpoints(name: str) -> tuple[ModelSpec, ...]:
    """List the checkpoints that a name stands for, the default first.

    A name that is not exact stands for what it can only mean: other endings of the same model
    (``-Instruct``, ``-hf``), a precision behind a family (``llama-3.3-70b-nvfp4``), or the begin
    of a name (``Qwen3_VL_30B``); a note then says what was taken.

    A family name (``QWEN3_32B``, ``qwen3-32b``) stands for all its checkpoints, one per
    quantisation; the default is the one usually deployed: FP8 where the family has it. A
    checkpoint id (``Qwen/Qwen3-32B``, or ``Qwen3-32B-FP8``) or a path stands for itself. Case,
    and which of ``- _ .`` separates the parts, do not matter.

    Parameters
    ----------
    name
        Embedded name or id, folder with a config.json, config.json file, or hub id.

    Raises
    ------
    UserError
        When nothing has that name, several have its begin, or its config.json cannot be read.
    """
    if not name.strip():
        raise UserError("the name of the model is empty: give one of `aiconf models`, a Hugging "
                        "Face id, or a folder with a config.json")  # fmt: skip
    wanted, index = _folded(name), _index()
    if wanted in index.families:
        return _one_each(read_family(index.families[wanted]))
    if wanted in index.checkpoints:
        identifier, path = index.checkpoints[wanted]
        return tuple(spec for spec in read_family(path) if spec.checkpoint == identifier)
    local = Path(name).expanduser()
    if _exists(local):
        from aiconf.model.checkpoint import read_config

        return (read_config(local),)
    near = near_names(name, index.names, [found for found, _ in index.checkpoints.values()])
    if near is not None:
        return _read_as(name, near, index)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        from aiconf.model.hub import read_hub

        return (read_hub(name, (*model_names(), *checkpoint_names())),)
    if re.search(r"[/\\]|\.json$", name):
        raise UserError(f"no folder or config.json at '{name}', and no embedded model of that name")
    raise unknown("model", name, (*model_names(), *checkpoint_names()))


def embedded_model(name: str, precision: str | None = None) -> ModelSpec:
    """Return what ``load_model`` does of an embedded name; nothing else is looked up.

    Raises
    ------
    UserError
        No embedded model has that name, or none of that precision.
    """
    wanted, index = _folded(name), _index()
    if wanted not in index.families and wanted not in index.checkpoints:
        raise UserError(f"no embedded model is called '{name}'")
    return load_model(name, precision)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as problem:  # such as a name that is too long for any file
        raise UserError(f"model {str(path)[:60]!r}: {problem.strerror}") from None
    except ValueError as problem:  # a null byte
        raise UserError(f"model {str(path)[:60]!r}: {problem}") from None


def _read_as(name: str, near: Near, index: _Index) -> tuple[ModelSpec, ...]:
    """Return the checkpoints of a near miss, each with a note of what was taken."""
    if near.family is not None and near.precision is not None:
        specs: tuple[ModelSpec, ...] = (load_model(near.family, near.precision),)
    elif near.family is not None:
        specs = _one_each(read_family(index.families[_folded(near.family)]))
    else:
        path = index.checkpoints[_folded(near.checkpoints[0])][1]
        specs = tuple(spec for spec in read_family(path) if spec.checkpoint in near.checkpoints)
        specs = _one_each(specs)
    said = near.family if near.family and not near.precision else specs[0].checkpoint
    note = f"'{name}' is read as {said}"
    return tuple(replace(spec, notes=(note, *spec.notes)) for spec in specs)


def _one_each(specs: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
    """Keep the first of the checkpoints that differ in nothing but their id."""
    return tuple({(s.quantization, s.max_context): s for s in reversed(specs)}.values())[::-1]


def load_model(name: str, precision: str | None = None) -> ModelSpec:
    """Return the default checkpoint of a name, or the one of a given precision.

    Parameters
    ----------
    name
        As for `checkpoints`.
    precision
        ``bf16``, ``fp8`` (also matches ``fp8_block``), ``nvfp4``, ``mxfp4``, ``fp4``, ``int4``:
        how most weights are stored.

    Raises
    ------
    UserError
        When the name is unknown or has no checkpoint of that precision.
    """
    found = checkpoints(name)
    if precision is None:
        return found[0]
    for kind in _BROAD.get(precision.lower(), (precision.lower(),)):
        for spec in found:
            if spec.precision == kind:
                return spec
    known = ", ".join(dict.fromkeys(f"{spec.precision} ({spec.checkpoint})" for spec in found))
    raise UserError(f"model '{name}' has no {precision} checkpoint: known are {known}")


def in_precision(name: str, precision: str) -> ModelSpec:
    """Return the checkpoint of a precision, or the model as if it were stored in that precision.

    Where no such checkpoint is known, the projections of attention, the feed-forward and the
    experts are taken in that precision and the rest in bf16, as quantisers do unless told
    otherwise; a note says so. The KV cache is the one of the checkpoint it was made from.

    Parameters
    ----------
    name
        As for `checkpoints`.
    precision
        As for `load_model`, also ``fp8_block`` and ``int8``.

    Raises
    ------
    UserError
        When the name is unknown, or the precision is none.
    """
    try:
        return load_model(name, precision)
    except UserError:
        found = checkpoints(name)
        kinds = _BROAD.get(precision.lower(), (precision.lower(),))
        if kinds[0] not in get_args(Precision):
            raise
    kind: Precision = kinds[0]  # type: ignore[assignment]
    spec = next((spec for spec in found if spec.precision == "bf16"), found[0])
    stored = replace(Quantization(kind, kind, kind), kv=spec.quantization.kv)
    if kind == "bf16":
        stored = Quantization()
    elif kind == "mxfp4" and spec.is_moe:  # a format of experts, in the checkpoints that have it
        stored = Quantization(experts=kind, kv=spec.quantization.kv)
    said = (
        f"no {precision} checkpoint is known: predicted as if the weights of {spec.checkpoint} "
        f"were stored as {kind}"
    )
    return replace(spec, quantization=stored, notes=(said, *spec.notes))
