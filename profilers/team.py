"""The processes that measure together: one, or the ranks of a collective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


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
