"""Predictions of many rows, and how far they are off: overall, by group, by concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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

    def inside(self, metric: str) -> bool | None:
        """Whether the measured value lies in the 80 % interval; None where there is none."""
        error, found = self.error(metric), self.prediction
        factors = found.bounds.get(metric) if found else None
        if error is None or factors is None:
            return None
        return factors[0] <= 1.0 / (1.0 + error) <= factors[1]

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


def check(rows: Iterable[Row], calibration: Path | None = None) -> list[Checked]:
    """Predict every row that can be predicted; equal configurations are replayed once.

    calibration: None: the shipped one. The result has the rows in their order, every one with a
    status.
    """
    listed = list(rows)
    asked = list(
        dict.fromkeys((r.run.deployment, r.run.traffic) for r in listed if r.run is not None)
    )
    answers = dict(zip(asked, _answers(asked, calibration), strict=True))
    found = []
    for row in listed:
        if row.run is None:
            found.append(Checked(row, None, row.status, row.reason))
            continue
        answer = answers[row.run.deployment, row.run.traffic]
        if isinstance(answer, str):
            found.append(Checked(row, None, "unsupported", answer))
        else:
            note = "; ".join(part for part in (row.run.note, answer.note) if part)
            found.append(Checked(row, answer, "ok", note))
    return found


_Asked = tuple[Deployment, Traffic]
_FEW = 200  # configurations below which a second process costs more than it saves
_TOGETHER = 16  # configurations handed to a process at a time


def _answers(asked: Sequence[_Asked], calibration: Path | None) -> list[Prediction | str]:
    """Prediction of each configuration, or why there is none; many are spread over the cores.

    Neighbours share an engine, so they are kept together.
    """
    one = partial(_answer, calibration=calibration)
    if len(asked) < _FEW:
        return [one(each) for each in asked]
    order = sorted(range(len(asked)), key=lambda i: repr(asked[i][0]))
    with ProcessPoolExecutor() as pool:
        found = pool.map(one, (asked[i] for i in order), chunksize=_TOGETHER)
        placed = dict(zip(order, found, strict=True))
    return [placed[i] for i in range(len(asked))]


def _answer(asked: _Asked, calibration: Path | None) -> Prediction | str:
    try:
        return predict(*asked, calibration)
    except UserError as error:
        return str(error)


def summary(checked: Sequence[Checked]) -> dict[str, Any]:
    """Rows by status, coverage, and error of each metric.

    Coverage is answered rows over those that say enough to be asked (all but skipped ones).
    Errors are shares: mean, median and 90th percentile of the absolute error, and bias (mean
    signed error); inside: share of measured values within their 80 % interval. None where no row
    states the metric.
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
        held = [one for row in checked if (one := row.inside(metric)) is not None]
        record[f"{metric}_inside"] = sum(held) / len(held) if held else None
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
