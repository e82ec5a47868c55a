"""Models by name: the embedded families, a local folder or config.json, or the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiconf.errors import UserError, unknown
from aiconf.model.embedded import read_family
from aiconf.model.spec import ModelSpec
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
        When nothing has that name, or its config.json cannot be read.
    """
    wanted, index = _folded(name), _index()
    if wanted in index.families:
        return _one_each(read_family(index.families[wanted]))
    if wanted in index.checkpoints:
        identifier, path = index.checkpoints[wanted]
        return tuple(spec for spec in read_family(path) if spec.checkpoint == identifier)
    local = Path(name).expanduser()
    if local.exists():
        from aiconf.model.checkpoint import read_config

        return (read_config(local),)
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
