"""From the journal to tables: Parquet and manifest as perf_db has them, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.perf.commit import changing
from aiconf.perf.convert.write import file_facts, write_table
from aiconf.perf.manifest import require_names
from aiconf.perf.schema import MEASURED, SECONDS, schema_of
from profilers import journal

LICENCE = "Apache-2.0"
_KINDS = {"str": str, "int": int, "bool": bool}
# Library whose version a backend's tables state.
_LIBRARY = {
    "torch": "torch", "triton": "triton", "vllm": "vllm", "sglang": "sglang",
    "flashinfer": "flashinfer-python", "trtllm": "tensorrt-llm", "nixl": "nixl",
}  # fmt: skip


def finish(folder: Path) -> dict[str, int]:
    """Write the tables of what the journal of ``folder`` holds; rows by SYSTEM/BACKEND/TABLE.

    May be called at any time: tables are made anew from the whole journal.

    Raises
    ------
    UserError
        There is no journal, or no point in it yet.
    """
    import pandas as pd

    reading = journal.read(folder)
    sessions, refused = reading.of("session"), reading.of("refused")
    rows = _rows(reading.of("point"), sessions, folder / journal.NAME)
    if not rows:
        damage = f" ({reading.damage})" if reading.damaged else ""
        raise UserError(f"{folder} holds no measured point yet{damage}")
    entries = []
    counts = {}
    with changing(folder) as change:
        for place, measured in rows.items():
            schema = schema_of(place[2])
            names = list(schema.key_names)
            table = pd.DataFrame(measured).drop_duplicates(names, keep="last")
            table = table.sort_values(names, kind="stable", ignore_index=True)
            write_table(table, schema, change.path(place))
            counts["/".join(place)] = len(table)
            entries.append(_entry(place, len(table), sessions, refused))
            entries[-1] |= file_facts(change.path(place))
        change.commit(entries)
    return counts


def _rows(
    points: list[dict[str, Any]], sessions: list[dict[str, Any]], path: Path
) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Rows by (system, backend, table), all of one system: a run stays on one device.

    Journals come from others: what is written follows from them, so it is checked.
    """
    if points and not sessions:
        raise UserError(f"{path} does not say on what its points were measured")
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for point in points:
        place = (sessions[0]["device"]["system"], point["backend"], point["table"])
        if place not in rows:
            require_names(place, path)
        row, kinds = point["row"], {c.name: _KINDS[c.kind] for c in schema_of(place[2]).keys}
        if {name: type(value) for name, value in row.items()} != kinds:
            raise UserError(f"{path}: {point['point']} is no row of table {place[2]}")
        extra = {name: point.get(name, float("nan")) for name in MEASURED}
        rows.setdefault(place, []).append({**row, SECONDS: point["seconds"], **extra})
    return rows


def _entry(
    place: tuple[str, str, str], rows: int, sessions: list[dict[str, Any]],
    refused: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    system, backend, table = place
    library = _LIBRARY.get(backend, "torch")
    seen = [session["libraries"].get(library, "") for session in sessions]
    versions = list(dict.fromkeys(version for version in seen if version))
    own = [one["why"] for one in refused if one["point"].startswith(f"{backend}/{table} ")]
    facts = [{k: v for k, v in session.items() if k != "kind"} for session in sessions]
    return {
        "system": system, "backend": backend, "table": table,
        "version": versions[-1] if versions else "", "versions": versions,
        "origin": {"profiler": "aiconf profile", "sessions": facts, "refused": len(own)},
        "licence": LICENCE, "date": sessions[-1]["date"][:10], "rows": rows,
    }  # fmt: skip
