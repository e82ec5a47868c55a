"""Predictions of many rows, and how far they are off: overall, by group, by concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiconf.errors import UserError
from aiconf.runs.measured import Deployment, Row, Status, Traffic
from aiconf.runs.predict import Prediction, predict

GROUP = ("hardware", "backend", "model", "mode")
# Users of a closed loop: the last band is open.
BANDS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Checked:
    """One row with its prediction, or the reason why there is none."""

    row: Row
    prediction: Prediction | None
    status: Status
    reason: str

    def error(self, metric: str) -> float | None:
        """Relative error (predicted / measured - 1) of ``ttft``, ``tpot`` or ``output``."""
        run, found = self.row.run, self.prediction
        if run is None or found is None:
            return None
        measured, predicted = run.metrics.tpot_mean, found.tpot_mean
        if metric == "ttft":
            ttft = run.metrics.ttft
            measured = ttft[1] if ttft else None
            predicted = found.ttft_p50 if ttft and ttft[0] == "p50" else found.ttft_mean
        elif metric == "output":
            measured, predicted = run.metrics.output_rate, found.output_rate
        return predicted / measured - 1.0 if measured and predicted is not None else None

    @property
    def group(self) -> tuple[str, ...]:
        """Hardware, backend, model and mode as the input writes them."""
        cells = self.row.cells
        mode = cells.get("serving_mode", "") or "agg"
        model = cells.get("model", "").rsplit("/", 1)[-1]
        return cells.get("hardware", ""), cells.get("backend", ""), model, mode

    @property
    def band(self) -> str:
        """Concurrency band of a closed loop (``16-63``), or the kind of load; '' if unread."""
        run = self.row.run
        if run is None:
            return ""
        if run.traffic.kind != "closed":
            return run.traffic.kind
        place = sum(run.traffic.users >= least for least in BANDS) - 1
        last = place == len(BANDS) - 1
        return f"{BANDS[place]}+" if last else f"{BANDS[place]}-{BANDS[place + 1] - 1}"


def check(rows: Iterable[Row]) -> list[Checked]:
    """Predict every row that can be predicted; equal configurations are replayed once.

    The result has the rows in their order, every one with a status.
    """
    known: dict[tuple[Deployment, Traffic], Prediction | UserError] = {}
    found = []
    for row in rows:
        if row.run is None:
            found.append(Checked(row, None, row.status, row.reason))
            continue
        key = (row.run.deployment, row.run.traffic)
        if key not in known:
            try:
                known[key] = predict(*key)
            except UserError as error:
                known[key] = error
        answer = known[key]
        if isinstance(answer, UserError):
            found.append(Checked(row, None, "unsupported", str(answer)))
        else:
            note = "; ".join(part for part in (row.run.note, answer.note) if part)
            found.append(Checked(row, answer, "ok", note))
    return found


def summary(checked: Sequence[Checked]) -> dict[str, Any]:
    """Rows by status, coverage, and error of each metric.

    Coverage is answered rows over those that say enough to be asked (all but skipped ones).
    Errors are shares: mean, median and 90th percentile of the absolute error, and bias (mean
    signed error); None where no row states the metric.
    """
    status = Counter(one.status for one in checked)
    asked = len(checked) - status["skipped"]
    record: dict[str, Any] = {
        "rows": len(checked),
        **{name: status[name] for name in ("ok", "skipped", "unsupported")},
        "coverage": status["ok"] / asked if asked else None,
    }
    for metric in ("tpot", "ttft", "output"):
        errors = [error for one in checked if (error := one.error(metric)) is not None]
        record |= {f"{metric}_{name}": value for name, value in _figures(errors).items()}
    return record


def _figures(errors: list[float]) -> dict[str, float | int | None]:
    if not errors:
        return {"rows": 0, "mean": None, "median": None, "bias": None, "p90": None}
    size = np.abs(errors)
    return {
        "rows": len(errors),
        "mean": float(size.mean()),
        "median": float(np.median(size)),
        "bias": float(np.mean(errors)),
        "p90": float(np.percentile(size, 90)),
    }


def grouped(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """One summary per hardware, backend, model and mode, sorted."""
    groups: dict[tuple[str, ...], list[Checked]] = {}
    for one in checked:
        groups.setdefault(one.group, []).append(one)
    return [
        dict(zip(GROUP, key, strict=True)) | summary(members)
        for key, members in sorted(groups.items())
    ]


def banded(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """One summary per concurrency band of the rows that could be read."""
    bands: dict[str, list[Checked]] = {}
    for one in checked:
        if one.row.run is not None:
            bands.setdefault(one.band, []).append(one)
    order = sorted(bands, key=lambda name: (not name[0].isdigit(), _first(name), name))
    return [{"concurrency": name} | summary(bands[name]) for name in order]


def _first(band: str) -> int:
    digits = band.rstrip("+").split("-")[0]
    return int(digits) if digits.isdigit() else 0


def reasons(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Why rows were not predicted: status, reason and how many, the most frequent first."""
    found = Counter((one.status, one.reason) for one in checked if one.status != "ok")
    return [
        {"status": status, "reason": reason, "rows": rows}
        for (status, reason), rows in found.most_common()
    ]
