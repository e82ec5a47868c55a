"""Checked rows as CSV: the input's rows in the input's order, and what was predicted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from aiconf.errors import UserError
from aiconf.runs.check import Checked

ADDED = (
    "status", "reason",
    "predicted_ttft_ms_mean", "predicted_ttft_ms_p50", "predicted_ttft_ms_p99",
    "predicted_tpot_ms_mean", "predicted_output_tok_per_s", "predicted_total_tok_per_s",
    "origin",
)  # fmt: skip


def write_csv(path: Path, checked: Sequence[Checked]) -> None:
    """Write ``checked`` to ``path``; times in milliseconds, as in the input.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    names = dict.fromkeys(name for one in checked for name in one.row.cells)
    fields = [*(name for name in names if name not in ADDED), *ADDED]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fields, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**one.row.cells, **_added(one)} for one in checked)
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror}") from None


def _added(one: Checked) -> dict[str, str]:
    found = one.prediction
    values = dict.fromkeys(ADDED, "")
    values |= {"status": one.status, "reason": one.reason}
    if found is None:
        return values
    figures = {
        "predicted_ttft_ms_mean": found.ttft_mean * 1e3,
        "predicted_ttft_ms_p50": found.ttft_p50 * 1e3,
        "predicted_ttft_ms_p99": found.ttft_p99 * 1e3,
        "predicted_tpot_ms_mean": None if found.tpot_mean is None else found.tpot_mean * 1e3,
        "predicted_output_tok_per_s": found.output_rate,
        "predicted_total_tok_per_s": found.total_rate,
    }
    values |= {name: "" if value is None else f"{value:.6f}" for name, value in figures.items()}
    names = ("measured", "interpolated", "fallback")
    shares = zip(names, found.origin, strict=True)
    values["origin"] = ";".join(f"{name}={share:.3f}" for name, share in shares)
    return values
