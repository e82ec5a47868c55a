"""Files of measured runs, each recognised by its content, as rows of one common form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.runs.forms import FORMS, Record, records_form
from aiconf.runs.measured import Row
from aiconf.runs.read_csv import NEEDED, read_row

KNOWN = ", ".join(["CSV with the header of the measured runs", *(form.title for form in FORMS)])


def read_rows(path: Path, given: Mapping[str, str]) -> list[Row]:
    """Read a file of any known form.

    Parameters
    ----------
    path
        CSV, JSON or JSON Lines.
    given
        Cells (hardware, backend, tp, ...) for what the file does not state: benchmark clients
        do not know the deployment.

    Raises
    ------
    UserError
        When the file cannot be read or is of no known form.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path.name} is not a text file; known forms: {KNOWN}") from None
    records = _json_records(text)
    cells = _csv_rows(path, text) if records is None else _converted(path, records)
    return [read_row(_completed(row, given)) for row in cells]


def _completed(row: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
    missing = {name: value for name, value in given.items() if not row.get(name)}
    return {**row, **missing} if missing else row


def _json_records(text: str) -> list[Record] | None:
    """Records of a JSON or JSON Lines file; None when it is neither."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        try:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            return None
    found: list[Any] = whole if isinstance(whole, list) else [whole]
    return found if found and all(isinstance(one, dict) for one in found) else None


def _csv_rows(path: Path, text: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text), restval="")
    fields = reader.fieldnames or []
    if not set(NEEDED) <= set(fields):
        raise UserError(f"{path.name} is of no known form; known: {KNOWN}")
    rows = []
    for row in reader:
        row.pop(None, None)  # cells beyond the header
        rows.append(row)
    return rows


def _converted(path: Path, records: list[Record]) -> list[dict[str, str]]:
    form = records_form(records)
    if form is None:
        raise UserError(f"{path.name} is of no known form; known: {KNOWN}")
    return form.rows(records)
