"""All checks of manifests, in the order in which a cluster would meet the problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiconf.deploy.validate import (
    admission,
    agreement,
    arguments,
    connectors,
    crashes,
    engine_file,
    names,
    parallelism,
    pod_checks,
    ports,
    ranges,
    structure,
    transfer,
)
from aiconf.deploy.validate import documents as yaml_documents
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph import Graph, graphs
from aiconf.deploy.validate.notation import Release, release
from aiconf.deploy.validate.problem import Problem
from aiconf.deploy.validate.workers import launched
from aiconf.deploy.versions import engines
from aiconf.errors import UserError, unknown

GROUP = "nvidia.com"
REQUEST = "DynamoGraphDeploymentRequest"
_COMPONENT = re.compile(r"spec\.components\[(\d+)\]")


@dataclass(frozen=True)
class Found:
    """What a check found. documents: how many of Dynamo's were checked."""

    problems: tuple[Problem, ...]
    unreadable: tuple[str, ...]
    documents: int


def check(paths: Sequence[Path], dynamo: str | None = None) -> Found:
    """Check every Dynamo document in ``paths``, files or folders.

    Parameters
    ----------
    dynamo
        Release of the operator, such as ``1.6.1``; the newest when None.

    Raises
    ------
    UserError
        A path does not exist, nothing there is a Dynamo document, or the release is unknown.
    """
    known = sorted({".".join(name.split(".")[:2]) for name in engines()}, reverse=True)
    if dynamo is not None and ".".join(dynamo.split(".")[:2]) not in known:
        raise unknown("Dynamo release", dynamo, [*engines()])
    read: list[Document] = []
    unreadable: list[str] = []
    for path in yaml_documents.files(paths):
        try:
            read += yaml_documents.read(path)
        except UserError as error:
            unreadable.append(str(error))
    mine = [one for one in read if one.group == GROUP]
    if not mine and not unreadable:
        raise UserError(f"no Dynamo document in {', '.join(map(str, paths))}")
    return Found(tuple(problems(read, dynamo)), tuple(unreadable), len(mine))


def problems(documents: Sequence[Document], dynamo: str | None = None) -> list[Problem]:
    """Return what is wrong with ``documents``, each finding once, by file.

    ConfigMaps among them are the files that containers mount, first those of the same file.
    """
    at = release(dynamo or next(iter(engines())))
    found: set[Problem] = set()
    for document in documents:
        if document.group == GROUP:
            found |= _named(structure.problems(document, at), document)
            found |= _named(names.problems(document), document)
            found |= _named(names.references(document), document)
        if document.kind == REQUEST:
            found |= set(admission.request_problems(document, at, dynamo is not None))
    for graph in graphs(documents):
        found |= _named(_of_graph(graph, at, dynamo is not None), graph.document)
    return sorted(_merged(found))


def _of_graph(graph: Graph, at: Release, at_is_stated: bool) -> Iterator[Problem]:
    yield from admission.problems(graph, at, at_is_stated)
    yield from names.lengths(graph, at)
    yield from pod_checks.problems(graph)
    yield from _of_workers(graph)


def _named(found: Iterable[Problem], document: Document) -> set[Problem]:
    """Name the components that places such as ``spec.components[2].replicas`` are in."""
    spec = document.body.get("spec")
    listed = spec.get("components") if isinstance(spec, dict) else None
    bodies = listed if isinstance(listed, list) else []
    given = set()
    for one in found:
        match = _COMPONENT.match(one.path)
        body = bodies[int(match.group(1))] if match else None
        name = body.get("name") if isinstance(body, dict) else None
        given.add(replace(one, component=name) if isinstance(name, str) else one)
    return given


def _merged(found: Iterable[Problem]) -> Iterator[Problem]:
    """Say what is wrong with one image once a file, however many components have it."""
    seen: dict[tuple[str, str, str], list[Problem]] = {}
    for one in sorted(found):
        is_image = one.path.endswith(".image") and one.level == "warning"
        seen.setdefault((one.source, "" if is_image else one.path, one.what), []).append(one)
    for first, *others in seen.values():
        names = ", ".join(one.component or one.path for one in others)
        yield replace(first, what=f"{first.what} (also in {names})") if names else first


def _of_workers(graph: Graph) -> Iterator[Problem]:
    yield from arguments.unstarted(graph)
    workers = launched(graph)
    for one in workers:
        yield from arguments.problems(one, workers)
        yield from arguments.planner_config(one)
        yield from engine_file.problems(one)
        yield from parallelism.problems(one)
        yield from ports.problems(one)
        yield from ranges.problems(one)
    yield from transfer.problems(workers)
    yield from connectors.problems(workers)
    yield from agreement.problems(graph, workers)
    yield from crashes.problems(workers)
