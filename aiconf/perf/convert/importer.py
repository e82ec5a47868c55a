"""From source files to perf_db: read, convert, merge versions, write, describe in the manifest."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.errors import UserError
from aiconf.perf.commit import Change, changing
from aiconf.perf.convert.columns import Context
from aiconf.perf.convert.recipes import RECIPES
from aiconf.perf.convert.source import (
    COPIES,
    MULTI_NODE_TABLES,
    PACKAGE,
    Package,
    SourceFile,
    choose_versions,
    gpus_per_node,
    source_files,
)
from aiconf.perf.convert.write import file_facts, write_table
from aiconf.perf.manifest import MANIFEST, read_manifest
from aiconf.perf.schema import SCHEMAS, SECONDS, Schema, schema_of

if TYPE_CHECKING:
    import pandas as pd

LICENCE = "Apache-2.0"


@dataclass
class _Rows:
    """Rows of one table while it is put together, and what had to be done to them."""

    parts: list[pd.DataFrame] = field(default_factory=list)
    origins: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0  # rows beyond the first with the same key in one version: median taken
    superseded: int = 0  # rows of an older version that a newer one measured again
    dropped: int = 0  # rows of another GPU, or without a usable time


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote."""

    tables: int
    rows: int
    size: int  # bytes
    duplicates: int


def import_tables(
    package: Package,
    out: Path,
    systems: Sequence[str],
    date: str | None = None,
    progress: Callable[[str], None] = lambda _line: None,
    only: Sequence[str] = (),
) -> ImportSummary:
    """Convert the tables of ``systems`` and put them into the perf_db folder ``out``.

    Tables of other systems that ``out`` already holds stay, and with ``only`` those of other
    names. Everything is written beside ``out`` first and moved in at the end, so that a failed
    import changes nothing.
    ``progress`` is called with a line per system.
    Raises ``UserError`` for an unknown system or a table that cannot be converted, and when
    ``out`` holds tables of someone else (there is no manifest).
    """
    if out.is_dir() and not (out / MANIFEST).is_file() and any(out.glob("*/*/*.parquet")):
        raise UserError(f"{out} holds tables but no {MANIFEST}: give another folder with --out")
    for table in only:
        schema_of(table)
    date = date or datetime.datetime.now(datetime.UTC).date().isoformat()
    entries: list[dict[str, Any]] = []
    with changing(out) as change:
        for system in dict.fromkeys(systems):
            tables = _import_system(package, system, change, date, only)
            progress(f"{system}: {len(tables)} tables, {sum(e['rows'] for e in tables):,} rows")
            entries += tables
        _commit(change, entries, systems, only)
    return ImportSummary(
        tables=len(entries),
        rows=sum(e["rows"] for e in entries),
        size=sum(e["bytes"] for e in entries),
        duplicates=sum(e["duplicates_merged"] for e in entries),
    )


def _import_system(
    package: Package, system: str, change: Change, date: str, only: Sequence[str]
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[SourceFile]] = defaultdict(list)
    for file in source_files(package, system):
        if file.name in RECIPES and (not only or RECIPES[file.name][0] in only):
            groups[file.backend, file.name].append(file)
    context = Context(gpus_per_node(package, system))
    tables: dict[tuple[str, str], _Rows] = defaultdict(_Rows)
    for (backend, name), files in sorted(groups.items()):
        chosen = choose_versions(files)
        table = RECIPES[name][0]
        if chosen:
            _add(tables[backend, table], chosen, context, package)
    entries = []
    for (backend, table), rows in sorted(tables.items()):
        fresh = change.path((system, backend, table))
        data = _sorted(rows.parts, SCHEMAS[table])
        write_table(data, SCHEMAS[table], fresh)
        entries.append(_describe(package, (system, backend, table), rows, len(data), date))
        entries[-1] |= file_facts(fresh)
    return entries


def _add(rows: _Rows, files: Sequence[SourceFile], context: Context, package: Package) -> None:
    """Convert the versions of one source table (oldest first) and merge them, newer rows win."""
    import pandas as pd

    table, _ = RECIPES[files[0].name]
    keys = list(SCHEMAS[table].key_names)
    parts, recorded = [], []
    for age, file in enumerate(reversed(files)):
        part, stated = _convert(file, context, rows)
        if age and file.name in MULTI_NODE_TABLES:
            part = part[part.nodes > 1]  # one node was measured again by the newer version
        count = len(part)
        part = part.groupby(keys, sort=False, as_index=False)[[SECONDS]].median()
        rows.duplicates += count - len(part)
        parts.append(part.assign(age=age))
        recorded.append(stated)
    merged = pd.concat(parts, ignore_index=True)
    newest = merged.drop_duplicates(keys, keep="first")
    rows.superseded += len(merged) - len(newest)
    rows.parts.append(newest)
    taken = newest.age.value_counts()
    for age, file in enumerate(reversed(files)):
        if age in taken:
            rows.origins.append(_origin(file, package, recorded[age], int(taken[age])))


def _convert(file: SourceFile, context: Context, rows: _Rows) -> tuple[pd.DataFrame, list[str]]:
    import pyarrow.parquet as pq

    table, recipe = RECIPES[file.name]
    try:
        source = pq.ParquetFile(file.path).read().to_pandas()
        # A table may hold rows of another GPU: the device has to be the system's own.
        if "device" in source:
            gpu = file.system.split("_")[0].upper()
            source = source[source.device.str.split().map(lambda words: gpu in words)]
        part = recipe(source, context)[list(SCHEMAS[table].names)]
    except (AttributeError, KeyError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot convert {file.path}: its layout is not known ({error})") from error
    usable = part[part.seconds >= 0]  # a scale that costs nothing is measured as 0
    rows.dropped += file.rows - len(source) + len(part) - len(usable)
    recorded = sorted(map(str, source.version.unique())) if "version" in source else []
    return usable, recorded


def _origin(file: SourceFile, package: Package, recorded: list[str], rows: int) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "path": file.relative(package.data),
        "version": file.version,
        "rows": rows,
    }
    if recorded and recorded != [file.version]:
        origin["recorded_versions"] = recorded  # what the rows themselves state
    return origin


def _sorted(parts: Sequence[pd.DataFrame], schema: Schema) -> pd.DataFrame:
    import pandas as pd

    rows = pd.concat(parts, ignore_index=True)[list(schema.names)]
    return rows.sort_values(list(schema.key_names), kind="stable", ignore_index=True)


def _describe(
    package: Package, place: tuple[str, str, str], rows: _Rows, count: int, date: str
) -> dict[str, Any]:
    from packaging.version import Version

    system, backend, table = place
    versions = sorted({o["version"] for o in rows.origins}, key=Version)
    main = max(versions, key=lambda v: sum(o["rows"] for o in rows.origins if o["version"] == v))
    return {
        "system": system,
        "backend": backend,
        "table": table,
        "version": main,
        "versions": versions,
        "origin": {"package": PACKAGE, "version": package.version, "files": rows.origins},
        "licence": LICENCE,
        "date": date,
        "rows": count,
        "duplicates_merged": rows.duplicates,
        "superseded": rows.superseded,
        "dropped": rows.dropped,
    }


def _commit(
    change: Change, entries: Sequence[dict[str, Any]], systems: Iterable[str], only: Sequence[str]
) -> None:
    """Put finished tables beside those of the folder that the import does not replace."""
    old: list[dict[str, Any]] = []
    if (change.out / MANIFEST).is_file():
        old = read_manifest(change.out)["tables"]
    fresh = set(systems)
    kept = [e for e in old if e["system"] not in fresh or (only and e["table"] not in only)]
    left_out = [f"{'/'.join(at)}: copy of {origin}" for at, origin in sorted(COPIES.items())]
    change.commit([*kept, *entries], left_out)
