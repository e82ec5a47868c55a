"""Requests of a replay and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError
from aiconf.simulate.spans import Spans
from aiconf.workload import Images

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Load:
    """Requests in the order they are sent.

    prompt, output: tokens of each. arrival: seconds of each in an open loop; None in a closed
    loop, where ``users`` requests are in flight and the next is sent when one has finished.
    warmup: requests at the beginning that no figure counts. images: of each request, whose tokens
    are the first of its prompt.
    """

    prompt: Ints
    output: Ints
    arrival: Array | None
    users: int = 0
    warmup: int = 0
    images: Images | None = None

    def __post_init__(self) -> None:
        if len(self.prompt) != len(self.output) or len(self.prompt) == 0:
            raise UserError("a load needs as many prompt as output lengths, at least one of each")
        if self.prompt.min() < 1 or self.output.min() < 1:
            raise UserError("prompt and output lengths must be at least 1 token")
        if self.images and self.prompt.min() <= self.images.prompt_tokens:
            raise UserError(
                f"prompts of {self.prompt.min()} tokens hold no text beside the "
                f"{self.images.prompt_tokens} of their images"
            )
        if (self.arrival is None) == (self.users < 1):
            raise UserError("a load has either arrival times or at least one user")
        if self.arrival is not None and not self._ordered(self.arrival):
            raise UserError("arrival times must be finite and ascend, one for each request")
        if not 0 <= self.warmup < len(self.prompt):
            raise UserError(
                f"{self.warmup} warm-up requests leave none of {len(self.prompt)} to count"
            )

    def _ordered(self, arrival: Array) -> bool:
        finite = len(arrival) == len(self.prompt) and bool(np.isfinite(arrival).all())
        return finite and bool((np.diff(arrival) >= 0).all())

    def __len__(self) -> int:
        return len(self.prompt)


@dataclass(frozen=True)
class Replay:
    """What each request saw, in seconds: sent, first token, last token; and engine totals.

    started: when its first prompt token was computed. busy: seconds of iterations with prompt
    tokens, and of decode iterations. preempted: how often a running request lost its cache.
    peak_kv: most of the KV cache in use, 0 to 1. kv_tokens: what the cache holds in all.
    spans: what the engine did. warmup: requests at the beginning that no figure counts.
    """

    sent: Array
    first: Array
    last: Array
    output: Ints
    prompt: Ints
    busy: tuple[float, float]
    iterations: int
    preempted: int
    peak_kv: float
    started: Array
    spans: Spans
    kv_tokens: float
    warmup: int = 0

    @property
    def ttft(self) -> Array:
        """Seconds from sending to the first token."""
        return self.first - self.sent

    @property
    def tpot(self) -> Array:
        """Seconds per token after the first; NaN where there is only one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = np.where(
                self.output > 1, (self.last - self.first) / (self.output - 1), np.nan
            )
        return found

    @property
    def duration(self) -> float:
        """Seconds from the first sending to the last token."""
        return float(self.last.max() - self.sent.min())
