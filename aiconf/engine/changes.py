"""Traits of an engine that was told something else, or of an older version of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from aiconf.engine.traits import Traits
from aiconf.errors import unknown

Changes = tuple[tuple[str, Any], ...]  # (fact as in sources, such as graphs.prefill; its value)


def changed(traits: Traits, changes: Changes) -> Traits:
    """Return ``traits`` with some of its facts replaced.

    A fact is named as in ``backends/*.yaml`` (``graphs.prefill``, ``kernels.moe.mxfp4``). The
    value of a kernel choice is the order of its kernels, on every GPU; () empties a mapping.

    Raises
    ------
    UserError
        For a fact that traits do not have.
    """
    for path, value in changes:
        traits = _replaced(traits, path, value)
    return traits


def _replaced(owner: Any, path: str, value: Any) -> Any:
    if isinstance(owner, Mapping):
        return {**owner, path: {0: value} if isinstance(value, tuple) else value}
    name, _, rest = path.partition(".")
    assert is_dataclass(owner)
    known = [field.name for field in fields(owner)]
    if name not in known:
        raise unknown("engine fact", name, known)
    present = getattr(owner, name)
    if not rest and value == () and isinstance(present, Mapping):
        value = {}
    inner = _replaced(present, rest, value) if rest else value
    return replace(owner, **{name: inner})  # type: ignore[type-var]
