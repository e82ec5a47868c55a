"""What each version of an engine, and of Dynamo's wrappers around it, accepts as flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from aiconf.deploy.validate.graph import framework_of
from aiconf.deploy.versions import engines
from aiconf.resources import data_dir

# Choices that Dynamo's wrapper registers with the engine before it parses (dynamo/sglang/args.py).
_ADDED = {"sglang": {"--load-format": ("gms", "mx", "modelexpress")}}


@dataclass(frozen=True)
class Flag:
    """A flag: its first spelling, and what it takes. ``spellings`` are all of them.

    takes: ``switch``, ``int``, ``float``, ``size`` (a number such as 8K), ``json`` or ``text``.
    many: ``?``, ``*`` or ``+`` values instead of one. choices: the only values, when not empty.
    """

    name: str
    takes: str
    many: str = ""
    choices: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlagList:
    """All flags by each spelling, of one parser. ``of`` says which: ``vLLM 0.31.0``."""

    of: str
    flags: Mapping[str, Flag] = field(hash=False)
    # vLLM's parser takes max_num_seqs for max-num-seqs and --a.b for a key of JSON.
    is_flexible: bool = False

    def get(self, spelling: str) -> Flag | None:
        """Return the flag of a spelling, which may be the beginning of only one flag."""
        if spelling in self.flags:
            return self.flags[spelling]
        starts = {f.name: f for s, f in self.flags.items() if s.startswith(spelling)}
        is_short = not spelling.startswith("--") or self.is_flexible
        return next(iter(starts.values())) if len(starts) == 1 and not is_short else None

    def ambiguous(self, spelling: str) -> list[str]:
        """Return the flags that ``spelling`` is the beginning of, when they are several."""
        starts = sorted({s for s in self.flags if s.startswith(spelling)})
        return starts if len(starts) > 1 and spelling.startswith("--") else []


def lists(module: str, release: str) -> list[FlagList]:
    """Return the parsers that read the words of ``module`` in a Dynamo release, in order.

    Empty for modules whose flags are not known.
    """
    engine = framework_of(module)
    found = [one for one in (_wrapper(module, release),) if one]
    if engine in ("vllm", "sglang"):
        found.append(_engine(engine, engines()[release][engine]))
    return found


def known_somewhere(module: str, spelling: str) -> list[str]:
    """Return the releases of Dynamo, newest first, in which ``module`` takes a flag."""
    return [r for r in engines() if any(one.get(spelling) for one in lists(module, r))]


@cache
def _wrapper(module: str, release: str) -> FlagList | None:
    flags = _read("dynamo", release)["flags"]
    parts = module.split(".")
    name = next((p for i in range(len(parts), 1, -1) if (p := ".".join(parts[:i])) in flags), None)
    if name is None:
        return None
    return FlagList(f"{name} of Dynamo {release}", _flags(flags[name]))


@cache
def _engine(engine: str, version: str) -> FlagList:
    title = {"vllm": "vLLM", "sglang": "SGLang"}[engine]
    flags = _flags(_read(engine, version)["flags"])
    for spelling, more in _ADDED.get(engine, {}).items():
        if spelling in flags and flags[spelling].choices:
            flags[spelling] = replace(flags[spelling], choices=(*flags[spelling].choices, *more))
    return FlagList(f"{title} {version}", flags, is_flexible=engine == "vllm")


@cache
def _read(engine: str, version: str) -> dict[str, Any]:
    path = data_dir("backends") / "flags" / f"{engine}-{version}.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def engine_fields(version: str) -> tuple[str, dict[str, Any]]:
    """Return the fields of TensorRT-LLM's ``LlmArgs``, and the version that they are of.

    Only one version is known; others are held against it.
    """
    folder = data_dir("backends") / "flags"
    versions = [p.stem.removeprefix("trtllm-") for p in sorted(folder.glob("trtllm-*.json"))]
    chosen = version if version in versions else versions[-1]
    return chosen, _read("trtllm", chosen)["fields"]


def _flags(raw: Mapping[str, str]) -> dict[str, Flag]:
    found: dict[str, Flag] = {}
    for spellings, takes in raw.items():
        names = spellings.split()
        kind, _, many = takes.partition(" ")
        if "|" not in kind and kind[-1] in "?*+":
            kind, many = kind[:-1], kind[-1]
        choices = tuple(kind.split("|")) if "|" in kind else ()
        flag = Flag(names[0], "text" if choices else kind, many, choices, tuple(names))
        found |= {name: flag for name in names}
    return found
