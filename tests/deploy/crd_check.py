"""A small checker of Kubernetes structural schemas: what the API server would refuse."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

QUANTITY = re.compile(r"[+-]?[0-9.]+([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9.]+)?")


def problems(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return what is wrong with ``value``, each with its path; empty when it is accepted."""
    found = _scalar_problems(value, schema, path)
    if isinstance(value, dict):
        found += _object_problems(value, schema, path)
    elif isinstance(value, list):
        limit = schema.get("maxItems", len(value))
        if not schema.get("minItems", 0) <= len(value) <= limit:
            found.append(f"{path}: {len(value)} items")
        for index, item in enumerate(value):
            found += problems(item, schema.get("items", {}), f"{path}[{index}]")
        keys = schema.get("x-kubernetes-list-map-keys")
        if keys:
            seen = [tuple(item.get(key) for key in keys) for item in value]
            found += [f"{path}: duplicate {key}" for key in seen if seen.count(key) > 1]
    return found + _rule_problems(value, schema, path)


def _object_problems(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    found = [f"{path}.{key}: missing" for key in schema.get("required", ()) if key not in value]
    for key, item in value.items():
        where = f"{path}.{key}"
        if key in known:
            found += problems(item, known[key], where)
        elif isinstance(extra, dict):
            found += problems(item, extra, where)
        elif not (extra or schema.get("x-kubernetes-preserve-unknown-fields")) and (
            path or key not in ("apiVersion", "kind", "metadata")
        ):
            is_bare_metadata = path.endswith("metadata") and not known
            found += [] if is_bare_metadata else [f"{where}: unknown field"]
    return found


def _scalar_problems(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    if schema.get("x-kubernetes-int-or-string"):
        fits = type(value) is int or (isinstance(value, str) and QUANTITY.fullmatch(value))
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
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
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


@cache
def _program(rule: str):
    import celpy

    environment = celpy.Environment()
    lower = {"lowerAscii": lambda text: celpy.celtypes.StringType(text.lower())}
    return environment.program(environment.compile(rule), functions=lower)


def _rule_problems(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """Evaluate the schema's CEL rules, but for those about updates."""
    rules = [r["rule"] for r in schema.get("x-kubernetes-validations", ())]
    rules = [rule for rule in rules if "oldSelf" not in rule]
    if not rules:
        return []
    try:
        import celpy
    except ImportError:
        return []
    this = {"self": celpy.json_to_cel(value)}
    return [f"{path}: breaks {rule}" for rule in rules if not _program(rule).evaluate(this)]
