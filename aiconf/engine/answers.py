"""Which operator of a layout takes how long, and which measured tables answer for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.engine.curves import PART
from aiconf.engine.engine import Platform
from aiconf.engine.step import StepModel
from aiconf.model.operators import Operator, operators
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.perf.origin import Origin
from aiconf.perf.tables import Columns, Reader

Place = tuple[str, str, str]  # system, backend, table


@dataclass(frozen=True)
class Answer:
    """One operator under a layout.

    seconds: of all its occurrences in each iteration, shape (point,). by_origin: the same by
    where they came from, shape (origin, point). tables: tables in which rows of its kind were
    found. fused: it is part of a larger kernel of this engine and takes no time of its own.
    """

    operator: Operator
    seconds: Array
    by_origin: Array
    tables: tuple[Place, ...]
    fused: bool = False


class _Recorder:
    """A reader that remembers which tables had rows."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.places: dict[Place, None] = {}

    def read(
        self, system: str, backend: str, table: str, where: Mapping[str, Any] | None = None
    ) -> Columns | None:
        found = self._reader.read(system, backend, table, where)
        if found is not None and len(found["seconds"]):
            self.places[system, backend, table] = None
        return found

    def version(self, system: str, backend: str) -> str | None:
        return self._reader.version(system, backend)


def answers(
    platform: Platform, spec: ModelSpec, parallel: Parallel, kv_dtype: str, batch: Batch
) -> tuple[Answer, ...]:
    """Time every operator of a layout alone, with a note of the tables that were read for it.

    The sum over operators is what `StepModel.time` says without the host's time.
    """
    together = platform.step(spec, parallel, kv_dtype)
    return tuple(
        _nothing(operator, len(batch))
        if together.fused(operator)
        else _answer(platform, spec, parallel, kv_dtype, batch, operator)
        for operator in operators(spec, parallel)
    )


def _nothing(operator: Operator, points: int) -> Answer:
    return Answer(operator, np.zeros(points), np.zeros((len(Origin), points)), (), fused=True)


def _answer(
    platform: Platform,
    spec: ModelSpec,
    parallel: Parallel,
    kv_dtype: str,
    batch: Batch,
    operator: Operator,
) -> Answer:
    recorder = _Recorder(platform.tables.reader)
    tables = replace(platform.tables, reader=recorder, built={})
    alone = StepModel(tables, spec, parallel, platform.traits, kv_dtype, stage=(operator,))
    time = alone.time(batch)
    host = time.by_part[PART["overhead"]]
    by_origin = time.by_origin.copy()
    by_origin[Origin.INTERPOLATED] -= host
    seconds = time.seconds - host
    # What is left of the subtraction where the host's time was all there is.
    by_origin[np.abs(by_origin) <= 1e-9 * time.seconds] = 0.0
    return Answer(operator, seconds, by_origin, tuple(recorder.places))
