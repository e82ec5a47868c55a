"""Random documents of a CustomResourceDefinition, and random faults in them."""

from __future__ import annotations

import copy
import random
from typing import Any

PATTERNED = ("a", "a-b", "A-b", "1.2.3", "rack", "example.com/zone")
WRONG = (
    None,
    True,
    7,
    -1,
    2**40,
    1.5,
    "",
    "x",
    "80Gi",
    "no_such",
    "a b",
    [],
    {},
    ["a"],
    {"a": "b"},
)


def example(schema: dict[str, Any], rng: random.Random, depth: int = 0) -> Any:
    """Return a value that mostly fits ``schema``; deeper objects have fewer fields."""
    if "enum" in schema or "allOf" in schema:
        return rng.choice(schema.get("enum") or schema["allOf"][0]["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return rng.choice((1, "1", "80Gi", "500m"))
    if schema.get("type") == "object":
        return _object(schema, rng, depth)
    if schema.get("type") == "array":
        count = rng.choice((0, 1, 1, 2))
        return [example(schema.get("items", {}), rng, depth + 1) for _ in range(count)]
    if schema.get("type") == "string":
        return rng.choice(PATTERNED if "pattern" in schema else ("a", "b", "main"))
    choices = {
        "integer": (1, 2, 2, 3, schema.get("minimum", 0)),
        "number": (0, 0.5, 1),
        "boolean": (False, True),
    }
    return rng.choice(choices.get(schema.get("type"), ("a", 1)))


def _object(schema: dict[str, Any], rng: random.Random, depth: int) -> dict[str, Any]:
    known = schema.get("properties", {})
    if not known:
        extra = schema.get("additionalProperties")
        return {"key": example(extra, rng, depth + 1)} if isinstance(extra, dict) else {}
    share = 0.3 if depth < 3 else 0.15 if depth < 6 else 0.05
    names = [n for n in known if n in schema.get("required", ()) or rng.random() < share]
    return {name: example(known[name], rng, depth + 1) for name in names}


def mutant(document: Any, schema: dict[str, Any], rng: random.Random) -> Any:
    """Return ``document`` with one fault, or one more field, below ``spec``."""
    changed = copy.deepcopy(document)
    places = list(_places(changed["spec"], schema["properties"]["spec"], rng))
    node, node_schema = rng.choice(places)
    if isinstance(node, list):
        _change_list(node, rng)
    else:
        _change_object(node, node_schema, rng)
    return changed


def _places(node: Any, schema: dict[str, Any], rng: random.Random):
    yield node, schema
    if isinstance(node, list):
        inside = [(item, schema.get("items", {})) for item in node]
    else:
        extra = schema.get("additionalProperties")
        default = extra if isinstance(extra, dict) else {}
        inside = [(v, schema.get("properties", {}).get(k, default)) for k, v in node.items()]
    for item, item_schema in inside:
        if isinstance(item, (dict, list)):
            yield from _places(item, item_schema, rng)


def _change_list(node: list[Any], rng: random.Random) -> None:
    kind = rng.choice(("twice", "remove", "replace", "many"))
    if kind == "twice" and node:
        node.append(copy.deepcopy(rng.choice(node)))
    elif kind == "remove" and node:
        node.pop(rng.randrange(len(node)))
    elif kind == "many" and node:
        node.extend(copy.deepcopy(node[0]) for _ in range(30))
    else:
        node.append(copy.deepcopy(rng.choice(WRONG)))


def _change_object(node: dict[str, Any], schema: dict[str, Any], rng: random.Random) -> None:
    known = schema.get("properties", {})
    kind = rng.choice(("delete", "rename", "value", "value", "add", "add", "unknown", "limits"))
    if kind == "add" and known:
        name = rng.choice(sorted(known))
        node[name] = example(known[name], rng)
    elif kind == "unknown" or not node:
        node[rng.choice(("extra", "Name", "replica"))] = copy.deepcopy(rng.choice(WRONG))
    else:
        name = rng.choice(sorted(node))
        if kind == "delete":
            del node[name]
        elif kind == "rename":
            node[name + "s"] = node.pop(name)
        elif kind == "limits":
            node[name] = rng.choice((0, -1, 26, 101, 2**31, "x" * 64, "x" * 320, "A_b"))
        else:
            node[name] = copy.deepcopy(rng.choice(WRONG))
