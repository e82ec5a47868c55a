"""Numbers of a manifest that no cluster or engine takes, refused before anything computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiconf.deploy.validate.graph import Component
from aiconf.errors import UserError

_WIDEST = 2**63  # Kubernetes keeps whole numbers in 64 bits
_MOST_PODS = 100_000  # of one component: more than a cluster of Kubernetes has nodes
MOST_SEQUENCES = 65_536  # of one attention rank: far more than any engine's default


def check_amounts(value: Any, where: str) -> None:
    """Check every number inside ``value``.

    Raises
    ------
    UserError
        One is infinite, not a number, or wider than 64 bits.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_amounts(key, where)
            check_amounts(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_amounts(inner, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}: give a number")
    elif isinstance(value, int) and abs(value) >= _WIDEST:
        raise UserError(f"{where} is a number wider than 64 bits")


def check_pods(component: Component) -> None:
    """Check that a component has no more pods and GPUs than any cluster.

    Raises
    ------
    UserError
        It has.
    """
    counts = {
        "replicas": component.replicas, "nodes of a replica": component.nodes,
        "GPUs of a pod": component.gpus_per_pod or 0,
    }  # fmt: skip
    for what, count in counts.items():
        if count > _MOST_PODS:
            raise UserError(
                f"component {component.name}: {what}: more than {_MOST_PODS:,} are in no cluster"
            )
