"""Names that Kubernetes and Grove accept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiconf.deploy.graph import Graph
from aiconf.deploy.problem import Problem, spelled
from aiconf.deploy.schema import COMBINED_NAME_LIMIT, ROLE_SUFFIX

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def problems(graph: Graph) -> Iterator[Problem]:
    """Yield what is wrong with the names of a graph."""
    source = graph.source
    if not graph.name:
        yield Problem(source, "metadata.name", "missing", "give the deployment a name")
    elif not _SUBDOMAIN.fullmatch(graph.name) or len(graph.name) > 253:
        yield Problem(
            source, "metadata.name", f"'{graph.name}' is no name that Kubernetes accepts",
            "lower-case letters, digits and '-', beginning and ending with a letter or digit",
        )  # fmt: skip
    for component in graph.components:
        length = len(graph.name) + len(component.name)
        length += ROLE_SUFFIX if component.nodes > 1 else 0
        if length > COMBINED_NAME_LIMIT:
            yield Problem(
                source, spelled(component.where),
                f"'{graph.name}' and '{component.name}' have {length} characters together, and "
                f"Grove takes {COMBINED_NAME_LIMIT}", "shorten either",
            )  # fmt: skip
