"""The manifest of a perf_db folder: what each table is, where it came from, its checksum."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from aiconf.errors import UserError

MANIFEST = "manifest.json"  # JSON and not YAML: it is read at every start
WAITING = ".new"  # ends the name of a table that waits for its place
Place = tuple[str, str, str]  # system, backend, table
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class TableEntry:
    """One table of a perf_db folder."""

    system: str
    backend: str
    table: str
    version: str = ""  # engine version most rows come from
    versions: tuple[str, ...] = ()
    rows: int = -1
    bytes: int = -1  # -1: a user's table without a manifest, not checked
    sha256: str = ""
    licence: str = ""
    date: str = ""
    duplicates_merged: int = 0
    superseded: int = 0
    dropped: int = 0

    @property
    def place(self) -> Place:
        """System, backend and table: what identifies the entry."""
        return self.system, self.backend, self.table

    @property
    def name(self) -> str:
        """SYSTEM/BACKEND/TABLE, as it is printed."""
        return "/".join(self.place)


_FIELDS = frozenset(field.name for field in fields(TableEntry))


def require_names(place: Place, source: Path) -> None:
    """Refuse a place that is no path below a folder: tables come from others and are written.

    Raises
    ------
    UserError
        Names ``source`` and what is no name of a system, backend or table.
    """
    for name in place:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(f"{source}: {name!r} is no name of a system, backend or table")


def waiting(path: Path, sha256: str) -> Path:
    """Where the table of ``path`` lies from the moment the manifest names it until it is moved.

    A change that was killed in between (``aiconf.perf.commit``) leaves it there.
    """
    return path.with_name(f".{path.stem}.{sha256[:16]}{WAITING}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``folder``'s manifest as plain data; ``UserError`` when it cannot be read."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data["tables"], list):
            raise TypeError("tables is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the manifest {path}: {error}") from error
    return dict(data)


def read_entries(folder: Path) -> dict[Place, TableEntry]:
    """Return the tables of ``folder`` by (system, backend, table).

    A folder without a manifest (a user's own) is listed by its files SYSTEM/BACKEND/TABLE.parquet.
    """
    if not folder.is_dir():
        raise UserError(f"there is no perf_db folder {folder}")
    if not (folder / MANIFEST).is_file():
        paths = sorted(folder.glob("*/*/*.parquet"))
        listed = [TableEntry(p.parts[-3], p.parts[-2], p.stem) for p in paths]
        if not listed:
            raise UserError(f"{folder} holds no SYSTEM/BACKEND/TABLE.parquet")
        return {entry.place: entry for entry in listed}
    entries = {}
    for item in read_manifest(folder)["tables"]:
        try:
            known = {key: item[key] for key in _FIELDS & item.keys()}
            entry = TableEntry(**known | {"versions": tuple(item.get("versions", ()))})
        except (TypeError, AttributeError) as error:
            raise UserError(f"{folder / MANIFEST} has a bad entry: {error}") from error
        require_names(entry.place, folder / MANIFEST)
        entries[entry.place] = entry
    return entries
