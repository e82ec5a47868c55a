"""What is wrong with a manifest: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Problem:
    """One finding. A warning does not make the manifest fail; it may be meant.

    component: the name of the component that ``path`` is in, empty where the path names it or
    there is none.
    """

    source: str
    path: str
    what: str
    fix: str = ""
    level: Literal["error", "warning"] = "error"
    component: str = ""


def spelled(where: Sequence[str | int]) -> str:
    """Return a path as Kubernetes spells it: ``spec.components[0].name``."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")
