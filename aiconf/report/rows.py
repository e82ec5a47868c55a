"""Candidates as CSV: a few on the terminal, all of them in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiconf.search.rows import columns

if TYPE_CHECKING:
    import pyarrow

    from aiconf.search.request import Request
    from aiconf.search.search import Outcome, Side

_DIGITS = 7  # significant; more would only write down float noise


def csv_text(records: Sequence[dict[str, Any]], fields: Sequence[str] = ()) -> str:
    """Write records as CSV with a heading; None is an empty field, truth is lower case.

    ``fields``: columns in their order; empty: all those of the records.
    """
    fields = fields or list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([[_field(record.get(name)) for name in fields] for record in records])
    return text.getvalue()


def _field(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else value


def write_candidates(outcome: Outcome, path: Path) -> None:
    """Write every evaluated candidate of a search; pyarrow, since there may be a million."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    tables = [_arrow(outcome.request, side) for side in outcome.sides]
    arrow_csv.write_csv(
        pa.concat_tables(tables), path, arrow_csv.WriteOptions(quoting_style="needed")
    )


def _arrow(request: Request, side: Side) -> pyarrow.Table:
    import pyarrow as pa

    return pa.table({name: _arrow_column(v) for name, v in columns(request, side).items()})


def _arrow_column(values: Any) -> pyarrow.Array:
    import pyarrow as pa

    if not isinstance(values, np.ndarray) or values.dtype == object:
        return pa.array(values, type=pa.string())
    if values.dtype.kind != "f":
        return pa.array(values)
    return pa.array(_rounded(values), mask=~np.isfinite(values))


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """Round to ``_DIGITS`` significant digits."""
    size = np.abs(np.where(np.isfinite(values) & (values != 0), values, 1.0))
    scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(size)))
    return np.round(values * scale) / scale
