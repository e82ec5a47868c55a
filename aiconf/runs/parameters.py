"""The parameters that a calibration fits: each a fact of an engine with a physical meaning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from aiconf.engine.batch import Array
from aiconf.engine.changes import Changes
from aiconf.engine.traits import backend_names, load_traits
from aiconf.system import System, load_system, system_names

# The processors that others are compared with: those of most measured runs.
REFERENCE_CPU = "Sapphire Rapids"
# Compute capabilities whose kernels are alike: Hopper; Blackwell and Blackwell Ultra.
FAMILIES = ((90, 99), (100, 119))


@dataclass(frozen=True)
class Kind:
    """One fact that is fitted.

    prior: standard deviation of ln(value / start) that physics allows before a run is looked
    at. start: where traits have none. by_family: one value for each GPU family, else the same
    on all. by_cpu: one for each kind of processor but ``REFERENCE_CPU``, the same of all engines.
    """

    fact: str
    prior: float
    start: float | None = None
    by_family: bool = False
    by_cpu: bool = False


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
    Kind("host.seconds_per_launch", 0.7),
    Kind("scales.launch", 0.5, 1.0, by_cpu=True),
    Kind("host.seconds_per_request", 0.5),
    Kind("host.seconds_per_handover", 0.7),
)


@dataclass(frozen=True)
class Parameter:
    """One number: a fact of one engine ("": of all) on GPUs of one family and hosts with one kind
    of processor (None, "": of any)."""

    kind: Kind
    backend: str
    family: tuple[int, int] | None
    start: float
    cpu: str = ""

    def of(self, backend: str, system: System) -> bool:
        """Whether it describes ``backend`` on ``system``."""
        first, last = self.family or (FAMILIES[0][0], FAMILIES[-1][1])
        mine = self.backend in ("", backend) and self.cpu in ("", system.cpu)
        return mine and first <= system.gpu.sm <= last


def cpus() -> tuple[str, ...]:
    """Kinds of processors of the embedded systems, other than ``REFERENCE_CPU``."""
    known = {load_system(name).cpu for name in system_names()}
    return tuple(sorted(known - {"", REFERENCE_CPU}))


def parameters() -> tuple[Parameter, ...]:
    """All parameters of all engines, each with the value it starts from."""
    found = [
        Parameter(kind, "", None, kind.start or 1.0, cpu)
        for kind in KINDS if kind.by_cpu for cpu in cpus()
    ]  # fmt: skip
    for backend, kind in product(backend_names(), (kind for kind in KINDS if not kind.by_cpu)):
        start = kind.start or 0.0
        section, _, name = kind.fact.partition(".")
        if section == "host":
            start = float(getattr(load_traits(backend).host, name)) or start
        families: tuple[tuple[int, int] | None, ...] = FAMILIES if kind.by_family else (None,)
        found += [Parameter(kind, backend, family, start) for family in families]
    return tuple(found)


def facts_at(known: tuple[Parameter, ...], logs: Array, backend: str, system: System) -> Changes:
    """Facts of an engine with each parameter at start x exp(log)."""
    return tuple(
        (one.kind.fact, one.start * float(np.exp(log)))
        for one, log in zip(known, logs, strict=True)
        if one.of(backend, system)
    )
