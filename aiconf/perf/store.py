"""Reading of perf_db: the tables that travel with the program, and a folder of the user's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiconf.errors import UserError, unknown
from aiconf.perf.manifest import MANIFEST, Place, TableEntry, read_entries, waiting
from aiconf.perf.schema import SECONDS, Schema, schema_of
from aiconf.resources import data_dir

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Array = npt.NDArray[Any]
Columns = dict[str, Array]
Wanted = Mapping[str, "object | Sequence[object]"]
_Filter = dict[str, tuple[Any, ...]]


@dataclass
class Folder:
    """One perf_db folder and what is already open of it."""

    path: Path
    entries: Mapping[Place, TableEntry]
    _open: dict[Place, pq.ParquetFile] = field(default_factory=dict)

    def file_of(self, entry: TableEntry) -> Path:
        """Path of a table."""
        return self.path / entry.system / entry.backend / f"{entry.table}.parquet"

    def data(self, entry: TableEntry) -> bytes:
        """Bytes of a table, as its manifest describes them; ``UserError`` when none are."""
        path = self.file_of(entry)
        try:
            found = path.read_bytes()
            check(entry, found)
        except (OSError, UserError) as error:
            held = waiting(path, entry.sha256)
            if entry.sha256 and held.is_file():  # a change of the folder was killed half-way
                found = held.read_bytes()
                check(entry, found)
                return found
            if isinstance(error, UserError):
                raise
            raise damaged(entry, str(error).splitlines()[0]) from error
        return found

    def open(self, entry: TableEntry) -> pq.ParquetFile:
        """Open a table, once, after its size and checksum are found to be those of the manifest.

        Raises ``UserError`` that names the table when it is damaged or lacks a column.
        """
        if entry.place in self._open:
            return self._open[entry.place]
        import pyarrow as pa

        path = self.file_of(entry)
        schema = schema_of(entry.table)
        try:
            table = _parquet(pa.BufferReader(self.data(entry)), schema, path)
        except (OSError, pa.ArrowException) as error:
            raise damaged(entry, str(error).splitlines()[0]) from error
        self._open[entry.place] = table
        return table

    def select(self, entry: TableEntry, wanted: _Filter) -> Columns:
        """Read the rows of a table that match; ``UserError`` when it is damaged."""
        import pyarrow as pa

        file = self.open(entry)
        try:
            rows = _select(file, schema_of(entry.table), wanted)
        except (OSError, pa.ArrowException) as error:
            raise damaged(entry, str(error).splitlines()[0]) from error
        seconds = rows[SECONDS]
        # Zero is a time: quantisation that an engine fuses away was measured as nothing.
        if not (np.isfinite(seconds) & (seconds >= 0)).all():
            raise damaged(entry, "it holds a time that is negative or not a number")
        return rows


def _parquet(source: object, schema: Schema, path: Path) -> pq.ParquetFile:
    """Open a Parquet file with texts as codes; ``UserError`` when it lacks a column."""
    import pyarrow.parquet as pq

    texts = [column.name for column in schema.keys if column.kind == "str"]
    try:
        file = pq.ParquetFile(source, read_dictionary=texts)
        stored = file.schema_arrow
        missing = set(schema.names) - set(stored.names)
    except KeyError as error:  # a text column that is to be read as codes is not there
        missing = {error.args[0].decode()}
    if missing:
        raise UserError(f"table {path} lacks the column {', '.join(sorted(missing))}")
    for name in schema.names:
        kind, found = schema.kind(name), stored.field(name).type
        if not _is_of(found, kind):
            raise UserError(f"table {path}: column {name} holds {found}, not {kind}")
    return file


def _is_of(found: pa.DataType, kind: str) -> bool:
    """Whether a stored type can stand for a kind of column; whole numbers may be floats."""
    from pyarrow import types

    if kind == "str":
        return bool(types.is_dictionary(found) or types.is_string(found))
    if kind == "bool":
        return bool(types.is_boolean(found))
    return bool(types.is_integer(found) or types.is_floating(found))


def damaged(entry: TableEntry, why: str) -> UserError:
    """Build the error for a table that does not hold what the manifest promises."""
    return UserError(
        f"perf_db table {entry.name} is damaged ({why}): see `aiconf db verify`, "
        "then reinstall aiconf, repeat `aiconf db import`, or mend the folder of --perf-db"
    )


def check(entry: TableEntry, data: bytes) -> None:
    """Compare the bytes of a table with its manifest entry; ``UserError`` when they differ.

    A user's table without a manifest has nothing to be compared with and passes.
    """
    if entry.bytes >= 0 and len(data) != entry.bytes:
        raise damaged(entry, f"{len(data)} bytes instead of {entry.bytes}")
    if entry.sha256:
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise damaged(entry, f"checksum {found[:12]} instead of {entry.sha256[:12]}")


class PerfDb:
    """Measured tables of all systems and backends.

    A user's folder is merged row by row: a row of the user wins over an embedded row with the
    same key (kernel included), all other rows of both stay, so that a few shapes measured by
    the user sharpen a table and do not replace it.
    """

    def __init__(self, folders: Sequence[Folder]) -> None:
        """Read from ``folders``; earlier ones win."""
        self.folders = tuple(folders)
        self._cache: dict[tuple[object, ...], Columns | None] = {}

    @classmethod
    def open(cls, extra: Path | None = None) -> PerfDb:
        """Open the embedded tables, and over them those of the folder ``extra``.

        ``extra`` has the same layout (SYSTEM/BACKEND/TABLE.parquet) and may have a manifest.json.
        Raises ``UserError`` when a folder or a manifest cannot be read, or a table is unknown.
        """
        if not (data_dir("perf_db") / MANIFEST).is_file():
            raise UserError("perf_db has lost its manifest.json: reinstall aiconf")
        paths = [path for path in (extra, data_dir("perf_db")) if path is not None]
        folders = [Folder(path, read_entries(path)) for path in paths]
        for entry in folders[0].entries.values():
            schema_of(entry.table)
        return cls(folders)

    def _entries(self, system: str, backend: str | None = None) -> list[TableEntry]:
        return [
            entry
            for folder in self.folders
            for entry in folder.entries.values()
            if entry.system == system and backend in (None, entry.backend)
        ]

    def systems(self) -> list[str]:
        """Systems with at least one table, sorted."""
        return sorted({entry.system for f in self.folders for entry in f.entries.values()})

    def backends(self, system: str) -> list[str]:
        """Return backends (``nccl`` among them) with tables for ``system``; may be empty."""
        return sorted({entry.backend for entry in self._entries(system)})

    def tables(self, system: str, backend: str) -> list[str]:
        """Tables of a backend on a system; may be empty."""
        return sorted({entry.table for entry in self._entries(system, backend)})

    def version(self, system: str, backend: str) -> str | None:
        """Engine version that most tables of a backend were measured with; ``None``: unknown."""
        found = Counter(e.version for e in self._entries(system, backend) if e.version)
        return found.most_common(1)[0][0] if found else None

    def entries(self, system: str, backend: str, table: str) -> list[TableEntry]:
        """Manifest entries that a table is read from, the user's first."""
        return [e for e in self._entries(system, backend) if e.table == table]

    def read(
        self, system: str, backend: str, table: str, where: Wanted | None = None
    ) -> Columns | None:
        """Read rows of a table, or ``None`` when there is no such table.

        Parameters
        ----------
        system, backend, table
            What to read, e.g. ``h200_sxm``, ``vllm``, ``gemm``.
        where
            Column -> value or sequence of values; rows that match all columns are returned.

        Returns
        -------
        Columns of equal length (possibly 0): text as ``object``, flags as ``bool``, other keys
        as integers, ``seconds`` as ``float64``. They are shared with later calls: not writable.

        Raises
        ------
        UserError
            For an unknown table or column name, and for a damaged table.
        """
        schema = schema_of(table)
        wanted = _filter(schema, where or {})
        key = (system, backend, table, *sorted(wanted.items()))
        if key not in self._cache:
            self._cache[key] = self._read(system, backend, schema, wanted)
        cached = self._cache[key]
        return None if cached is None else dict(cached)

    def _read(self, system: str, backend: str, schema: Schema, wanted: _Filter) -> Columns | None:
        place = (system, backend, schema.name)
        parts = [
            folder.select(folder.entries[place], wanted)
            for folder in self.folders
            if place in folder.entries
        ]
        if not parts:
            return None
        rows = parts[0]
        for lower in parts[1:]:
            rows = _merged(rows, lower, schema)
        for column in rows.values():
            column.flags.writeable = False
        return rows


def _filter(schema: Schema, where: Wanted) -> _Filter:
    """Check column names and bring the values into one hashable form."""
    wanted: _Filter = {}
    for name, value in where.items():
        many = isinstance(value, (list, tuple, range, set, frozenset, np.ndarray))
        values: Iterable[Any] = value if many else (value,)  # type: ignore[assignment]
        plain = {v.item() if isinstance(v, np.generic) else v for v in values}
        kind = schema.kind(name)
        for one in plain:
            if isinstance(one, str) != (kind == "str"):
                raise UserError(f"column {name} of table {schema.name} holds {kind}, not {one!r}")
        wanted[name] = tuple(sorted(plain, key=repr))
    return wanted


def _select(file: pq.ParquetFile, schema: Schema, wanted: _Filter) -> Columns:
    """Read the row groups that can hold wanted rows, and keep those rows."""
    groups = _groups(file, wanted)
    if not groups:
        return {name: _nothing(schema.kind(name)) for name in schema.names}
    table = file.read_row_groups(groups, columns=list(schema.names), use_threads=False)
    keep: npt.NDArray[np.bool_] | None = None
    decoded: dict[str, tuple[Array, Array | None]] = {}
    for name in schema.names:
        decoded[name] = _decode(table.column(name))
        if name in wanted:
            match = _matches(*decoded[name], wanted[name])
            keep = match if keep is None else keep & match
    rows: Columns = {}
    for name, (values, dictionary) in decoded.items():
        kept = values if keep is None else values[keep]
        rows[name] = kept if dictionary is None else dictionary[kept]
    rows[SECONDS] = rows[SECONDS].astype(np.float64)
    return rows


def _nothing(kind: str) -> Array:
    """No rows of a column stored as ``kind``."""
    types = {"str": object, "float": np.float64, "bool": np.bool_, "int": np.int32}
    return np.zeros(0, dtype=types[kind])


def _decode(column: pa.ChunkedArray) -> tuple[Array, Array | None]:
    """Return numbers, or codes and the texts they stand for."""
    import pyarrow as pa

    if column.num_chunks != 1:
        whole = column.unify_dictionaries().combine_chunks()
    else:
        whole = column.chunk(0)
    if pa.types.is_dictionary(whole.type):
        texts = np.array([*whole.dictionary.to_pylist(), None], dtype=object)[:-1]
        return _numbers(whole.indices), texts
    return _numbers(whole), None


def _numbers(array: pa.Array) -> Array:
    """View an Arrow array without nulls as numpy.

    Arrow's own ``to_numpy`` imports pandas, which costs 0.2 s at start-up.
    """
    import pyarrow as pa

    if array.null_count:
        raise UserError("a perf_db table has empty cells: every column must be filled")
    memory = array.buffers()[1]
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(memory, np.uint8), bitorder="little")
        return bits[array.offset : array.offset + len(array)].astype(bool)
    kind = "f" if pa.types.is_floating(array.type) else "i"
    kind = "u" if pa.types.is_unsigned_integer(array.type) else kind
    dtype = np.dtype(f"{kind}{array.type.bit_width // 8}")
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(memory, dtype, len(array), array.offset * dtype.itemsize)


def _matches(
    values: Array, dictionary: Array | None, wanted: tuple[Any, ...]
) -> npt.NDArray[np.bool_]:
    if dictionary is not None:
        flags = np.array([text in wanted for text in dictionary], dtype=bool)
        return flags[values] if len(flags) else np.zeros(len(values), bool)
    if len(wanted) == 1:
        return np.asarray(values == wanted[0], dtype=bool)
    return np.isin(values, np.array(wanted))


def _groups(file: pq.ParquetFile, wanted: _Filter) -> list[int]:
    """Row groups whose statistics allow a wanted row."""
    meta = file.metadata
    places = {file.schema_arrow.names[i]: i for i in range(meta.num_columns)}
    groups = []
    for group in range(meta.num_row_groups):
        row_group = meta.row_group(group)
        for name, values in wanted.items():
            statistics = row_group.column(places[name]).statistics
            if statistics is None or not statistics.has_min_max:
                continue
            low, high = statistics.min, statistics.max
            if not any(low <= value <= high for value in values):
                break
        else:
            groups.append(group)
    return groups


def row_codes(columns: Columns, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Number the rows so that equal keys (columns ``names``), and only they, are equal."""
    code = np.zeros(len(columns[names[0]]), np.int64)
    for name in names:
        column = columns[name]
        texts = column.astype(str) if column.dtype == object else column
        distinct, inverse = np.unique(texts, return_inverse=True)
        code = np.unique(code * len(distinct) + inverse, return_inverse=True)[1]
    return code


def _merged(upper: Columns, lower: Columns, schema: Schema) -> Columns:
    """All rows of ``upper`` and those of ``lower`` whose key ``upper`` does not have."""
    split = len(upper[SECONDS])
    both = {name: np.concatenate([upper[name], lower[name]]) for name in schema.names}
    code = row_codes(both, schema.key_names)
    fresh = np.ones(len(code), bool)
    fresh[split:] = ~np.isin(code[split:], code[:split])
    return {name: column[fresh] for name, column in both.items()}


def require_entry(db: PerfDb, system: str, backend: str, table: str) -> TableEntry:
    """Return the entry of a table; ``UserError`` with the nearest name of what is missing."""
    if system not in db.systems():
        raise unknown("system", system, db.systems())
    if backend not in db.backends(system):
        raise unknown(f"backend of {system}", backend, db.backends(system))
    if table not in db.tables(system, backend):
        raise unknown(f"table of {system}/{backend}", table, db.tables(system, backend))
    return db.entries(system, backend, table)[0]


def read_file(path: Path, schema: Schema) -> Columns:
    """Read all rows of a table file that lies anywhere; ``UserError`` when it cannot be read."""
    import pyarrow as pa

    try:
        return _select(_parquet(str(path), schema, path), schema, {})
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
