"""Operators by the name that ``--ops`` takes: one file each, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from aiconf.errors import UserError, unknown
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
        if name in BACKENDS:
            raise UserError(f"{name} is a backend and no operator: give --backend {name}")
        if name not in MODULES:
            raise unknown("operator", name, MODULES)
        found += importlib.import_module(f"profilers.{name}").OPERATORS
    return tuple(found)


def backends(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of backends; all when there are none.

    Raises
    ------
    UserError
        For a name that is none, with the nearest one, or the operator that goes by it.
    """
    for name in names:
        if name in MODULES:  # nccl and nixl are also where its tables lie
            raise UserError(f"{name} is an operator and no backend: give --ops {name}")
        if name not in BACKENDS:
            raise unknown("backend", name, BACKENDS)
    return tuple(dict.fromkeys(names)) or BACKENDS
