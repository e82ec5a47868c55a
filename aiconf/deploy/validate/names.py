"""Names that Kubernetes and Grove accept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiconf.deploy.names import COMBINED_NAME_LIMIT, pod_name_length
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph import KIND, Graph, Where
from aiconf.deploy.validate.notation import Release
from aiconf.deploy.validate.problem import Problem, spelled

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_KEY = re.compile(rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_REFERENCES = ("secretRef", "secretKeyRef", "configMapRef", "configMapKeyRef")
_TRUNCATES: Release = (1, 2)  # the operator shortens a long name of a deployment since then
LABEL_LIMIT = 63  # characters of a label's value, of which a dot or dash is not the last
_SHORTEST = 8  # characters that it leaves


def problems(document: Document) -> Iterator[Problem]:
    """Yield what is wrong with the metadata of a document."""
    source, name = document.source, document.name
    metadata = document.body.get("metadata")
    generated = isinstance(metadata, dict) and metadata.get("generateName")
    if not name:
        if not generated:
            yield Problem(source, "metadata.name", "missing", "give the document a name")
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        if "$" not in name and "{" not in name:
            yield Problem(
                source, "metadata.name", f"'{name}' is no name that Kubernetes accepts",
                _corrected(name) or "lower-case letters, digits and '-'",
            )  # fmt: skip
        else:
            told = f"'{name}' has a placeholder"
            yield Problem(source, "metadata.name", told, "fill it in", "warning")
    elif document.kind == KIND and len(name) > LABEL_LIMIT:
        told = f"{len(name)} characters: the operator writes it into a label of each pod, which "
        yield Problem(
            source, "metadata.name", told + f"holds {LABEL_LIMIT}", name[:LABEL_LIMIT].strip("-.")
        )
    if isinstance(metadata, dict):
        yield from _keys(source, metadata)


def _corrected(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:253]


def _keys(source: str, metadata: Mapping[str, Any]) -> Iterator[Problem]:
    for part in ("labels", "annotations"):
        entries = metadata.get(part)
        for key, value in entries.items() if isinstance(entries, dict) else ():
            where = f"metadata.{part}[{key}]"
            if not _KEY.fullmatch(str(key)):
                yield Problem(source, where, "no key that Kubernetes accepts", "prefix/name")
            if not isinstance(value, str):
                fix = f'put quotes around it: "{str(value).lower()}"'
                yield Problem(source, where, f"'{value}' is not text", fix)
            elif part == "labels" and not _VALUE.fullmatch(value):
                told = f"'{value}' is no label value"
                yield Problem(source, where, told, "up to 63 letters, digits and -_.")


def lengths(graph: Graph, at: Release) -> Iterator[Problem]:
    """Yield components whose pods would have names longer than Grove takes."""
    if graph.annotations.get("nvidia.com/enable-grove", "").lower() == "false":
        return
    # Since 1.2 the operator cuts a deployment's name as far as it must, down to eight characters.
    kept = graph.name[:_SHORTEST] if at >= _TRUNCATES else graph.name
    for component in graph.components:
        length = pod_name_length(kept, component.name, component.nodes > 1)
        if length > COMBINED_NAME_LIMIT:
            what = f"'{graph.name}' and '{component.name}' make pod names of {length} characters, "
            what += f"and Grove takes {COMBINED_NAME_LIMIT}"
            yield Problem(
                graph.source, spelled(component.where), what, "shorten the component's name"
            )


def references(document: Document) -> Iterator[Problem]:
    """Yield names of Secrets and ConfigMaps that no object in a cluster can have."""
    for where, name in _referred(document.body.get("spec"), ("spec",)):
        open_ = any(mark in name for mark in "${<")
        if not open_ and (not _SUBDOMAIN.fullmatch(name) or len(name) > 253):
            told = f"'{name}' is no name that Kubernetes accepts"
            yield Problem(document.source, spelled(where), told, _corrected(name))


def _referred(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _referred(one, (*where, index))
    for key, one in value.items() if isinstance(value, dict) else ():
        place = (*where, str(key))
        if key in _REFERENCES and isinstance(one, dict) and isinstance(one.get("name"), str):
            yield (*place, "name"), one["name"]
        elif key in ("secretName", "envFromSecret") and isinstance(one, str):
            yield place, one
        elif key == "imagePullSecrets" and isinstance(one, list):
            for index, secret in enumerate(one):
                if isinstance(secret, dict) and isinstance(secret.get("name"), str):
                    yield (*place, index, "name"), secret["name"]
        else:
            yield from _referred(one, place)
