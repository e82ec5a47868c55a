"""The parameters that a calibration fits: each a fact of an engine with a physical meaning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from aiconf.engine.batch import Array
from aiconf.engine.changes import Changes
from aiconf.engine.traits import backend_names, load_traits

# Compute capabilities whose kernels are alike: Hopper; Blackwell and Blackwell Ultra.
FAMILIES = ((90, 99), (100, 119))


@dataclass(frozen=True)
class Kind:
    """One fact that is fitted.

    prior: standard deviation of ln(value / start) that physics allows before a run is looked
    at. start: where traits have none. by_family: one value for each GPU family, else the same
    on all.
    """

    fact: str
    prior: float
    start: float | None = None
    by_family: bool = False


# Kernel tables repeat within a few per cent, so a factor on a measured part of an iteration says
# how unlike the tables' the conditions of serving are (clocks under load, cold caches, imbalance)
# and may not stray far; what nobody measured by itself may.
KINDS = (
    Kind("scales.gemm", 0.04, 1.0, by_family=True),
    Kind("scales.attention", 0.06, 1.0, by_family=True),
    Kind("scales.moe", 0.06, 1.0, by_family=True),
    Kind("scales.communication", 0.10, 1.0, by_family=True),
    Kind("scales.memory", 0.10, 1.0, by_family=True),
    Kind("scales.acceptance", 0.25, 1.0),
    Kind("host.seconds_exposed_per_layer", 0.7, 5.0e-6),
    Kind("host.seconds_per_launch", 0.3),
    Kind("host.seconds_per_request", 0.5),
    Kind("host.seconds_per_handover", 0.7),
)


@dataclass(frozen=True)
class Parameter:
    """One number: a fact of one engine on GPUs of one family (None: all)."""

    kind: Kind
    backend: str
    family: tuple[int, int] | None
    start: float

    def of(self, backend: str, sm: int) -> bool:
        """Whether it describes ``backend`` on a GPU of capability ``sm``."""
        first, last = self.family or (FAMILIES[0][0], FAMILIES[-1][1])
        return backend == self.backend and first <= sm <= last


def parameters() -> tuple[Parameter, ...]:
    """All parameters of all engines, each with the value it starts from."""
    found = []
    for backend, kind in product(backend_names(), KINDS):
        start = kind.start or 0.0
        section, _, name = kind.fact.partition(".")
        if section == "host":
            start = float(getattr(load_traits(backend).host, name)) or start
        families: tuple[tuple[int, int] | None, ...] = FAMILIES if kind.by_family else (None,)
        found += [Parameter(kind, backend, family, start) for family in families]
    return tuple(found)


def facts_at(known: tuple[Parameter, ...], logs: Array, backend: str, sm: int) -> Changes:
    """Facts of an engine with each parameter at start x exp(log)."""
    return tuple(
        (one.kind.fact, one.start * float(np.exp(log)))
        for one, log in zip(known, logs, strict=True)
        if one.of(backend, sm)
    )
