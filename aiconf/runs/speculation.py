"""How many tokens a measured run drafted, and how likely they were kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from aiconf.engine.speculation import Speculation, acceptance_of
from aiconf.errors import UserError
from aiconf.resources import read_yaml
from aiconf.runs.cells import Cells, Skipped
from aiconf.runs.measured import Traffic, Workers

_FORBID: dict[str, Any] = {"extra": "forbid"}
_NUMBER = re.compile(
    r"(?:steps|num_spec|num_speculative_tokens|dl)\s*=\s*(\d+)|mtp[- ]?(\d+)|(\d+) tok"
)
_LENGTH = re.compile(r"\bal\s*=?\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Acceptance:
    """How often drafts for a model are kept (see ``engine.speculation.Speculation``)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    model: str
    acceptance: float
    decay: float


@dataclass(frozen=True)
class Drafts:
    """Drafts of one kind of run (the heading of ``speculation.yaml`` explains the fields)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    backend: str
    model: str
    drafts: Mapping[int, int]
    mode: Literal["agg", "disagg"] | None = None
    spread: bool | None = None


@dataclass(frozen=True)
class Published:
    """What is published about drafts of benchmarks. sources: fact -> where it was read."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    acceptance: tuple[Acceptance, ...]
    drafts: tuple[Drafts, ...]
    sources: Mapping[str, str]


@cache
def published() -> Published:
    """Return the contents of ``speculation.yaml``."""
    from pydantic import TypeAdapter

    found = read_yaml(Path(__file__).with_name("speculation.yaml"))
    return TypeAdapter(Published).validate_python(found)


def speculation(
    cells: Cells, backend: str, load: Traffic, workers: Workers, mode: str
) -> tuple[Speculation | None, str]:
    """Return the drafts of a row, None for none, and a note on what was read into it.

    An empty cell was not stated: taken as none, as the engines' defaults are. ``workers``: those
    that decode.

    Raises
    ------
    Skipped
        Where the row does not say how many tokens were drafted, nor is it known.
    """
    spoken = cells.get("mtp/spec", "").strip().lower()
    if spoken in ("", "none"):
        return None, ""
    if "/" in spoken:
        raise Skipped(f"mtp/spec '{spoken}' names more than one setting")
    model = cells.get("model", "").rsplit("/", 1)[-1]
    stated = _NUMBER.search(spoken)
    if stated:
        drafts, note = int(next(part for part in stated.groups() if part)), ""
    else:
        drafts = _drafts(backend, model, load, workers, mode)
        note = f"{drafts} drafts per iteration assumed"
    if drafts < 1:
        raise Skipped(f"mtp/spec '{spoken}' names no drafts")
    length = _LENGTH.search(spoken)
    if length:
        try:
            return Speculation(drafts, acceptance_of(float(length.group(1)), drafts)), note
        except UserError as error:
            raise Skipped(str(error)) from None
    return published_for(model, drafts), note


def published_for(model: str, drafts: int) -> Speculation:
    """Return ``drafts`` drafts per iteration for ``model`` (a name without its organisation).

    Raises
    ------
    UserError
        No engine verifies so many.
    """
    kept = next(rule for rule in published().acceptance if _begins(model, rule.model))
    return Speculation(drafts, kept.acceptance, kept.decay)


def _drafts(backend: str, model: str, load: Traffic, workers: Workers, mode: str) -> int:
    parallel = workers.parallel
    busy = load.users / (workers.count * parallel.dp)
    for rule in published().drafts:
        if (
            rule.backend == backend
            and _begins(model, rule.model)
            and rule.mode in (None, mode)
            and rule.spread in (None, parallel.dp > 1)
        ):
            return rule.drafts[max(least for least in rule.drafts if least <= busy)]
    raise Skipped("the number of drafts is not stated")


def _begins(model: str, name: str) -> bool:
    return model.lower().startswith(name.lower())
