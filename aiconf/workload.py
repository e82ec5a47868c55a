"""Traffic and targets: what is asked of a deployment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aiconf.errors import UserError


def require_whole(name: str, value: object, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``, by a ``UserError``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < least:  # type: ignore[arg-type, call-overload, operator]
        raise UserError(f"{name} must be a whole number of at least {least}, not {value}")


@dataclass(frozen=True)
class Workload:
    """Requests of one shape.

    isl, osl: prompt and output tokens of a request. prefix: leading prompt tokens that are
    already in the KV cache of the worker (prefix caching), so never computed again.
    """

    isl: int
    osl: int
    prefix: int = 0

    def __post_init__(self) -> None:
        require_whole("isl", self.isl, 1)
        require_whole("osl", self.osl, 1)
        require_whole("prefix", self.prefix, 0)
        if self.prefix >= self.isl:
            raise UserError(
                f"prefix {self.prefix} must be shorter than isl {self.isl}: "
                f"at least one prompt token is always computed; the longest is {self.isl - 1}"
            )

    @property
    def new_tokens(self) -> int:
        """Prompt tokens that must be computed."""
        return self.isl - self.prefix

    @property
    def mean_context(self) -> float:
        """Mean tokens in the KV cache of a sequence while it decodes."""
        return self.isl + (self.osl + 1) / 2


@dataclass(frozen=True)
class Sla:
    """Latency targets in seconds; infinity where none is set."""

    ttft: float = math.inf
    tpot: float = math.inf
    latency: float = math.inf

    def __post_init__(self) -> None:
        for name, value in (("ttft", self.ttft), ("tpot", self.tpot), ("latency", self.latency)):
            if math.isnan(value) or value <= 0:
                raise UserError(f"{name} target must be a positive time, not {value}")
