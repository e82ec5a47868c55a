"""Which containers run on which node, for people without Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiconf.deploy.pods import Part
from aiconf.system.spec import System


@dataclass(frozen=True)
class Placed:
    """One container: a rank of one replica of a worker, on GPUs of one node.

    leader: index of the node with the replica's first rank. slot: how many containers of workers
    came before it on its node, from which ports are counted.
    """

    part: Part
    replica: int
    rank: int
    leader: int
    gpus: tuple[int, ...]
    slot: int


@dataclass
class Node:
    """A machine that is filled: its index, system and containers."""

    index: int
    system: System
    placed: list[Placed] = field(default_factory=list)

    @property
    def free(self) -> int:
        """GPUs that no container has yet."""
        return self.system.gpus_per_node - sum(len(one.gpus) for one in self.placed)


def placement(parts: Sequence[Part]) -> list[Node]:
    """Put every replica on as few nodes as hold its GPUs, the largest workers first."""
    nodes: list[Node] = []
    for part in sorted(parts, key=lambda one: -one.worker.parallel.gpus):
        for replica in range(part.worker.replicas):
            chosen = _chosen(nodes, part)
            for rank, node in enumerate(chosen):
                first = node.system.gpus_per_node - node.free
                gpus = tuple(range(first, first + part.nodes.gpus_per_pod))
                slot = len(node.placed)
                node.placed.append(Placed(part, replica, rank, chosen[0].index, gpus, slot))
    return nodes


def _chosen(nodes: list[Node], part: Part) -> list[Node]:
    """Return the first nodes with room for one replica, new ones where there are too few."""
    system, pod = part.worker.system, part.nodes.gpus_per_pod
    fits = [node for node in nodes if node.system.name == system.name and node.free >= pod]
    chosen = fits[: part.nodes.count]
    while len(chosen) < part.nodes.count:
        nodes.append(Node(len(nodes), system))
        chosen.append(nodes[-1])
    return chosen
