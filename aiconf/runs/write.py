"""Checked rows as CSV: the input's rows in the input's order, and what was predicted."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from aiconf.resources import write_text
from aiconf.runs.check import Checked

ADDED = (
    "status", "reason",
    "predicted_ttft_ms_mean", "predicted_ttft_ms_p50", "predicted_ttft_ms_p99",
    "predicted_tpot_ms_mean", "predicted_output_tok_per_s", "predicted_total_tok_per_s",
    "predicted_ttft_ms_mean_lo", "predicted_ttft_ms_mean_hi",
    "predicted_tpot_ms_mean_lo", "predicted_tpot_ms_mean_hi",
    "predicted_output_tok_per_s_lo", "predicted_output_tok_per_s_hi", "origin",
)  # fmt: skip

_BOUNDED = {
    "ttft": "predicted_ttft_ms_mean",
    "tpot": "predicted_tpot_ms_mean",
    "output": "predicted_output_tok_per_s",
}


def write_csv(path: Path, checked: Sequence[Checked]) -> None:
    """Write ``checked`` to ``path``; times in milliseconds, as in the input.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    names = dict.fromkeys(name for one in checked for name in one.row.cells)
    fields = [*(name for name in names if name not in ADDED), *ADDED]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**one.row.cells, **_added(one)} for one in checked)
    write_text(path, text.getvalue())


def _added(one: Checked) -> dict[str, str]:
    found = one.prediction
    values = dict.fromkeys(ADDED, "")
    values |= {"status": one.status, "reason": one.reason}
    if found is None:
        return values
    figures: dict[str, float | None] = {
        "predicted_ttft_ms_mean": found.ttft_mean * 1e3,
        "predicted_ttft_ms_p50": found.ttft_p50 * 1e3,
        "predicted_ttft_ms_p99": found.ttft_p99 * 1e3,
        "predicted_tpot_ms_mean": None if found.tpot_mean is None else found.tpot_mean * 1e3,
        "predicted_output_tok_per_s": found.output_rate,
        "predicted_total_tok_per_s": found.total_rate,
    }
    for metric, name in _BOUNDED.items():
        factors, value = found.bounds.get(metric), figures[name]
        for factor, end in zip(factors or (), ("lo", "hi"), strict=False):
            figures[f"{name}_{end}"] = None if value is None else value * factor
    values |= {name: "" if value is None else f"{value:.6f}" for name, value in figures.items()}
    names = ("measured", "interpolated", "fallback")
    shares = zip(names, found.origin, strict=True)
    values["origin"] = ";".join(f"{name}={share:.3f}" for name, share in shares)
    return values
