"""Traffic and targets: what is asked of a deployment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError


def require_whole(name: str, value: object, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``, by a ``UserError``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < least:  # type: ignore[arg-type, call-overload, operator]
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")


@dataclass(frozen=True)
class Images:
    """Images of one request, ``count`` of ``width`` x ``height`` pixels.

    patches, tokens: of one image, as a model's processor cuts it; the tokens are part of the
    prompt.
    """

    count: int
    width: int
    height: int
    patches: int
    tokens: int

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all images of a request."""
        return self.count * self.tokens

    def encoded(self, done: int, chunk: int) -> int:
        """Images that are encoded for ``chunk`` prompt tokens behind ``done``, images first.

        An image is encoded in the iteration that computes the first of its tokens (vLLM
        v1/core/sched/scheduler.py, _try_schedule_encoder_inputs).
        """
        before, after = (
            min(-(-tokens // self.tokens), self.count) for tokens in (done, done + chunk)
        )
        return after - before

    def __str__(self) -> str:
        what = "image" if self.count == 1 else "images"
        return f"{self.count} {what} of {self.size} ({self.prompt_tokens:,} tokens)"

    @property
    def size(self) -> str:
        """Width and height as they are written, like 1024x768."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Workload:
    """Requests of one shape.

    isl, osl: prompt and output tokens of a request; the prompt holds text and the tokens of
    ``images`` (None: text alone). prefix: leading prompt tokens that are already in the KV cache
    of the worker (prefix caching), so never computed again; they are text.
    """

    isl: int
    osl: int
    prefix: int = 0
    images: Images | None = None

    def __post_init__(self) -> None:
        require_whole("isl", self.isl, 1)
        require_whole("osl", self.osl, 1)
        require_whole("prefix", self.prefix, 0)
        if self.prefix >= self.text:
            raise UserError(
                f"prefix {self.prefix} must be shorter than isl {self.text}: "
                f"at least one prompt token is always computed; the longest is {self.text - 1}"
            )

    @property
    def text(self) -> int:
        """Prompt tokens that are text."""
        return self.isl - (self.images.prompt_tokens if self.images else 0)

    @property
    def patches(self) -> int:
        """Patches of each image; 0 where there are none."""
        return self.images.patches if self.images else 0

    def images_in(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images encoded for so many computed prompt tokens, on average."""
        share = self.images.count / self.new_tokens if self.images else 0.0
        found: NDArray[np.float64] = tokens * share
        return found

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
