"""All checks of manifests, in the order in which a cluster would meet the problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiconf.deploy.validate import (
    admission,
    arguments,
    engine_file,
    names,
    parallelism,
    pod_checks,
    ports,
    structure,
    transfer,
)
from aiconf.deploy.validate import documents as yaml_documents
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph import Graph, graphs
from aiconf.deploy.validate.notation import release
from aiconf.deploy.validate.problem import Problem
from aiconf.deploy.validate.workers import launched
from aiconf.deploy.versions import engines
from aiconf.errors import UserError, unknown

GROUP = "nvidia.com"
REQUEST = "DynamoGraphDeploymentRequest"


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
    found: list[Problem] = []
    for document in documents:
        if document.group == GROUP:
            found += structure.problems(document, at)
            found += names.problems(document)
        if document.kind == REQUEST:
            found += admission.request_problems(document, at, dynamo is not None)
    for graph in graphs(documents):
        found += admission.problems(graph, at, dynamo is not None)
        found += names.lengths(graph, at)
        found += pod_checks.problems(graph)
        found += _of_workers(graph)
    return sorted(set(found))


def _of_workers(graph: Graph) -> Iterator[Problem]:
    yield from arguments.unstarted(graph)
    workers = launched(graph)
    for one in workers:
        yield from arguments.problems(one)
        yield from arguments.planner_config(one)
        yield from engine_file.problems(one)
        yield from parallelism.problems(one)
        yield from ports.problems(one)
    yield from transfer.problems(workers)
