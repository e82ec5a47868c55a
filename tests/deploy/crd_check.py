"""A small checker of Kubernetes structural schemas: what the API server would refuse."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

BITS = {"int32": 31, "int64": 63}


def problems(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return what is wrong with ``value``, each with its path; empty when it is accepted.

    Empty values are dropped and defaults filled in first, as the API server does.
    """
    return _problems(filled(value, schema), schema, path)


def filled(value: Any, schema: dict[str, Any]) -> Any:
    """Return ``value`` with the schema's defaults where it says nothing."""
    if isinstance(value, dict):
        known, extra = schema.get("properties", {}), schema.get("additionalProperties")
        typed = known if not isinstance(extra, dict) else value
        value = {k: item for k, item in value.items() if item is not None or k not in typed}
        missing = {k: s["default"] for k, s in known.items() if "default" in s and k not in value}
        return {
            key: filled(item, known.get(key, extra if isinstance(extra, dict) else {}))
            for key, item in {**value, **missing}.items()
        }
    if isinstance(value, list):
        return [filled(item, schema.get("items", {})) for item in value]
    return value


def _problems(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    found = _scalar_problems(value, schema, path)
    if isinstance(value, dict):
        found += _object_problems(value, schema, path)
    elif isinstance(value, list):
        limit = schema.get("maxItems", len(value))
        if not schema.get("minItems", 0) <= len(value) <= limit:
            found.append(f"{path}: {len(value)} items")
        for index, item in enumerate(value):
            found += _problems(item, schema.get("items", {}), f"{path}[{index}]")
        keys = schema.get("x-kubernetes-list-map-keys")
        if keys:
            items = [item for item in value if isinstance(item, dict)]
            seen = [[item.get(key) for key in keys] for item in items]
            found += [f"{path}: duplicate {key}" for key in seen if seen.count(key) > 1]
        if schema.get("x-kubernetes-list-type") == "set":
            found += [f"{path}: duplicate {item}" for item in value if value.count(item) > 1]
    return found or _rule_problems(value, schema, path)


def _object_problems(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    found = [f"{path}.{key}: missing" for key in schema.get("required", ()) if key not in value]
    if len(value) > schema.get("maxProperties", len(value)):
        found.append(f"{path}: {len(value)} properties")
    for key, item in value.items():
        where = f"{path}.{key}"
        if key in known:
            found += _problems(item, known[key], where)
        elif isinstance(extra, dict):
            found += _problems(item, extra, where)
        elif not (extra or schema.get("x-kubernetes-preserve-unknown-fields")) and (
            path or key not in ("apiVersion", "kind", "metadata")
        ):
            is_bare_metadata = path.endswith("metadata") and not known
            found += [] if is_bare_metadata else [f"{where}: unknown field"]
    return found


def _scalar_problems(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    if schema.get("x-kubernetes-int-or-string"):
        pattern = schema.get("pattern", "")
        fits = type(value) is int or (isinstance(value, str) and re.search(pattern, value))
        return [] if fits else [f"{path}: not an int or string: {value!r}"]
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    wanted = schema.get("type")
    is_bool_number = isinstance(value, bool) and wanted in ("integer", "number")
    if wanted and (not isinstance(value, types[wanted]) or is_bool_number):
        return [f"{path}: {value!r} is not of type {wanted}"]
    found = []
    for choices in (schema, *schema.get("allOf", ())):
        if "enum" in choices and value not in choices["enum"]:
            found.append(f"{path}: {value!r} is none of {choices['enum']}")
    if type(value) is int and abs(value) >> BITS.get(schema.get("format"), 63):
        found.append(f"{path}: {value} out of range")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path}: {value!r} does not match {schema['pattern']}")
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"{path}: too long")
        if len(value) < schema.get("minLength", 0):
            found.append(f"{path}: too short")
    elif isinstance(value, (int, float)) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        found.append(f"{path}: {value} out of range")
    return found


def _amount(text: Any) -> float:
    number, suffix = re.fullmatch(r"([+-]?[0-9.]+)(.*)", str(text)).groups()
    powers = {f"{letter}i": 1024.0 ** (i + 1) for i, letter in enumerate("KMGTPE")}
    powers |= {letter: 1000.0 ** (i + 1) for i, letter in enumerate("kMGTPE")}
    powers |= {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
    return float(number) * (powers[suffix] if suffix in powers else float(f"1{suffix}"))


@cache
def _program(rule: str):
    import celpy

    types = celpy.celtypes
    environment = celpy.Environment()
    functions = {
        "lowerAscii": lambda text: types.StringType(text.lower()),
        "quantity": lambda text: types.DoubleType(_amount(text)),
        "isGreaterThan": lambda a, b: types.BoolType(a > b),
        "split": lambda text, by: types.ListType(map(types.StringType, text.split(by))),
    }
    return environment.program(environment.compile(rule), functions=functions)


def _rule_problems(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """Evaluate the schema's CEL rules as for an object that is made, not changed."""
    rules = [
        r["rule"].removeprefix("oldSelf.hasValue() || ")
        for r in schema.get("x-kubernetes-validations", ())
    ]
    rules = [rule for rule in rules if "oldSelf" not in rule]
    if not rules:
        return []
    try:
        import celpy
    except ImportError:
        return []
    this = {"self": celpy.json_to_cel(value)}
    return [f"{path}: breaks {rule}" for rule in rules if not _program(rule).evaluate(this)]
