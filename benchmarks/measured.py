"""Measured serving runs: reading the rows, and the arguments of the estimate that repeats one.

The files are not part of the repository. One row is one operating point of a closed loop of
``concurrency`` users (InferenceX: prompt and output lengths uniform in [0.8 L, L]).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "runs"
FILES = ("aic_silicon_inferencex.csv", "aic_silicon_nvidia_internal.csv")
SYSTEMS = {
    "H100 SXM": "h100_sxm",
    "H200 SXM": "h200_sxm",
    "B200 SXM": "b200_sxm",
    "B300 SXM": "b300_sxm",
    "GB200 NVL72": "gb200",
    "GB300 NVL72": "gb300",
}
# Rows that name the family where the run served another checkpoint of the same shape:
# InferenceX's "70B FP4" is nvidia/Llama-3.3-70B-Instruct-FP4; gpt-oss exists in mxfp4 only.
_STANDS_FOR: dict[tuple[str, str], tuple[str, str | None]] = {
    ("Llama-3.1-70B", "fp4"): ("Llama-3.3-70B", "fp4"),
    ("Llama-3.1-8B-Instruct", "fp8"): ("Llama-3.1-8B", "fp8"),
    ("gpt-oss-120b", "fp8"): ("gpt-oss-120b", None),
}


@dataclass(frozen=True)
class Run:
    """One measured operating point; means in milliseconds (ttft 0 where it was not measured).

    spec: none, mtp, or empty where the source does not state whether drafts were verified.
    """

    hardware: str
    backend: str
    model: str
    precision: str
    spec: str
    layout: str
    isl: int
    osl: int
    concurrency: int
    ttft_ms: float
    tpot_ms: float

    @property
    def hides_drafts(self) -> bool:
        """Whether multi-token prediction may have been on: DeepSeek ships its MTP head."""
        return self.spec == "" and "deepseek" in self.model.lower()

    @property
    def queued(self) -> bool:
        """Whether most users waited outside the engine: TTFT longer than the whole decoding.

        Then a limit on running sequences that the row does not state set the batch, and TPOT
        is not that of ``concurrency``.
        """
        return self.ttft_ms > self.tpot_ms * max(self.osl - 1, 1)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``aiconf.estimate`` for the same point."""
        name, precision = self.model.rsplit("/", 1)[-1], self.precision or None
        if precision is None:
            name = self.model  # the checkpoint that is named, not the family's default
        elif (name, precision) in _STANDS_FOR:
            name, precision = _STANDS_FOR[name, precision]
        return {
            "model": name,
            "system": SYSTEMS[self.hardware],
            "layout": self.layout,
            "isl": self.isl,
            "osl": self.osl,
            "concurrency": self.concurrency,
            "backend": self.backend,
            "precision": precision,
        }


def aggregated_runs(folder: Path = FOLDER, files: Iterable[str] = FILES) -> Iterator[Run]:
    """Aggregated closed-loop runs without known speculation, on the systems that are embedded.

    Repeated measurements of one configuration are all kept: they are all data.
    """
    for name in files:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if _usable(row):
                    yield _run(row)


def _usable(row: dict[str, str]) -> bool:
    return (
        row["serving_mode"] == "agg"
        and row["mtp/spec"] in ("", "none")
        and row["hardware"] in SYSTEMS
        and row["concurrency_or_rate"].isdigit()
        and bool(row["tpot_ms_mean"])
    )


def _run(row: dict[str, str]) -> Run:
    tp, pp, dp, ep = (max(int(row[name] or 1), 1) for name in ("tp", "pp", "dp", "ep"))
    if dp > 1 and row["num_gpus"] == row["tp"]:
        tp //= dp  # the engine's tp argument counts all GPUs; attention runs data-parallel
    mean = (1.0 + float(row["length_range"] or 1)) / 2.0  # of lengths uniform in [r L, L]
    return Run(
        hardware=row["hardware"],
        backend=row["backend"],
        model=row["model"],
        precision=row["precision"],
        spec=row["mtp/spec"],
        layout=f"tp{tp}pp{pp}dp{dp}ep{ep}",
        isl=max(round(int(row["isl"]) * mean), 1),
        osl=max(round(int(row["osl"]) * mean), 1),
        concurrency=int(row["concurrency_or_rate"]),
        ttft_ms=float(row["ttft_ms_mean"] or 0),
        tpot_ms=float(row["tpot_ms_mean"]),
    )
