"""Point by point agreement of two measured tables with the same schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiconf.errors import UserError
from aiconf.perf.schema import SCHEMAS, SECONDS, Schema
from aiconf.perf.store import Columns, read_file, row_codes


@dataclass(frozen=True)
class Point:
    """One shape that both tables measured."""

    key: dict[str, Any]
    seconds_a: float
    seconds_b: float

    @property
    def ratio(self) -> float:
        """Time in B over time in A."""
        return self.seconds_b / self.seconds_a


@dataclass(frozen=True)
class Agreement:
    """How two tables agree; ratios are time in B over time in A, NaN without a common point."""

    common: int
    only_a: int
    only_b: int
    median: float
    mean: float
    p10: float
    p90: float
    worst: tuple[Point, ...]  # largest |log ratio| first


def schema_of_file(path: Path) -> Schema:
    """Find the schema of a table by its file's name, else by its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stem in SCHEMAS:
        return SCHEMAS[path.stem]
    try:
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    for schema in SCHEMAS.values():
        if set(schema.names) == names:
            return schema
    raise UserError(f"{path} has the columns of no perf_db table: {', '.join(sorted(names))}")


def compare_files(a: Path, b: Path, worst: int = 10, any_kernel: bool = False) -> Agreement:
    """Compare two table files; ``UserError`` when they cannot be read or differ in kind."""
    schema, other = schema_of_file(a), schema_of_file(b)
    if schema.name != other.name:
        raise UserError(f"{a} is a {schema.name} table and {b} a {other.name} table")
    return compare(read_file(a, schema), read_file(b, schema), schema, worst, any_kernel)


def compare(
    a: Columns, b: Columns, schema: Schema, worst: int = 10, any_kernel: bool = False
) -> Agreement:
    """Compare ``a`` and ``b`` where both have a time above 0.

    With ``any_kernel`` the fastest kernel of each shape is compared, whatever it is called.
    """
    names = [name for name in schema.key_names if not (any_kernel and name == "kernel")]
    both = {name: np.concatenate([a[name], b[name]]) for name in (*names, SECONDS)}
    code = row_codes(both, names)
    split = len(a[SECONDS])
    # Fastest first, so that the first row of a code is the fastest of its kernels.
    order = np.argsort(both[SECONDS], kind="stable")
    rows_a, rows_b = order[order < split], order[order >= split]
    codes_a, first_a = np.unique(code[rows_a], return_index=True)
    codes_b, first_b = np.unique(code[rows_b], return_index=True)
    common, in_a, in_b = np.intersect1d(codes_a, codes_b, return_indices=True)
    rows_a, rows_b = rows_a[first_a[in_a]], rows_b[first_b[in_b]]
    timed = (both[SECONDS][rows_a] > 0) & (both[SECONDS][rows_b] > 0)
    rows_a, rows_b = rows_a[timed], rows_b[timed]
    ratio = both[SECONDS][rows_b] / both[SECONDS][rows_a]
    far = np.argsort(-np.abs(np.log(ratio)), kind="stable")[:worst]
    points = tuple(
        Point(
            {name: _plain(both[name][rows_a[i]]) for name in names},
            float(both[SECONDS][rows_a[i]]),
            float(both[SECONDS][rows_b[i]]),
        )
        for i in far
    )
    p10, median, p90 = np.quantile(ratio, [0.1, 0.5, 0.9]) if len(ratio) else [np.nan] * 3
    return Agreement(
        common=len(ratio),
        only_a=len(codes_a) - len(common),
        only_b=len(codes_b) - len(common),
        median=float(median),
        mean=float(ratio.mean()) if len(ratio) else float("nan"),
        p10=float(p10),
        p90=float(p90),
        worst=points,
    )


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
