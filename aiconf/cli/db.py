"""``aiconf db``: import, list, show, verify, compare and merge measured tables; what they lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiconf.cli.options import Output, Precision
from aiconf.errors import UserError, unknown

if TYPE_CHECKING:
    from aiconf.perf.agreement import Agreement
    from aiconf.perf.schema import Schema
    from aiconf.perf.store import Folder, Wanted

app = typer.Typer(help="Measured kernel tables (perf_db).", no_args_is_help=True)

_Extra = Annotated[
    Path | None, typer.Option("--perf-db", metavar="DIR", help="A folder of your own tables.")
]


@app.command("import")
def import_(
    package_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where aiconfigurator-core lies, if not installed here."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="perf_db folder to fill.")] = Path(
        "perf_db"
    ),
    systems: Annotated[
        str, typer.Option(help="Systems to import, separated by commas; default: all six.")
    ] = "",
    tables: Annotated[
        str,
        typer.Option(help="Tables to import, separated by commas; others stay. Default: all."),
    ] = "",
) -> None:
    """Convert the tables of the PyPI package aiconfigurator-core into perf_db."""
    from aiconf.perf.convert import SYSTEMS, find_package, import_tables

    package = find_package(package_dir)
    wanted = [name.strip() for name in systems.split(",") if name.strip()] or list(SYSTEMS)
    only = [name.strip() for name in tables.split(",") if name.strip()]
    done = import_tables(package, out, wanted, progress=typer.echo, only=only)
    typer.echo(
        f"{out}: {done.tables} tables, {done.rows:,} rows, {done.size / 1e6:.1f} MB; "
        f"{done.duplicates:,} repeated measurements merged by their median"
    )


@app.command("list")
def list_(
    system: Annotated[str, typer.Argument(help="Only this system.")] = "",
    perf_db: _Extra = None,
) -> None:
    """List the tables: engine version, rows and size."""
    from aiconf.perf.store import PerfDb

    db = PerfDb.open(perf_db)
    if system and system not in db.systems():
        raise unknown("system", system, db.systems())
    rows = [("SYSTEM", "BACKEND", "TABLE", "VERSIONS", "ROWS", "KB", "FOLDER")]
    for folder in db.folders:
        for entry in sorted(folder.entries.values(), key=lambda e: e.place):
            if system in ("", entry.system):
                size = folder.file_of(entry).stat().st_size if entry.bytes < 0 else entry.bytes
                count = "?" if entry.rows < 0 else str(entry.rows)
                versions = " ".join(entry.versions) or "?"
                where = "embedded" if folder is db.folders[-1] else str(folder.path)
                rows.append((*entry.place, versions, count, f"{size / 1000:.0f}", where))
    print_table(rows, right=(4, 5))


@app.command()
def show(
    system: str,
    backend: str,
    table: str,
    filters: Annotated[
        list[str] | None, typer.Argument(help="COLUMN=VALUE[,VALUE...], as many as you like.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(help="Rows to print.", min=0)] = 20,
    perf_db: _Extra = None,
) -> None:
    """Show a table: its origin, what each column holds, and its first rows."""
    from aiconf.perf.schema import schema_of
    from aiconf.perf.store import PerfDb, require_entry

    schema = schema_of(table)
    db = PerfDb.open(perf_db)
    entry = require_entry(db, system, backend, table)
    columns = db.read(system, backend, table, _parse_filters(schema, filters or []))
    assert columns is not None  # require_entry has found it
    count = len(columns["seconds"])
    typer.echo(f"{entry.name}: {schema.meaning}; versions {', '.join(entry.versions) or '?'}")
    typer.echo(f"{count:,} rows match; licence {entry.licence or '?'}, imported {entry.date}")
    for name in schema.key_names:
        typer.echo(f"  {name} ({schema.units[name]}): {_summary(columns[name])}")
    shown = range(min(limit, count))
    rows = [tuple(schema.names)]
    rows += [tuple(_cell(columns[name][i]) for name in schema.names) for i in shown]
    if count:
        print_table(rows, right=range(len(schema.names)))


@app.command()
def verify(perf_db: _Extra = None) -> None:
    """Check size, checksum, columns and row count of every table."""
    from aiconf.perf.manifest import MANIFEST
    from aiconf.perf.store import PerfDb

    db = PerfDb.open(perf_db)
    for folder in db.folders:
        if not (folder.path / MANIFEST).is_file():
            raise UserError(
                f"{folder.path} has no {MANIFEST} to check its tables against: "
                f"`aiconf db merge {folder.path} --out {folder.path}` reads them all and writes one"
            )
    bad = []
    count = 0
    for folder in db.folders:
        for entry in folder.entries.values():
            count += 1
            try:
                _verify_table(folder, entry.place)
            except UserError as error:
                bad.append(entry.name)
                typer.echo(str(error), err=True)
    if bad:
        raise UserError(f"{len(bad)} of {count} tables are damaged: {', '.join(bad[:5])}")
    typer.echo(f"{count} tables are as their manifests describe them")


def _verify_table(folder: Folder, place: tuple[str, str, str]) -> None:
    from aiconf.perf.store import damaged

    entry = folder.entries[place]
    rows = len(folder.select(entry, {})["seconds"])
    if entry.rows not in (-1, rows):
        raise damaged(entry, f"{rows} rows instead of {entry.rows}")


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="A perf_db folder or one table file.")],
    b: Annotated[Path, typer.Argument(help="The same, to compare with.")],
    table: Annotated[str, typer.Option(help="Only tables of this name.")] = "",
    any_kernel: Annotated[
        bool, typer.Option(help="Compare the fastest kernel of each shape, whatever its name.")
    ] = False,
    worst: Annotated[int, typer.Option(help="Points to print that differ most.", min=0)] = 10,
) -> None:
    """Compare two tables, or two folders table by table, at the points that both hold.

    Ratios are time in B over time in A.
    """
    from aiconf.perf.agreement import compare_files

    for path in (a, b):
        if not path.exists():
            raise UserError(f"there is no {path}")
    if a.is_dir() != b.is_dir():
        raise UserError(f"{a} and {b} must both be folders or both be files")
    if not a.is_dir():
        _print_agreement(compare_files(a, b, worst, any_kernel), b.name)
        return
    files_a, files_b = _table_files(a, table), _table_files(b, table)
    common = sorted(files_a & files_b)
    for path in sorted(files_a ^ files_b):
        typer.echo(f"only in {a if path in files_a else b}: {path.as_posix()}")
    if not common:
        raise UserError(f"{a} and {b} have no table in common")
    for path in common:
        few = worst if len(common) == 1 else min(worst, 1)
        _print_agreement(compare_files(a / path, b / path, few, any_kernel), path.as_posix())


def _table_files(folder: Path, table: str) -> set[Path]:
    pattern = f"{table}.parquet" if table else "*.parquet"
    return {path.relative_to(folder) for path in folder.rglob(pattern)}


def _print_agreement(found: Agreement, name: str) -> None:
    typer.echo(
        f"{name}: {found.common} common points (only A {found.only_a}, only B {found.only_b}); "
        f"B/A median {found.median:.3f}, mean {found.mean:.3f}, "
        f"p10 {found.p10:.3f}, p90 {found.p90:.3f}"
    )
    for point in found.worst:
        key = " ".join(f"{name}={value}" for name, value in point.key.items())
        typer.echo(
            f"  {point.ratio:8.3f}  A {point.seconds_a:.4g} s  B {point.seconds_b:.4g} s  {key}"
        )


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Earlier ones win.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="May be one of them.")],
) -> None:
    """Merge perf_db folders row by row; of equal rows that of the earlier folder stays."""
    from aiconf.perf.merge import merge as merged

    for line in merged(folders, out):
        typer.echo(line)


@app.command()
def fit(
    system: Annotated[str, typer.Argument(help="Only this system.")] = "",
    backend: Annotated[str, typer.Argument(help="Only this backend.")] = "",
    table: Annotated[str, typer.Argument(help="Only this table.")] = "",
    perf_db: _Extra = None,
) -> None:
    """Say how well tables foretell themselves: the error where each point is left out.

    Along an axis, every point between two others is interpolated from them as estimates do.
    With --perf-db only the tables of that folder are looked at.
    """
    from aiconf.perf.leave_one_out import fits
    from aiconf.perf.schema import schema_of
    from aiconf.perf.store import PerfDb

    folder = PerfDb.open(perf_db).folders[0]
    wanted = (system, backend, table)
    for at, kind in enumerate(("system", "backend", "table")):
        known = sorted({place[at] for place in folder.entries})
        if wanted[at] and wanted[at] not in known:
            raise unknown(kind, wanted[at], known)
    rows = [["TABLE", "KERNEL", "AXIS", "POINTS", "MEDIAN %", "P90 %", "WORST %", "WORST POINT"]]
    for place, entry in sorted(folder.entries.items()):
        if any(w not in ("", p) for w, p in zip(wanted, place, strict=True)):
            continue
        for one in fits(folder.select(entry, {}), schema_of(entry.table)):
            if one.points:
                worst = " ".join(f"{k}={v}" for k, v in one.worst_key.items() if k != "kernel")
                errors = [f"{100 * e:.1f}" for e in (one.median, one.p90, one.worst)]
                name = one.kernel or "-"
                rows.append([entry.name, name, one.axis, str(one.points), *errors, worst])
    if len(rows) == 1:
        raise UserError(f"no table {'/'.join(w or '*' for w in wanted)} with three points in a row")
    print_table(rows, right=range(3, 7))


@app.command()
def gaps(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As for `aiconf cli --model`.")],
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="See `aiconf systems`.")],
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="Engine.")] = "vllm",
    precision: Precision = None,
    perf_db: _Extra = None,
    output: Output = "table",
) -> None:
    """List shapes that a model needs and no table holds, over all layouts on one node."""
    from aiconf.cli.listing import show as show_records
    from aiconf.engine.platform import platform
    from aiconf.model.library import load_model
    from aiconf.report.table import Column
    from aiconf.search.gaps import gaps as found_gaps

    columns = (
        Column("table", "table"), Column("shape", "shape"), Column("answered", "answered by"),
        Column("needed_by", "layouts", 0), Column("first", "first layout"),
    )  # fmt: skip
    records, needed = found_gaps(load_model(model, precision), platform(system, backend, perf_db))
    if records or output != "table":
        show_records(columns, records, output)
    if output == "table":
        typer.echo(f"{len(records)} of {needed} shapes were not measured")


def _parse_filters(schema: Schema, texts: Sequence[str]) -> Wanted:
    """Read COLUMN=VALUE,...; ``UserError`` for an unknown column or a value of the wrong kind."""
    wanted: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not sign:
            raise UserError(f"'{text}' is no filter; write COLUMN=VALUE, e.g. dtype=fp8")
        kind = schema.kind(name)
        try:
            wanted[name] = [_parse(kind, value) for value in values.split(",")]
        except ValueError:
            raise UserError(f"column {name} holds {kind}, '{values}' does not fit") from None
    return wanted


def _parse(kind: str, text: str) -> object:
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return {"str": str, "int": int, "float": float}[kind](text)


def _summary(values: Any, most: int = 12) -> str:
    import numpy as np

    distinct = np.unique(values.astype(str) if values.dtype == object else values)
    texts = [_cell(value) for value in distinct]
    if len(texts) <= most:
        return " ".join(texts)
    return f"{' '.join(texts[: most // 2])} ... {' '.join(texts[-2:])} ({len(texts)} values)"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_table(rows: Sequence[Sequence[str]], right: Iterable[int]) -> None:
    """Print rows in columns; those of ``right`` to the right."""
    to_right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            text.rjust(width) if i in to_right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
