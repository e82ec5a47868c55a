"""Several perf_db folders into one: rows of earlier folders win, like ``--perf-db`` at reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.errors import UserError
from aiconf.perf.commit import changing
from aiconf.perf.convert.write import file_facts, write_table
from aiconf.perf.manifest import MANIFEST, Place, TableEntry, read_entries, read_manifest
from aiconf.perf.schema import MEASURED, schema_of
from aiconf.perf.store import Folder, damaged

if TYPE_CHECKING:
    import pandas as pd


def merge(folders: Sequence[Path], out: Path) -> list[str]:
    """Write the rows of all ``folders`` to ``out``, which may be one of them; a line per table.

    Every table is checked against its manifest first, and ``out`` changes only when all could be
    read; killed at any moment, it holds the old tables or the new (``aiconf.perf.commit``). A
    table that one folder alone holds is taken as it is.

    Raises
    ------
    UserError
        A folder cannot be read, or a table is damaged or unknown.
    """
    opened = [Folder(path, read_entries(path)) for path in folders]
    if holds_tables(out) and out.resolve() not in {path.resolve() for path in folders}:
        raise UserError(f"{out} holds tables already: name it among the folders to keep them")
    entries: list[dict[str, Any]] = []
    lines: list[str] = []
    left_out = read_manifest(out).get("left_out", []) if (out / MANIFEST).is_file() else []
    with changing(out) as change:
        for place in sorted({place for folder in opened for place in folder.entries}):
            holders = [folder for folder in opened if place in folder.entries]
            fresh = change.path(place)
            counts = _write(holders, place, fresh)
            entries.append(_entry(holders, place, sum(counts)) | file_facts(fresh))
            if len(holders) > 1 or holders[0].path.resolve() != out.resolve():
                parts = (f"{n} from {f.path}" for n, f in zip(counts, holders, strict=True))
                lines.append(f"{'/'.join(place)}: {sum(counts)} rows ({', '.join(parts)})")
        change.commit(entries, left_out)
    return lines


def holds_tables(folder: Path) -> bool:
    """Whether ``folder`` is a perf_db folder, with a manifest or without."""
    return (folder / MANIFEST).is_file() or any(folder.glob("*/*/*.parquet"))


def _write(holders: Sequence[Folder], place: Place, path: Path) -> list[int]:
    """Write the merged table; rows that came from each folder."""
    import pandas as pd

    parts = [_rows(folder, folder.entries[place]).assign(_of=i) for i, folder in enumerate(holders)]
    if len(holders) == 1:
        path.write_bytes(holders[0].data(holders[0].entries[place]))
        return [len(parts[0])]
    schema = schema_of(place[2])
    names = list(schema.key_names)
    rows = pd.concat(parts, ignore_index=True).drop_duplicates(names, keep="first")
    try:
        write_table(rows.sort_values(names, kind="stable", ignore_index=True), schema, path)
    except ValueError as error:  # Arrow's too: a fraction or a giant where a count belongs
        raise UserError(f"rows of {'/'.join(place)} do not fit its columns: {error}") from error
    return [int((rows["_of"] == i).sum()) for i in range(len(holders))]


def _rows(folder: Folder, entry: TableEntry) -> pd.DataFrame:
    """All rows of a checked table with the columns of its schema and of ``MEASURED``."""
    import pandas as pd

    rows = pd.DataFrame(folder.select(entry, {}))
    if entry.rows not in (-1, len(rows)):
        raise damaged(entry, f"{len(rows)} rows instead of {entry.rows}")
    file = folder.open(entry)
    extra = [name for name in MEASURED if name in file.schema_arrow.names]
    if extra:
        # By place: a file that pandas wrote may have an index of its own.
        rows = rows.assign(**file.read(columns=extra).to_pandas(ignore_metadata=True))
    return rows


def _entry(holders: Sequence[Folder], place: Place, rows: int) -> dict[str, Any]:
    """Manifest entry of a merged table: what identifies it, and the origin of all its parts."""
    stated = [_stated(folder, place) for folder in holders]
    if len(stated) == 1 and stated[0]:
        return stated[0]
    versions = list(dict.fromkeys(v for one in stated for v in one.get("versions", ())))
    origins = [one["origin"] for one in stated if "origin" in one]
    system, backend, table = place
    return {
        "system": system, "backend": backend, "table": table,
        "version": next((one["version"] for one in stated if one.get("version")), ""),
        "versions": versions,
        "origin": origins[0] if len(origins) == 1 else {"merged": origins},
        "licence": next((one["licence"] for one in stated if one.get("licence")), ""),
        "date": max((one.get("date", "") for one in stated), default=""),
        "rows": rows,
    }  # fmt: skip


def _stated(folder: Folder, place: Place) -> dict[str, Any]:
    """What a folder's manifest says of a table; nothing where it has none."""
    if not (folder.path / MANIFEST).is_file():
        return {}
    for entry in read_manifest(folder.path)["tables"]:
        if (entry["system"], entry["backend"], entry["table"]) == place:
            return dict(entry)
    raise UserError(f"{folder.path} lost its entry of {'/'.join(place)} while it was read")
