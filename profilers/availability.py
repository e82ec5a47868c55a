"""Whether a library is there, without importing it: that would take seconds and touch the GPU."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profilers.device import Device
    from profilers.operator import Key

Missing = Callable[["Device"], str]
Unsupported = Callable[["Device", "Key"], str]


def needs(*modules: str, sm: int = 0) -> Missing:
    """Return a check that ``modules`` are installed and the GPU has compute capability ``sm``.

    What another machine has installed is not known: a plan for it takes all of it as there.
    """

    def missing(device: Device) -> str:
        wanted = ("torch", *modules)
        absent = [name for name in wanted if importlib.util.find_spec(name) is None]
        if absent and device.here:
            return f"{', '.join(absent)} not installed"
        if (modules or sm) and device.kind != "cuda" and not _interpreted(modules):
            return "it needs a GPU"
        return f"needs sm {sm}, this GPU is sm {device.sm}" if device.sm < sm else ""

    return missing


def _interpreted(modules: tuple[str, ...]) -> bool:
    """Whether Triton is the only need and its interpreter stands in for a GPU."""
    return modules == ("triton",) and os.environ.get("TRITON_INTERPRET") == "1"


def dtypes(*names: str) -> Unsupported:
    """Return a check that a shape's ``dtype`` is one of ``names``."""

    def unsupported(_device: Device, key: Key) -> str:
        return "" if key["dtype"] in names else f"multiplies {', '.join(names)} only"

    return unsupported
