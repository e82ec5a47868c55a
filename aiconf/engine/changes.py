"""Traits of an engine that was told something else, or of an older version of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from aiconf.engine.traits import Traits
from aiconf.errors import unknown

Changes = tuple[tuple[str, Any], ...]  # (fact as in sources, such as graphs.prefill; its value)

_MAPPING = "mapping"  # marks the pairs of a frozen mapping


def frozen(value: Any) -> Any:
    """Make a value of a YAML file hashable: lists as tuples, mappings as marked pairs."""
    if isinstance(value, Mapping):
        return (_MAPPING, *((name, frozen(inner)) for name, inner in value.items()))
    return tuple(frozen(inner) for inner in value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == (_MAPPING,):
        return {name: _thawed(inner) for name, inner in value[1:]}
    return value


def changed(traits: Traits, changes: Changes) -> Traits:
    """Return ``traits`` with some of its facts replaced.

    A fact is named as in ``backends/*.yaml`` (``graphs.prefill``, ``kernels.moe.mxfp4``), its
    value ``frozen``. The value of a kernel choice is the order of its kernels, on every GPU.

    Raises
    ------
    UserError
        For a fact that traits do not have.
    """
    for path, value in changes:
        traits = _replaced(traits, path, _thawed(value))
    return traits


def _replaced(owner: Any, path: str, value: Any) -> Any:
    if isinstance(owner, Mapping):
        return {**owner, path: {0: value} if isinstance(value, tuple) else value}
    name, _, rest = path.partition(".")
    assert is_dataclass(owner)
    known = [field.name for field in fields(owner)]
    if name not in known:
        raise unknown("engine fact", name, known)
    inner = _replaced(getattr(owner, name), rest, value) if rest else value
    return replace(owner, **{name: inner})  # type: ignore[type-var]
