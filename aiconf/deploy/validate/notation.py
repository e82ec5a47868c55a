"""The notation of ``types/*.yaml``: Kubernetes and Dynamo types, one line a field.

A field is ``name: TYPE WORD...``; ``name!`` is required. TYPE is one of ``str``, ``int``,
``int32``, ``int64``, ``num``, ``bool``, ``quantity`` (a number or text such as ``80Gi``),
``intstr`` (a number or a name), ``any`` (an object with free content), ``anything``, the name of
another type, ``[TYPE WORD...]`` for a list, or ``{TYPE WORD...}`` for a map. Words are
``min= max=`` (of a number, or of the count of items), ``minlen= maxlen=`` (of text), ``pattern=``
(a name among ``patterns``), ``enum=a|b``, ``default=``, ``key=a,b`` (a list whose items differ in
these fields), ``set`` (a list of different items), ``rule=NAME`` (see graph_rules.py),
``since=X.Y`` and ``until=X.Y`` (the first releases with and without it). ``a@X.Y`` dates a choice
or a rule.

Of a type, ``_extends`` names the type whose fields it also has, ``_rules`` lists rules, and
``_open`` allows unknown fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.resources import read_yaml

Release = tuple[int, int]  # (major, minor) of Dynamo

_FOLDER = Path(__file__).parent / "types"
_FIRST: Release = (0, 0)
_LAST: Release = (999, 0)


def release(text: str) -> Release:
    """Return the release of ``1.4`` or ``1.4.0``.

    Raises
    ------
    ValueError
        It has no two numbers.
    """
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is no release")
    return int(match.group(1)), int(match.group(2))


@dataclass(frozen=True)
class Dated:
    """A name that holds from one release on, up to but without another."""

    name: str
    since: Release = _FIRST
    until: Release = _LAST

    def holds(self, at: Release) -> bool:
        """Whether it holds in release ``at``."""
        return self.since <= at < self.until


@dataclass(frozen=True)
class Spec:
    """What a value may be. ``of`` is the item of a list or map."""

    base: str
    of: Spec | None = None
    minimum: float | None = None
    maximum: float | None = None
    shortest: int = 0
    longest: int | None = None
    pattern: re.Pattern[str] | None = None
    choices: tuple[Dated, ...] = ()
    default: str | None = None
    keys: tuple[str, ...] = ()
    distinct: bool = False
    rules: tuple[Dated, ...] = ()
    since: Release = _FIRST


@dataclass(frozen=True)
class Type:
    """An object: its fields, those that are required, and its rules."""

    name: str
    fields: Mapping[str, Spec] = field(hash=False)
    required: tuple[str, ...] = ()
    rules: tuple[Dated, ...] = ()
    is_open: bool = False


@dataclass(frozen=True)
class Types:
    """All types by name, and which one each kind and version of a document is."""

    types: Mapping[str, Type]
    documents: Mapping[str, Mapping[str, Dated]]


@cache
def types() -> Types:
    """Return the types of Kubernetes and Dynamo, read once."""
    raw: dict[str, Any] = {}
    patterns: dict[str, re.Pattern[str]] = {}
    documents: dict[str, Any] = {}
    for name in ("kubernetes", "dynamo"):
        content = read_yaml(_FOLDER / f"{name}.yaml")
        raw |= content["types"]
        patterns |= {key: re.compile(text) for key, text in content["patterns"].items()}
        documents |= content.get("documents", {})
    return Types(
        {name: _type(name, raw, patterns) for name in raw},
        {
            kind: {version: _dated(text) for version, text in versions.items()}
            for kind, versions in documents.items()
        },
    )


def _type(name: str, raw: Mapping[str, Any], patterns: Mapping[str, re.Pattern[str]]) -> Type:
    own = dict(raw[name])
    base = own.pop("_extends", None)
    parent = _type(base, raw, patterns) if base else Type(name, {})
    rules = tuple(_dated(str(text)) for text in own.pop("_rules", ()))
    is_open = own.pop("_open", parent.is_open)
    fields, required = dict(parent.fields), set(parent.required)
    for key, text in own.items():
        plain = key.removesuffix("!")
        fields[plain] = _spec(str(text), patterns)
        required = required | {plain} if key.endswith("!") else required - {plain}
    return Type(name, fields, tuple(sorted(required)), parent.rules + rules, is_open)


def _spec(text: str, patterns: Mapping[str, re.Pattern[str]]) -> Spec:
    text = text.strip()
    if text[0] in "[{":
        end = text.rindex("]" if text[0] == "[" else "}")
        of, rest = _spec(text[1:end], patterns), text[end + 1 :].split()
        base = "list" if text[0] == "[" else "map"
    else:
        of = None
        base, *rest = text.split()
    words = dict(word.partition("=")[::2] for word in rest)
    pattern = words.get("pattern", "quantity" if base == "quantity" else None)
    return Spec(
        base=base,
        of=of,
        minimum=_number(words.get("min")),
        maximum=_number(words.get("max")),
        shortest=int(words.get("minlen", 0)),
        longest=int(words["maxlen"]) if "maxlen" in words else None,
        pattern=patterns[pattern] if pattern else None,
        choices=tuple(_at(choice) for choice in words["enum"].split("|"))
        if "enum" in words
        else (),
        default=words.get("default"),
        keys=tuple(words["key"].split(",")) if "key" in words else (),
        distinct="set" in words,
        rules=(_at(words["rule"]),) if "rule" in words else (),
        since=release(words["since"]) if "since" in words else _FIRST,
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _at(text: str) -> Dated:
    name, _, since = text.partition("@")
    return Dated(name, release(since) if since else _FIRST)


def _dated(text: str) -> Dated:
    name, *rest = text.split()
    words = dict(word.partition("=")[::2] for word in rest)
    return Dated(
        name,
        release(words["since"]) if "since" in words else _FIRST,
        release(words["until"]) if "until" in words else _LAST,
    )
