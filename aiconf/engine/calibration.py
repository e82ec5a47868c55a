"""A calibration: the few physical parameters that were fitted to measured runs, and how far
predictions were off afterwards.

``aiconf runs calibrate`` writes the file; everything that predicts reads it. A parameter is a
fact of an engine (``Traits``), on one family of GPUs, with a new value.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import aiconf
from aiconf.engine.changes import Changes
from aiconf.errors import UserError, unknown
from aiconf.resources import data_dir, read_yaml
from aiconf.system.spec import System

FORBID: dict[str, Any] = {"extra": "forbid"}
UNCALIBRATED = Path("-")  # stands for no calibration at all
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True)
class Fitted:
    """Value of a parameter and its 80 % interval."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class EngineFit:
    """Parameters of one engine on GPUs of compute capability ``sm`` (first and last).

    cpu: of hosts with these processors alone (see ``System.cpu``); "": of any.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    backend: str
    sm: tuple[int, int]
    facts: Mapping[str, Fitted]
    cpu: str = ""


@dataclass(frozen=True)
class Spread:
    """Distribution of ln(measured / predicted): its quantiles at ``LEVELS``.

    metric: ttft, tpot or output. mode: agg or disagg. system, backend, model: of the group; all
    empty for a group that was not measured. fallback: least share of fallback it is for. groups,
    rows: behind it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    metric: str
    mode: str
    quantiles: tuple[float, ...]
    groups: int
    rows: int
    system: str = ""
    backend: str = ""
    model: str = ""
    fallback: float = 0.0


@dataclass(frozen=True)
class Source:
    """A file of measured runs that was fitted to.

    read: its rows. rows: those that are used. unread: say too little, or cannot be predicted.
    hidden: may have used drafts and do not say. repeated: are the same run as another row.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    name: str
    sha256: str
    read: int
    rows: int
    unread: int
    hidden: int
    repeated: int


@dataclass(frozen=True)
class Calibration:
    """What a calibration file holds.

    tool: version of aiconf that wrote it. rows: runs of a group that were fitted to, at most.
    validation: error on left-out groups.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    tool: str
    seed: int
    rows: int
    files: tuple[Source, ...]
    engines: tuple[EngineFit, ...]
    spreads: tuple[Spread, ...]
    validation: Mapping[str, float]

    def changes(self, backend: str, system: System) -> Changes:
        """Facts of ``backend`` on ``system`` that were fitted."""
        return tuple(
            (name, fitted.value)
            for engine in self.engines
            if engine.backend == backend and engine.sm[0] <= system.gpu.sm <= engine.sm[1]
            and engine.cpu in ("", system.cpu)
            for name, fitted in engine.facts.items()
        )  # fmt: skip


def no_calibration() -> Calibration:
    """Return a calibration that changes nothing and knows no errors."""
    return Calibration(aiconf.__version__, 0, 0, (), (), (), {})


def load_calibration(path: Path | None = None) -> Calibration:
    """Read a calibration file; None: the one that is shipped; ``UNCALIBRATED``: none.

    Raises
    ------
    UserError
        When it cannot be read, is of another form, or was written by another version.
    """
    if path == UNCALIBRATED:
        return no_calibration()
    shipped = data_dir("calibration") / "default.yaml"
    if path is None and not shipped.is_file():
        return no_calibration()
    return _load(path or shipped)


@lru_cache(maxsize=8)
def _load(path: Path) -> Calibration:
    import yaml
    from pydantic import TypeAdapter, ValidationError

    try:
        given = read_yaml(path)
    except OSError as problem:
        raise UserError(f"cannot read calibration {path}: {problem.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"calibration {path} is not YAML") from None
    tool = given.get("tool") if isinstance(given, Mapping) else None
    if tool is None:
        raise UserError(f"{path} is no calibration: it is not a file of aiconf runs calibrate")
    if tool is not None and tool != aiconf.__version__:
        raise UserError(
            f"calibration {path} was fitted by aiconf {tool}, this is {aiconf.__version__}: "
            f"its parameters belong to another model; fit it again with aiconf runs calibrate"
        )
    if isinstance(given, Mapping) and isinstance(given.get("spreads"), str):
        given = {**given, "spreads": _spreads(given["spreads"], path)}
    try:
        found = TypeAdapter(Calibration).validate_python(given)
        _require_sense(found, path)
        return found
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"calibration {path}: {where}: {first['msg']}") from None


def _spreads(block: str, path: Path) -> list[dict[str, Any]]:
    """Read the block of spreads: one per line, in columns."""
    names = ("metric", "mode", "system", "backend", "model", "fallback", "groups", "rows")
    found = []
    for line in block.splitlines():
        words = line.split()
        if len(words) != len(names) + len(LEVELS):
            raise UserError(
                f"calibration {path}: a spread has {len(words)} columns, not "
                f"{len(names) + len(LEVELS)}: {line[:60]}"
            )
        cells: dict[str, Any] = dict(zip(names, words, strict=False))
        cells |= {name: "" for name in ("system", "backend", "model") if cells[name] == "-"}
        found.append(cells | {"quantiles": words[len(names) :]})
    return found


def _require_sense(found: Calibration, path: Path) -> None:
    """Refuse facts that are none, and figures that cannot be."""
    from aiconf.engine.curves import PARTS
    from aiconf.engine.trait_schema import Host
    from aiconf.system import load_system, system_names

    known = {f"scales.{name}" for name in (*PARTS, "acceptance", "launch")}
    known |= {f"host.{field.name}" for field in fields(Host)}
    hosts = {load_system(name).cpu for name in system_names()}
    for engine in found.engines:
        if engine.cpu not in hosts | {""}:
            raise unknown(f"processor in calibration {path}", engine.cpu, sorted(hosts - {""}))
        for name, one in engine.facts.items():
            if name not in known:
                raise unknown(f"parameter in calibration {path}", name, sorted(known))
            if not (0.0 < one.low <= one.value <= one.high < float("inf")):
                raise UserError(
                    f"calibration {path}: {engine.backend} {name}: low, value and high must be "
                    f"positive and ascend, not {one.low:g}, {one.value:g}, {one.high:g}"
                )
    for spread in found.spreads:
        sizes = spread.quantiles
        ascend = all(a <= b for a, b in itertools.pairwise(sizes))
        named = spread.metric in ("ttft", "tpot", "output") and spread.mode in ("agg", "disagg")
        if len(sizes) != len(LEVELS) or not ascend or not named:
            raise UserError(
                f"calibration {path}: spread of {spread.metric} {spread.mode}: needs "
                f"{len(LEVELS)} quantiles that ascend, for ttft, tpot or output in agg or disagg"
            )
