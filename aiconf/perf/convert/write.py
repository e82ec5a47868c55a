"""Writing of one table and of the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.perf.manifest import MANIFEST
from aiconf.perf.schema import MEASURED, ROW_GROUP_ROWS, SCHEMAS, SECONDS, Schema

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# Bits of a float32 mantissa that are kept of 23: an error of at most 2^-13 (0.012 %), far below
# the repeatability of a measurement, and a third of the size.
KEPT_BITS = 12


def rounded(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round times to ``KEPT_BITS`` bits of mantissa (relative error at most 2^-13)."""
    import numpy as np

    low = 23 - KEPT_BITS
    bits = seconds.astype(np.float32).view(np.uint32)
    bits = (bits + np.uint32(1 << (low - 1))) & np.uint32(0xFFFFFFFF << low & 0xFFFFFFFF)
    return bits.view(np.float32)


def write_table(rows: pd.DataFrame, schema: Schema, path: Path) -> None:
    """Write sorted ``rows`` as zstd Parquet with statistics per row group.

    Of the columns ``MEASURED`` those are written that ``rows`` has.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"str": pa.string(), "int": pa.int32(), "bool": pa.bool_()}
    columns = {
        key.name: pa.array(
            rows[key.name].to_numpy(dtype=object if key.kind == "str" else None),
            type=pa.int64() if key.name == "bytes" else types[key.kind],
        )
        for key in schema.keys
    }
    columns[SECONDS] = pa.array(rounded(rows[SECONDS].to_numpy(dtype=np.float64)))
    for name in MEASURED:
        if name in rows:
            values = rows[name].to_numpy(dtype=np.float32)
            columns[name] = pa.array(values, mask=np.isnan(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=list(schema.key_names),
        column_encoding={SECONDS: "BYTE_STREAM_SPLIT"},
        write_statistics=list(schema.key_names),
        store_schema=False,
    )


def file_facts(path: Path) -> dict[str, Any]:
    """Return size and checksum of a written table, as the manifest states them."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_manifest(
    out: Path, entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()
) -> None:
    """Write the manifest, atomically: one line per table, sorted, so that diffs are readable.

    left_out: tables of the source that were not taken, each with its reason.
    """
    head = {
        "format": 1,
        "seconds": f"float32 rounded to {KEPT_BITS} bits of mantissa: error at most 2^-13",
        "left_out": list(left_out),
        "columns": {schema.name: schema.units for schema in SCHEMAS.values()},
    }
    lines = [json.dumps(head, indent=1)[:-2] + ',\n "tables": [']
    ordered = sorted(entries, key=lambda e: (e["system"], e["backend"], e["table"]))
    lines += [",\n".join("  " + json.dumps(entry) for entry in ordered), " ]\n}\n"]
    fresh = out / f".{MANIFEST}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(out / MANIFEST)
