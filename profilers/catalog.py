"""Operators by the name that ``--ops`` takes: one file each, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from aiconf.errors import unknown
from profilers.operator import Operator

# A module that measures kernels on one GPU or over ranks has a tuple ``OPERATORS``.
MODULES = ("gemm", "attention", "mla", "moe", "memory", "nccl", "nixl")
BACKENDS = ("torch", "triton", "vllm", "sglang", "flashinfer", "trtllm")


def operators(names: Sequence[str]) -> tuple[Operator, ...]:
    """Return the operators of ``names``, all when there are none.

    Raises
    ------
    UserError
        For a name that is none, with the nearest one.
    """
    found: list[Operator] = []
    for name in dict.fromkeys(names or MODULES):
        if name not in MODULES:
            raise unknown("operator", name, MODULES)
        found += importlib.import_module(f"profilers.{name}").OPERATORS
    return tuple(found)


def backends(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of backends; all when there are none."""
    for name in names:
        if name not in BACKENDS:
            raise unknown("backend", name, BACKENDS)
    return tuple(dict.fromkeys(names)) or BACKENDS
