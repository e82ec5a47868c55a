"""Operating points of a run, as rows that ``aiconf runs check`` reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profilers.engine.experiments import Load, Served

NAME = "operating_points.csv"
COLUMNS = (
    "source", "date", "hardware", "num_gpus", "num_nodes", "backend", "backend_version", "model",
    "precision", "serving_mode", "tp", "pp", "dp", "ep", "mtp/spec", "isl", "osl", "isl_osl_note",
    "length_range", "concurrency_or_rate", "requests", "ttft_ms_mean", "ttft_ms_p50",
    "ttft_ms_p99", "tpot_ms_mean", "tpot_ms_p50", "e2e_ms_mean", "req_per_s", "output_tok_per_s",
    "total_tok_per_s", "output_tok_per_s_per_gpu", "notes",
)  # fmt: skip


def row(load: Load, served: Served, deployed: Mapping[str, Any]) -> dict[str, Any]:
    """One row: what was served by whom, and what the client saw, over all requests."""
    streams = served.streams
    first = np.array([stream.first for stream in streams]) * 1e3
    each = np.array([stream.per_token for stream in streams]) * 1e3
    whole = np.array([stream.times[-1] - stream.start for stream in streams]) * 1e3
    output = float(sum(int(stream.tokens[-1]) for stream in streams))
    prompts = float(sum(stream.prompt for stream in streams))
    fixed = "fixed lengths" if load.least == 1 else f"uniform in [{load.least:g} x L, L]"
    found = {
        "source": "aiconf profile engine", **deployed, "isl": load.isl, "osl": load.osl,
        "isl_osl_note": f"{fixed}; random tokens, ignore_eos; all requests count",
        "length_range": f"{load.least:g}", "concurrency_or_rate": load.users,
        "requests": load.requests,
        "ttft_ms_mean": first.mean(), "ttft_ms_p50": np.median(first),
        "ttft_ms_p99": np.quantile(first, 0.99), "tpot_ms_mean": np.nanmean(each),
        "tpot_ms_p50": np.nanmedian(each), "e2e_ms_mean": whole.mean(),
        "req_per_s": len(streams) / served.seconds, "output_tok_per_s": output / served.seconds,
        "total_tok_per_s": (output + prompts) / served.seconds,
        "output_tok_per_s_per_gpu": output / served.seconds / deployed["num_gpus"],
    }  # fmt: skip
    return {
        name: round(float(value), 4) if isinstance(value, (float, np.floating)) else value
        for name, value in found.items()
    }


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write all rows of a run, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    staged = folder / f".{NAME}.new"
    with staged.open("w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())
    return staged.replace(folder / NAME)
