"""Which GPU system a worker is meant for: what its pod asks of a node, or what names say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiconf.deploy.asked import system_for
from aiconf.deploy.validate.graph import Component, Graph
from aiconf.system.catalog import system_names

# Instance types of clouds whose names do not hold the GPU's.
_INSTANCES = {
    "p5.": "h100_sxm", "p5e.": "h200_sxm", "p5en.": "h200_sxm", "a3-highgpu": "h100_sxm",
    "a3-megagpu": "h100_sxm", "a3-ultragpu": "h200_sxm", "a4-highgpu": "b200_sxm",
}  # fmt: skip


def system_of(graph: Graph, component: Component, role: str) -> tuple[str, str] | None:
    """Return the system that ``component``, of ``role``, is meant for, and where that is said.

    What selects a node counts first, then the annotation of a deployment that was written here,
    then the names of component, deployment and file; None where nothing says it.
    """
    for key, value in _labels(component):
        found = _named(value) or _instance(value)
        if found:
            return found, f"its pods select {key}: {value}"
    said = system_for(graph.annotations, role)
    if said is not None:
        return said[0], f"annotation {said[1]}"
    folder = "/".join(graph.source.replace("\\", "/").split("/")[-3:])
    for what, text in (("component", component.name), ("deployment", graph.name), ("file", folder)):
        found = _named(text)
        if found:
            return found, f"the {what} is called {text}"
    return None


def selected(component: Component) -> list[str]:
    """Return what the pods ask of a node's hardware, as ``label: value``."""
    return [
        f"{key}: {value}"
        for key, value in _labels(component)
        if key.endswith(("instance-type", "gpu.product", "accelerator"))
    ]


def _labels(component: Component) -> Iterator[tuple[str, str]]:
    yield from _selected(component.body.get("extraPodSpec") or component.body.get("podTemplate"))


def _selected(value: Any) -> Iterator[tuple[str, str]]:
    """Labels that pods select: ``nodeSelector``, and ``In`` expressions of affinities."""
    if isinstance(value, list):
        for item in value:
            yield from _selected(item)
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key == "nodeSelector" and isinstance(inner, Mapping):
            yield from ((str(label), str(text)) for label, text in inner.items())
        elif key == "matchExpressions" and isinstance(inner, list):
            for one in inner:
                if isinstance(one, Mapping) and one.get("operator") == "In":
                    yield from ((str(one.get("key")), str(v)) for v in one.get("values") or [])
        else:
            yield from _selected(inner)


def _named(text: str) -> str | None:
    """The one system whose GPU stands in ``text`` as a word of its own."""
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    found = [name for name in system_names() if name.partition("_")[0] in words]
    return found[0] if len(found) == 1 else None


def _instance(text: str) -> str | None:
    return next((name for start, name in _INSTANCES.items() if text.startswith(start)), None)
