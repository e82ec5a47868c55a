"""The way of a request from its client to the engine's queue.

Connection, HTTP, tokenisation and the messages between processes are the work of one event
loop. It interleaves the handlers of requests that are sent at the same instant (the first wave
of a closed loop, a burst), so these come through together, when the work of all is done. Later
requests answer the end of others, whose last tokens were sent one after another: they queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class IntakeCost:
    """Seconds of the way in: ``delay`` occupies nothing, the rest is work of the event loop.

    request: of each request. token: of each prompt token (tokenisation).
    """

    delay: float = 0.0
    request: float = 0.0
    token: float = 0.0


NO_INTAKE = IntakeCost()


class Intake:
    """Requests on their way, in the order in which they reach the queue."""

    def __init__(self, cost: IntakeCost) -> None:
        self._cost = cost
        self._through: deque[tuple[float, int]] = deque()  # (when it reaches the queue, request)
        self._free = 0.0

    def wave(self, when: float, requests: Sequence[int], prompts: Sequence[int]) -> None:
        """``requests`` with ``prompts`` tokens are sent at the same instant."""
        work = self._cost.request * len(requests) + self._cost.token * sum(prompts)
        self._free = max(self._free, when) + work
        self._through.extend((self._free + self._cost.delay, one) for one in requests)

    def first(self, arrival: NDArray[np.float64], prompts: Sequence[int]) -> int:
        """Send what arrives first as a wave; return how many requests that are."""
        count = int((arrival == arrival[0]).sum())
        self.wave(float(arrival[0]), range(count), prompts[:count])
        return count

    def enter(self, when: float, request: int, prompt: int) -> None:
        """A request of ``prompt`` tokens is sent at ``when``, never before the one before it."""
        work = self._cost.request + self._cost.token * prompt
        self._free = max(self._free, when) + work
        self._through.append((self._free + self._cost.delay, request))

    def next(self) -> float:
        """When the next request reaches the queue; infinity when none is on its way."""
        return self._through[0][0] if self._through else float("inf")

    def take(self) -> int:
        """Return the request that reaches the queue next."""
        return self._through.popleft()[1]
