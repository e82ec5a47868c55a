"""``aiconf estimate --from``: every row of a CSV file, predicted or with the reason why not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from aiconf.errors import UserError, nearest

_NEEDED = ("model", "system", "layout")
_WHOLE = frozenset(
    ("isl", "osl", "prefix", "concurrency", "workers", "prefill_workers", "prefill_batch",
     "token_budget", "images")
)  # fmt: skip
# What is added to a row; a column of the input that has the name already keeps it, and ours
# gets ``predicted_`` before it.
_ADDED = (
    "checkpoint", "gpus", "ttft_ms", "tpot_ms", "latency_ms", "request_per_s",
    "output_tok_per_s", "output_tok_per_s_per_gpu", "tok_per_s_per_user", "kv_transfer_ms",
    "load", "usd_per_hour", "usd_per_million_output_tok", "measured", "interpolated", "fallback",
)  # fmt: skip
_VERDICT = ("status", "reason")

_FOLDERS = ("perf_db", "calibration")  # of the whole batch, never of a row


def run(source: Path, out: Path | None, options: dict[str, Any], *, force: bool) -> None:
    """Predict the rows of ``source`` and write them to ``out`` or print them.

    Parameters
    ----------
    options
        Arguments of ``aiconf.estimate`` for columns and cells that are missing.
    force
        Replace ``out`` if it exists.

    Raises
    ------
    UserError
        The files cannot be read or written; bad values in a row are reported in the row.
    typer.Exit
        With code 2 where a row has no prediction.
    """
    if out is not None and out.exists() and not force:
        raise UserError(f"{out} exists: name another file, or use --force to replace it")
    fields, rows = _read(source)
    given = {_option(field) for field in fields} | {n for n, v in options.items() if v is not None}
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise UserError(
            f"{source} has no column {', '.join(missing)}, and no option gives it: its columns "
            f"are {', '.join(fields)} (separated by commas)"
        )
    _warn_of_others(fields, options)
    names = {name: f"predicted_{name}" if name in fields else name for name in _ADDED + _VERDICT}
    done = [_predicted(row, options) for row in rows]
    records = [
        row | {names[key]: value for key, value in found.items()}
        for row, found in zip(rows, done, strict=True)
    ]
    _write(out, [*fields, *names.values()], records)
    bad = sum(found["status"] != "ok" for found in done)
    where = "" if out is None else f", written to {out}"
    typer.echo(f"{len(rows) - bad} rows predicted, {bad} with an error{where}", err=True)
    if bad:
        raise typer.Exit(2)


def _read(source: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            fields = [name.strip() for name in next(reader, [])]
            rows = [_row(fields, cells, reader.line_num) for cells in reader if cells]
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source} is not a sound CSV file in UTF-8: {error}") from error
    if not fields:
        raise UserError(f"{source} is empty: its first line must name the columns")
    if len(set(fields)) < len(fields):
        raise UserError(f"{source} names a column twice: {', '.join(fields)}")
    return fields, rows


def _row(fields: list[str], cells: list[str], line: int) -> dict[str, str]:
    """Cells by column; missing ones at the end are empty. More than columns: a broken file."""
    if len(cells) > len(fields):
        raise csv.Error(f"line {line} has {len(cells)} cells for {len(fields)} columns")
    return dict(zip(fields, cells + [""] * (len(fields) - len(cells)), strict=True))


def _option(field: str) -> str:
    return field.strip().lstrip("-").replace("-", "_").lower()


def _warn_of_others(fields: Sequence[str], options: dict[str, Any]) -> None:
    """Name the columns that are only copied: one of them may be a slip."""
    others = [field for field in fields if _option(field) not in options]
    if not others:
        return
    meant = [f"{o} ({n[0]}?)" if (n := nearest(o, options, 1)) else o for o in others]
    typer.echo(f"columns copied without effect: {', '.join(meant)}", err=True)


def _predicted(row: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Predict one row; never fails for what the row holds."""
    try:
        return _answer(options | _given(row, options))
    except UserError as error:
        return {"status": "error", "reason": " ".join(str(error).split())}


def _given(row: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a row gives: cells of known columns that are not empty."""
    found: dict[str, Any] = {}
    for field, text in row.items():
        name = _option(field)
        if name in options and name not in _FOLDERS and text and text.strip():
            found[name] = _whole(name, text) if name in _WHOLE else text.strip()
    return found


def _whole(name: str, text: str) -> int:
    """Read a whole number; 32.0 is one, since other programs write it so."""
    try:
        value = float(text)
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{name} must be a whole number, not '{text.strip()}'")


def _answer(arguments: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in _NEEDED if not arguments[name]]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing")
    from aiconf.api import estimate

    found = estimate(**arguments)
    best = found.best | {"checkpoint": found.best["model"]} | found.origins
    return {name: best[name] for name in _ADDED} | {"status": "ok", "reason": ""}


def _write(out: Path | None, fields: list[str], records: list[dict[str, Any]]) -> None:
    from aiconf.report.rows import csv_text
    from aiconf.resources import write_text

    text = csv_text(records, fields)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
