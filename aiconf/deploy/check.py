"""All checks of manifests, in the order in which a cluster would meet the problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiconf.deploy import documents as yaml_documents
from aiconf.deploy import names
from aiconf.deploy.documents import Document
from aiconf.deploy.graph import graphs
from aiconf.deploy.problem import Problem
from aiconf.errors import UserError

GROUP = "nvidia.com"


@dataclass(frozen=True)
class Found:
    """What a check found. graphs: how many Dynamo documents were checked."""

    problems: tuple[Problem, ...]
    unreadable: tuple[str, ...]
    graphs: int


def check(paths: Sequence[Path]) -> Found:
    """Check every Dynamo document in ``paths``, files or folders.

    Raises
    ------
    UserError
        A path does not exist.
    """
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
    return Found(tuple(problems(read)), tuple(unreadable), len(mine))


def problems(documents: Sequence[Document]) -> list[Problem]:
    """Return what is wrong with ``documents``, each finding once, by file."""
    found: list[Problem] = []
    for graph in graphs(documents):
        found += names.problems(graph)
    return sorted(set(found))
