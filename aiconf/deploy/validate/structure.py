"""Structure: what the API server would refuse of a Dynamo document, by release of the operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph_rules import RULES
from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.notation import Dated, Release, Spec, Type, Types, types
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.errors import nearest

_Path = tuple[str | int, ...]
_Finding = tuple[_Path, str, str]  # where, what, fix

MOST = 200  # problems of one document; who has more reads no further

_CALLED = {
    "str": "text", "int": "a whole number", "int32": "a whole number", "int64": "a whole number",
    "num": "a number", "bool": "true or false", "list": "a list", "map": "a mapping",
    "quantity": "a quantity such as 8 or 80Gi", "intstr": "a number or a name",
}  # fmt: skip
_BITS = {"int32": 31, "int64": 63}
_PLACEHOLDER = re.compile(r"'\$\{\w+\}' is not ")
# Made by the operator, or read by it, and not modelled; the last two are the GPU operator's.
_OTHERS = (
    "DynamoComponentDeployment", "DynamoModel", "DynamoCheckpoint", "DynamoWorkerMetadata",
    "ClusterPolicy", "NVIDIADriver",
)  # fmt: skip
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")


def problems(document: Document, at: Release) -> list[Problem]:
    """Return what an operator of release ``at`` would refuse of ``document``'s structure."""
    found = [*_unknown_kind(document)]
    all_found = findings(document.kind, document.api, document.body, at)
    for path, what, fix in islice(all_found, MOST):
        if _PLACEHOLDER.match(what):
            told = "a placeholder that is still to be filled in"
            found.append(Problem(document.source, spelled(path), told, fix, "warning"))
        else:
            found.append(Problem(document.source, spelled(path), what, fix))
    return found


def _unknown_kind(document: Document) -> Iterator[Problem]:
    known = (*types().documents, *_OTHERS)
    if document.kind in known:
        return
    near = nearest(document.kind, known, limit=1)
    told = f"Dynamo has no kind '{document.kind}'" if document.kind else "missing"
    level = "error" if near or not document.kind else "warning"
    yield Problem(
        document.source, "kind", told, near[0] if near else "DynamoGraphDeployment",
        "error" if level == "error" else "warning",
    )  # fmt: skip


def findings(kind: str, version: str, body: Mapping[str, Any], at: Release) -> Iterator[_Finding]:
    """Yield where, what and how to mend it, of a document of ``kind``."""
    known = types()
    versions = known.documents.get(kind)
    if versions is None:
        return  # made by the operator, or none of Dynamo's: nothing to hold it against
    if version not in versions or not versions[version].holds(at):
        served = [name for name, dated in versions.items() if dated.holds(at)]
        told = f"nvidia.com/{version} is not served by Dynamo {at[0]}.{at[1]}"
        yield ("apiVersion",), told, f"nvidia.com/{' or nvidia.com/'.join(served)}"
        return
    top = known.types[versions[version].name]
    for key in body:
        if key not in _TOP:
            yield (str(key),), "unknown field", _meant(str(key), _TOP)
    if "spec" in body:
        yield from _value(body["spec"], top.fields["spec"], known, at, ("spec",))


def _value(value: Any, spec: Spec, known: Types, at: Release, path: _Path) -> Iterator[_Finding]:
    """Yield the findings of one value; rules only see values of the right structure."""
    count = 0
    for finding in _plain(value, spec, known, at, path):
        count += 1
        yield finding
    if not count:
        yield from _broken(spec.rules, value, at, path)


def _plain(value: Any, spec: Spec, known: Types, at: Release, path: _Path) -> Iterator[_Finding]:
    if spec.base == "anything":
        return
    if spec.base in known.types:
        yield from _object(value, known.types[spec.base], known, at, path)
    elif spec.base == "any":
        if not isinstance(value, dict):
            yield path, f"{_shown(value)} is not a mapping", ""
    elif not _fits(value, spec):
        yield path, f"{_shown(value)} is not {_CALLED[spec.base]}", _typed(value, spec)
    elif spec.base == "list":
        yield from _list(value, spec, known, at, path)
    elif spec.base == "map":
        yield from _counted(len(value), spec, path)
        for key, item in value.items():
            if spec.of is not None and item is not None:
                yield from _value(item, spec.of, known, at, (*path, str(key)))
    else:
        yield from _scalar(value, spec, at, path)


def _fits(value: Any, spec: Spec) -> bool:
    base = spec.base
    if base in ("int", "int32", "int64"):
        bits = _BITS.get(base, 63)
        return type(value) is int and -(1 << bits) <= value < (1 << bits)
    if base == "quantity":
        text = isinstance(value, str) and spec.pattern and spec.pattern.search(value)
        return type(value) is int or bool(text)
    wanted: dict[str, tuple[type, ...]] = {
        "str": (str,), "bool": (bool,), "list": (list,), "map": (dict,),
        "num": (int, float), "intstr": (int, str),
    }  # fmt: skip
    return isinstance(value, wanted[base]) and (base == "bool" or not isinstance(value, bool))


def _object(value: Any, type_: Type, known: Types, at: Release, path: _Path) -> Iterator[_Finding]:
    if not isinstance(value, dict):
        yield path, f"{_shown(value)} is not a mapping", ""
        return
    present = {name: spec for name, spec in type_.fields.items() if spec.since <= at}
    count = 0
    # The API server drops empty values of fields that it knows.
    value = {k: item for k, item in value.items() if item is not None or k not in type_.fields}
    filled = dict(value)
    for name, spec in present.items():
        if spec.default is not None and name not in value:
            filled[name] = spec.default == "true" if spec.base == "bool" else _read(spec)
    for name in type_.required:
        if name in present and name not in filled:
            count += 1
            yield (*path, name), "missing", ""
    for key, item in value.items():
        place = (*path, str(key))
        if key in present:
            for finding in _value(item, present[key], known, at, place):
                count += 1
                yield finding
        elif key in type_.fields:
            since = type_.fields[key].since
            count += 1
            yield (
                place,
                f"Dynamo {at[0]}.{at[1]} does not know this field",
                (f"it came with {since[0]}.{since[1]}"),
            )
        elif not type_.is_open:
            count += 1
            yield place, "unknown field", _meant(str(key), present)
    if not count:
        yield from _broken(type_.rules, filled, at, path)


def _read(spec: Spec) -> Any:
    return int(spec.default or 0) if spec.base.startswith("int") else spec.default


def _list(
    value: list[Any], spec: Spec, known: Types, at: Release, path: _Path
) -> Iterator[_Finding]:
    yield from _counted(len(value), spec, path)
    if spec.of is None:
        return
    for index, item in enumerate(value):
        yield from _value(item, spec.of, known, at, (*path, index))
    if spec.distinct:
        distinct: set[str] = set()
        for index, item in enumerate(value):
            if repr(item) in distinct:
                yield (*path, index), f"{_shown(item)} twice", "remove one"
            distinct.add(repr(item))
    if spec.keys:
        fields = known.types[spec.of.base].fields
        defaults = [fields[key].default for key in spec.keys]
        seen: set[str] = set()
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                continue
            pairs = zip(spec.keys, defaults, strict=True)
            key = [item.get(name, default) for name, default in pairs]
            if repr(key) in seen:
                told = ", ".join(f"{n} {_shown(v)}" for n, v in zip(spec.keys, key, strict=True))
                yield (*path, index), f"{told} twice in this list", "remove or rename one"
            seen.add(repr(key))


def _counted(count: int, spec: Spec, path: _Path) -> Iterator[_Finding]:
    if spec.maximum is not None and count > spec.maximum:
        yield path, f"{count} items, and {spec.maximum:.0f} are the most", ""


def _scalar(value: Any, spec: Spec, at: Release, path: _Path) -> Iterator[_Finding]:
    choices = [choice.name for choice in spec.choices if choice.holds(at)]
    if choices and value not in choices:
        near = nearest(str(value), choices, limit=1) or choices
        yield path, f"{_shown(value)} is none of {', '.join(choices)}", f"{near[0]}"
    if isinstance(value, str):
        if spec.longest is not None and len(value) > spec.longest:
            yield path, f"{len(value)} characters, and {spec.longest} are the most", "shorten it"
        elif len(value) < spec.shortest:
            yield path, "empty text", ""
        elif spec.base == "str" and spec.pattern and not spec.pattern.search(value):
            yield path, f"{_shown(value)} does not match {spec.pattern.pattern}", ""
    elif spec.minimum is not None and value < spec.minimum:
        yield path, f"{value} is less than {spec.minimum:g}", f"at least {spec.minimum:g}"
    elif spec.maximum is not None and value > spec.maximum:
        yield path, f"{value} is more than {spec.maximum:g}", f"at most {spec.maximum:g}"


def _broken(rules: tuple[Dated, ...], value: Any, at: Release, path: _Path) -> Iterator[_Finding]:
    for rule in rules:
        told = RULES[rule.name](value) if rule.holds(at) else None
        if told:
            yield path, told, ""


def _meant(name: str, known: Any) -> str:
    near = nearest(name, known, limit=1)
    return f"did you mean {near[0]}?" if near else "remove it"


def _typed(value: Any, spec: Spec) -> str:
    """Say how to write a value of another type; numbers and switches are often mistaken."""
    if spec.base == "str" and isinstance(value, (int, float)):
        return f'put quotes around it: "{str(value).lower()}"'
    is_number = isinstance(value, str) and whole(value) is not None
    if is_number and spec.base in ("int", "int32", "int64", "num"):
        return f"remove the quotes: {value}"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text[:60]}'"
