"""What is asked of a deployment: how requests come, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError
from aiconf.simulate.arrivals import Process, arrivals, together
from aiconf.simulate.lengths import drawn_lengths, lognormal_lengths, uniform_lengths
from aiconf.simulate.requests import Load
from aiconf.simulate.traces import Trace, read_trace
from aiconf.workload import Images, require_whole

Ints = NDArray[np.int64]
Kind = Literal["closed", "rate", "static", "offline", "trace"]
WAVES = 10  # requests per user of a closed loop, as InferenceX sends
OPEN_REQUESTS = 1000  # of a request rate that does not say how many
MOST_REQUESTS = 1_000_000


@dataclass(frozen=True)
class Demand:
    """Requests of a replay.

    kind: ``closed``: ``users`` in flight; ``rate``: ``rate`` per second, arriving as ``process``
    says (``cv``: see ``arrivals``); ``static``: one batch of ``requests``; ``offline``:
    ``requests`` queued at once; ``trace``: as they arrived in ``trace``. isl, osl: longest
    prompt and output with ``least`` (uniform from that share of them), means with ``length_cv``
    (lognormal); neither counts where a trace is given: then lengths are the trace's own.
    images: of each request, whose tokens come in addition to ``isl``.
    requests: how many; None: 10 per user, 1,000 of a rate, all of a trace. warmup: requests at
    the beginning that no figure counts.
    """

    kind: Kind
    isl: int = 1024
    osl: int = 128
    least: float = 1.0
    length_cv: float | None = None
    users: int = 0
    rate: float = 0.0
    process: Process = "poisson"
    cv: float = 1.0
    requests: int | None = None
    warmup: int = 0
    trace: Trace | None = None
    images: Images | None = None

    def __post_init__(self) -> None:
        for name in ("isl", "osl"):
            require_whole(name, getattr(self, name), 1)
        if self.kind == "closed":
            require_whole("concurrency", self.users, 1)
        require_whole("warmup", self.warmup, 0)
        if self.requests is not None:
            require_whole("requests", self.requests, 1)
        self._check_arrivals()
        if self.images and self.trace is not None:
            raise UserError(
                "a trace does not say which of its tokens are images: leave out --images or --trace"
            )
        if self.kind == "trace" and (self.trace is None or self.trace.arrival is None):
            raise UserError(
                "this trace states lengths alone: give --concurrency, --rate or --offline too"
            )
        if self.count > MOST_REQUESTS:
            raise UserError(f"{self.count:,} requests are more than the {MOST_REQUESTS:,} allowed")

    def _check_arrivals(self) -> None:
        """Refuse what would change nothing, so that nobody believes that it did."""
        if self.kind != "rate" and self.process != "poisson":
            raise UserError(f"{self.process} arrivals are of a request rate: give --rate, or leave "
                            "out --arrivals")  # fmt: skip
        if self.cv != 1.0 and (self.kind != "rate" or self.process != "gamma"):
            raise UserError(
                f"a variation of arrivals ({self.cv:g}) needs gamma arrivals of a request rate: "
                "add --rate with --arrivals gamma (any number above 0), or leave out --cv"
            )

    @property
    def count(self) -> int:
        """How many requests are sent."""
        if self.kind == "trace" and self.trace is not None:
            return min(len(self.trace), self.requests or len(self.trace))
        if self.requests is not None:
            return int(self.requests)
        return WAVES * int(self.users) if self.kind == "closed" else OPEN_REQUESTS

    @property
    def described(self) -> str:
        """The load in a few words."""
        arriving = {"poisson": "Poisson", "constant": "evenly"}.get(
            self.process, f"gamma with variation {self.cv:g}"
        )
        load = {
            "closed": f"closed loop of {self.users:,} users",
            "rate": f"{self.rate:g} requests/s ({arriving})",
            "static": "one batch",
            "offline": "all queued at once",
            "trace": "",
        }[self.kind]
        if self.trace is not None:
            given = f"{self.trace.form}, " + ("arrivals and lengths" if not load else "its lengths")
            return f"{load}, {given}" if load else given
        spread = ""
        if self.length_cv is not None:
            spread = f" (lognormal, variation {self.length_cv:g})"
        elif self.least < 1.0:
            spread = f" (from {self.least:g} of that)"
        shown = f"; {self.images}" if self.images else ""
        return f"{load}, {self.isl:,} + {self.osl:,} tokens{spread}{shown}"

    @property
    def notes(self) -> list[str]:
        """What a reader has to know about the requests."""
        if self.trace is None or not self.trace.left_out:
            return []
        return [f"{self.trace.left_out:,} requests of the trace have no output and are left out"]

    def load(self, seed: int = 0) -> Load:
        """Draw the requests.

        Lengths and arrivals come from streams of their own, so that the same requests are sent
        at another rate.
        """
        streams = np.random.SeedSequence(seed).spawn(2)
        prompt, output = self._lengths(np.random.default_rng(streams[0]))
        if self.images:
            prompt = prompt + self.images.prompt_tokens
        if self.kind == "closed":
            return Load(prompt, output, None, self.users, self.warmup, self.images)
        if self.kind == "trace":
            assert self.trace is not None and self.trace.arrival is not None
            return Load(prompt, output, self.trace.arrival[: self.count], 0, self.warmup)
        when = (
            arrivals(
                np.random.default_rng(streams[1]), self.count, self.rate, self.process, self.cv
            )
            if self.kind == "rate"
            else together(self.count)
        )
        return Load(prompt, output, when, 0, self.warmup, self.images)

    def _lengths(self, random: np.random.Generator) -> tuple[Ints, Ints]:
        if self.trace is not None and self.kind == "trace":
            return self.trace.prompt[: self.count], self.trace.output[: self.count]
        if self.trace is not None:
            return drawn_lengths(random, self.count, self.trace.prompt, self.trace.output)
        if self.length_cv is not None:
            return lognormal_lengths(random, self.count, self.isl, self.osl, self.length_cv)
        return uniform_lengths(random, self.count, self.isl, self.osl, self.least)


def demand_of(asked: Mapping[str, float | None], path: Path | None, **settings: Any) -> Demand:
    """Build a demand from the load options of a user.

    Parameters
    ----------
    asked
        ``concurrency``, ``rate``, ``static``, ``offline``: None where not asked for.
    path
        A trace: the load itself, or its lengths beside another load.
    settings
        Further fields of ``Demand``.

    Raises
    ------
    UserError
        Unless exactly one load is asked for.
    """
    chosen = {name: value for name, value in asked.items() if value is not None}
    options = ", ".join(f"--{name}" for name in asked)
    if len(chosen) > 1:
        given = " and ".join(f"--{name}" for name in chosen)
        raise UserError(f"{given} exclude each other: give one of {options}")
    trace = read_trace(path) if path is not None else None
    if not chosen:
        if trace is None:
            raise UserError(f"what is the load? give one of {options}, --trace")
        return Demand("trace", trace=trace, **settings)
    ((name, value),) = chosen.items()
    if name == "rate":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"rate must be requests per second, not {value!r}")
        return Demand("rate", rate=float(value), trace=trace, **settings)
    require_whole(name, value, 1)
    if name == "concurrency":
        return Demand("closed", users=int(value), trace=trace, **settings)
    kind: Kind = "static" if name == "static" else "offline"
    if settings.get("requests") is not None:
        raise UserError(f"--{name} says how many requests there are: leave out --requests")
    return Demand(kind, trace=trace, **(settings | {"requests": int(value)}))
