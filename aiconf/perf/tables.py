"""The tables that answer for one system and backend, and the kernel an engine picks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiconf.system.spec import System

Columns = dict[str, NDArray[Any]]
Array = NDArray[np.float64]
Shapes = NDArray[np.intp]


class Reader(Protocol):
    """What ``perf`` needs of the database (see ``aiconf.perf.store.PerfDb``)."""

    def read(
        self, system: str, backend: str, table: str, where: Mapping[str, Any] | None = None
    ) -> Columns | None:
        """Columns of a table as arrays, filtered by equality; None where there is no table."""

    def version(self, system: str, backend: str) -> str | None:
        """Engine version that most tables were measured with."""


@dataclass
class Tables:
    """Tables of one (system, backend), with kernels in the engine's order of preference.

    kernel_order: name of a choice (``decode_attention``, ``gemm.fp8_block``; see
    ``backends/*.yaml``) -> kernel names, the engine's default first; a kernel that is not named
    comes after those that are. lenders: choice -> backend whose table is read instead, where the
    backend's own is unusable. serial_prefill: prefill kernels whose thread blocks walk all keys
    of a query tile (see ``perf.attention``). Surfaces built from tables are kept in ``built``.
    """

    reader: Reader
    system: System
    backend: str
    kernel_order: Callable[[str], Sequence[str]] = lambda _choice: ()
    lenders: Mapping[str, str] = field(default_factory=dict)
    serial_prefill: frozenset[str] = frozenset()
    built: dict[Any, Any] = field(default_factory=dict)

    def read(
        self, table: str, choice: str = "", backend: str = "", system: str = "", **where: object
    ) -> Columns | None:
        """Read rows that equal ``where``; with ``choice``, the engine's kernel comes last.

        Later rows win where several kernels were measured for one shape (see ``Surface.fit``).
        """
        owner = backend or self.lenders.get(choice, self.backend)
        columns = self.reader.read(system or self.system.name, owner, table, where or None)
        if columns is None or not len(columns["seconds"]):
            return None
        order = self.named_kernels(choice) if owner == self.backend else ()
        if order:
            rank = np.full(len(columns["kernel"]), len(order))
            for place, name in enumerate(order):
                rank[columns["kernel"] == name] = place
            sorting = np.argsort(-rank, kind="stable")
            columns = {key: column[sorting] for key, column in columns.items()}
        return columns

    def named_kernels(self, choice: str) -> Sequence[str]:
        """Kernels that the engine names for ``choice``; none where another's table is read."""
        return () if not choice or self.borrowed(choice) else self.kernel_order(choice)

    def borrowed(self, choice: str) -> bool:
        """Whether ``choice`` is answered from another backend's table."""
        return choice in self.lenders


def having(rows: Columns, name: str, wanted: str, instead: tuple[str, ...]) -> Columns | None:
    """Return the rows whose column ``name`` is ``wanted``, else the first of ``instead``."""
    for value in (wanted, *instead):
        mask = rows[name] == value
        if mask.any():
            return {key: column[mask] for key, column in rows.items()}
    return None


def nearest(rows: Columns, name: str, wanted: float) -> tuple[Columns, bool]:
    """Return the rows whose column ``name`` is nearest to ``wanted`` by ratio; whether equal."""
    sizes = np.unique(rows[name])
    near = sizes[int(np.argmin(np.abs(np.log2(sizes / wanted))))]
    mask = rows[name] == near
    return {key: column[mask] for key, column in rows.items()}, bool(near == wanted)


def distinct_shapes(rows: Columns, names: Sequence[str]) -> tuple[Array, Shapes]:
    """Distinct combinations of integer columns, shape (combination, name), and each row's one.

    Coded as one integer per row, which sorts many times faster than rows of several columns.
    """
    code = np.zeros(len(rows["seconds"]), dtype=np.int64)
    for name in names:
        code = code * (int(rows[name].max()) + 1) + rows[name]
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    found = np.stack([rows[name][first] for name in names], axis=1).astype(np.float64)
    return found, place.reshape(-1)
