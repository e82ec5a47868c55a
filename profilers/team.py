"""The processes that measure together: one, or the ranks of a collective under torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from profilers.device import Device

# A rank that failed alone leaves the others waiting; then they fail too, instead of never.
_PATIENCE = timedelta(minutes=5)


class Team(Protocol):
    """What the run asks of its ranks; rank 0 decides and writes, all measure."""

    @property
    def rank(self) -> int:
        """Number of this process; 0 leads."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def share(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""

    def slowest(self, seconds: NDArray[Any]) -> NDArray[Any]:
        """Return the largest of all ranks' values, element by element: a collective ends last."""


@dataclass(frozen=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1

    def share(self, value: Any) -> Any:
        """Return the value."""
        return value

    def slowest(self, seconds: NDArray[Any]) -> NDArray[Any]:
        """Return the values."""
        return seconds


@dataclass(frozen=True)
class Ranks:
    """Ranks of one torchrun, on one node or several; they talk over gloo beside what is timed.

    local: ranks on each node.
    """

    rank: int
    size: int
    local: int
    control: ProcessGroup

    def share(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, 0, group=self.control)
        return held[0]

    def slowest(self, seconds: NDArray[Any]) -> NDArray[Any]:
        """Return the largest of all ranks' values, element by element."""
        import torch
        import torch.distributed as dist

        most = torch.from_numpy(np.array(seconds, dtype=np.float64))
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.control)
        return np.asarray(most.numpy())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order, on every rank."""
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def together(self) -> None:
        """Wait until all ranks are here."""
        import torch.distributed as dist

        dist.barrier(group=self.control)


def launched() -> int:
    """How many ranks torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def per_node() -> int:
    """How many of them are on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", str(launched())))


def group_sizes(device: Device) -> tuple[int, ...]:
    """Group sizes that collectives of this torchrun are measured at; empty where there are none.

    The powers of two of one node and the ranks of a whole one; then twice as many nodes each
    time, and all. A table's row says how many GPUs and not where: readers take those of a node's
    size for one node's. So nothing spans nodes that are not filled.
    """
    local, nodes = per_node(), launched() // per_node()
    powers = [1 << power for power in range(launched().bit_length())]
    sizes = {power for power in powers if power <= local} | {local}
    if local >= device.gpus_per_node:
        sizes |= {local * power for power in powers if power <= nodes} | {local * nodes}
    return tuple(sorted(sizes - {1}))


def unfilled(device: Device) -> str:
    """Why no group spans nodes."""
    count = device.gpus_per_node
    return (
        f"a group fills a node of {count} GPUs before it spans two, and here are {per_node()} "
        f"ranks on each: torchrun --nproc-per-node {count}"
    )


def local_rank() -> int:
    """Which of the ranks on this node this is, and so which GPU is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leads() -> bool:
    """Whether this process is rank 0, which writes; also without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def one_device(device: Device, team: Team) -> Device:
    """Rank 0's device with this rank's own index: all must plan the same points.

    Raises
    ------
    UserError
        On every rank, when one of them has another GPU.
    """
    first: Device = team.share(device)
    if team.slowest(np.array([float(first.name != device.name)]))[0]:
        raise UserError(f"the ranks are on different devices; rank 0 has {first.name}")
    return replace(first, index=device.index, uuid=device.uuid)


_joined: list[Ranks] = []  # the team of this process, while it is in one


def ranks() -> Ranks:
    """The team of this process; ``UserError`` where there is none."""
    if not _joined:
        raise UserError("collectives need ranks: start aiconf with torchrun")
    return _joined[-1]


@contextmanager
def team(kind: str) -> Iterator[Team]:
    """Join the ranks of torchrun, over NCCL (``kind`` cuda) or gloo (cpu); alone without it.

    Raises
    ------
    UserError
        The ranks cannot find each other, there are more than GPUs, or nodes have unlike many.
    """
    if launched() == 1:
        yield Alone()
        return
    from profilers.device import require_torch

    torch = require_torch()
    import torch.distributed as dist

    if kind == "cuda":
        count = torch.cuda.device_count()
        if local_rank() >= count:
            raise UserError(
                f"{per_node()} ranks on this node and {count} GPUs: "
                "torchrun's --nproc-per-node must not exceed them"
            )
        torch.cuda.set_device(local_rank())
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"the ranks cannot join: {why}") from error
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        _joined.append(Ranks(dist.get_rank(), dist.get_world_size(), per_node(), control))
        found = set(_joined[-1].gather(per_node()))
        if len(found) > 1:
            raise UserError(
                f"nodes have {' and '.join(map(str, sorted(found)))} ranks: give torchrun the same "
                "--nproc-per-node on each"
            )
        yield _joined[-1]
    finally:
        _joined.clear()
        group.cache_clear()
        dist.destroy_process_group()


@cache
def group(size: int, backend: str) -> ProcessGroup:
    """The group of ranks 0 to ``size`` - 1 over nccl or gloo; every rank of the team must ask."""
    import torch.distributed as dist

    return dist.new_group(list(range(size)), backend=backend, timeout=_PATIENCE)
