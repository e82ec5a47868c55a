"""Benchmark protocols: what a published benchmark told its engines."""

from __future__ import annotations

from aiconf.runs.cells import Cells
from aiconf.runs.measured import Traffic


def engine_settings(cells: Cells, backend: str, load: Traffic) -> tuple[int | None, int | None]:
    """Return maximum sequences and token budget of a row's engine; None: the default."""
    told = cells.get("source", "") + cells.get("isl_osl_note", "")
    if load.kind == "closed" and ("InferenceX" in told or "InferenceMAX" in told):
        return load.users, None
    return None, None
