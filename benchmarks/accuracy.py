"""Accuracy: replayed predictions against measured runs, as tables.

    python benchmarks/accuracy.py [--runs FOLDER] [--rows N] [--markdown]

Every group (hardware, model, backend, mode) is predicted with parameters that were fitted
without it; groups that the fit does not use (a model that ships a draft layer, and rows that do
not say whether it was on) with those of all others. TTFT is the median where a row states it,
else the mean. A figure of a table is the mean or median over groups of the mean error of each.
A run that files list twice counts once, as it is in the fit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from peer import PEER, PEER_CHOICE

from aiconf.runs.calibrate import Observed, covered, hides_drafts, replayed_by_group
from aiconf.runs.fit import ROWS, Fit, Progress, distinct, fit
from aiconf.runs.measured import MeasuredRun, Row
from aiconf.runs.read import read_rows

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "runs"
FILES = (
    "inferencemax_agg_bmk_mantile", "inferencex_app_benchmarks", "aic_silicon_nvidia_internal",
    "aic_silicon_inferencex", "trtllm_online_serving_v014",
)  # fmt: skip
METRICS = {"tpot": "TPOT", "ttft": "TTFT", "output": "output rate"}
LIMITS = (0.010, 0.015, 0.020, 0.030, 0.050, 0.080)  # seconds of TPOT
FEWEST = 6  # configurations of a group among which one is chosen


# Linear and sparse attention and wide experts, on none of which the kernels were first modelled.
RECENT = ("Qwen3.5", "MiniMax-M2.5", "GLM-5", "Kimi-K2.5")


def scored(path: Path) -> list[Row]:
    """Rows of a file that are judged: of one of them only those whose configuration is known."""
    return counted(path, read_rows(path, {}))


def counted(path: Path, rows: list[Row]) -> list[Row]:
    """Rows that are judged, of all rows of a file."""
    if path.stem != "aic_silicon_inferencex":
        return rows
    return [
        row for row in rows
        if row.cells["serving_mode"] == "agg" and "deepseek" not in row.cells["model"].lower()
    ]  # fmt: skip


def error(one: Observed, metric: str) -> float:
    """Relative error, predicted / measured - 1."""
    return float(np.expm1(-one.errors[metric]))


def group_means(observed: Iterable[Observed], metric: str) -> list[float]:
    """Mean absolute error of each group."""
    groups: dict[object, list[float]] = defaultdict(list)
    for one in observed:
        if metric in one.errors:
            groups[one.group].append(abs(error(one, metric)))
    return [float(np.mean(errors)) for errors in groups.values()]


def line(title: str, observed: Sequence[Observed], markdown: bool) -> str:
    """One row of the table: over groups and over rows, by metric."""
    cells = [title, str(len(observed))]
    for metric in METRICS:
        groups = group_means(observed, metric)
        rows = [abs(error(one, metric)) for one in observed if metric in one.errors]
        for values in (groups, rows):
            cells.append(
                f"{100 * np.mean(values):.1f} / {100 * np.median(values):.1f}" if values else "-"
            )
    cells.append(PEER.get(title, "-"))
    return _row(cells, markdown)


def _row(cells: Sequence[str], markdown: bool) -> str:
    if markdown:
        return "| " + " | ".join(cells) + " |"
    widths = (34, 6, *(13,) * 6, 30)
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))


def slices(observed: Sequence[Observed]) -> list[tuple[str, list[Observed]]]:
    """Parts of the runs that have a line of their own."""
    agg = [one for one in observed if one.run.mode == "agg"]
    found = [("all", list(observed)), ("aggregated", agg)]
    for backend in ("vllm", "sglang", "trtllm"):
        own = [one for one in agg if one.run.deployment.backend == backend]
        found.append((f"aggregated, {backend}", own))
    apart = [one for one in observed if one.run.mode == "disagg"]
    rack = [one for one in apart if one.run.deployment.system == "gb200"]
    drafted = [one for one in observed if one.run.deployment.speculation is not None]
    recent = [one for one in agg if any(name in one.run.deployment.model for name in RECENT)]
    return [
        *found, ("disaggregated", apart), ("disaggregated, GB200", rack),
        ("speculative decoding", drafted), (f"aggregated {', '.join(RECENT)}", recent),
    ]  # fmt: skip


def choices(observed: Iterable[Observed]) -> tuple[list[float], int, int]:
    """Choose by prediction under limits of TPOT; judge by what was measured.

    Returns the shares of the best measured throughput per GPU that the choices deliver (none where
    nothing was predicted to keep a limit that something keeps), how many choices break the limit
    by more than 5 %, and how many there were.
    """
    groups: dict[object, list[Observed]] = defaultdict(list)
    for one in observed:
        run = one.run
        if run.traffic.kind == "closed" and run.metrics.tpot_mean and one.found.tpot_mean:
            key = (*one.group[:3], run.deployment.precision, run.traffic.isl, run.traffic.osl)
            groups[key].append(one)
    delivered, broken, asked = [], 0, 0
    for members in groups.values():
        if len({(one.run.deployment, one.run.traffic) for one in members}) < FEWEST:
            continue
        for limit in LIMITS:
            within = [one for one in members if (one.run.metrics.tpot_mean or 0.0) <= limit]
            allowed = [one for one in members if (one.found.tpot_mean or 0.0) <= limit]
            if not within:
                continue
            if not allowed:
                asked += 1
                delivered.append(0.0)
                continue
            chosen = max(allowed, key=lambda one: one.found.output_rate / gpus(one.run))
            asked += 1
            if (chosen.run.metrics.tpot_mean or 0.0) > 1.05 * limit:
                broken += 1
                continue
            best = max(rate(one.run) for one in within)
            delivered.append(min(rate(chosen.run) / best, 1.0))
    return delivered, broken, asked


def gpus(run: MeasuredRun) -> int:
    """GPUs of all workers."""
    before = run.deployment.prefill
    return run.deployment.workers.gpus + (before.gpus if before else 0)


def rate(run: MeasuredRun) -> float:
    """Measured output tokens/s per GPU; from the times (Little's law) where it is not stated."""
    metrics, traffic = run.metrics, run.traffic
    if metrics.output_rate:
        return metrics.output_rate / gpus(run)
    tokens = traffic.osl * (1.0 + traffic.least) / 2.0
    ttft = metrics.ttft_mean or (metrics.ttft[1] if metrics.ttft else 0.0)
    seconds = ttft + (tokens - 1.0) * (metrics.tpot_mean or 0.0)
    return traffic.users * tokens / seconds / gpus(run)


def main() -> None:
    """Fit, replay every group without itself, and print the tables."""
    parser = argparse.ArgumentParser(description="Compare replays with measured runs.")
    parser.add_argument("--runs", type=Path, default=FOLDER, help="folder of measured runs")
    parser.add_argument("--rows", type=int, default=ROWS, help="runs of a group that are fitted to")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args()
    if not options.runs.is_dir():
        raise SystemExit(f"no measured runs in {options.runs}: name their folder with --runs")
    start = time.perf_counter()
    files = {path: read_rows(path, {}) for path in (options.runs / f"{n}.csv" for n in FILES)}
    every = [row for rows in files.values() for row in rows]
    used = distinct([r.run for r in every if r.run is not None and not hides_drafts(r)])
    report = partial(print, file=sys.stderr)
    judge(files, fit(used, rows=options.rows, progress=report), options.markdown, report)
    print(f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)


def judge(
    files: Mapping[Path, list[Row]], found: Fit, markdown: bool, report: Progress
) -> None:
    """Replay the rows that are judged, every group without itself, and print the tables."""
    rows = [row for path, read in files.items() for row in counted(path, read)]
    asked = [row for row in rows if row.status != "skipped"]
    every = [row.run for row in rows if row.run is not None]
    runs = distinct(every)
    repeated = len(every) - len(runs)
    observed = replayed_by_group(runs, found, leave_out=True, progress=report)
    print(f"{len(rows)} rows: {len(rows) - len(asked)} say too little, {repeated} repeat another, "
          f"{len(observed)} answered ({len(observed) / (len(asked) - repeated):.1%} of the others)"
          "\n")  # fmt: skip
    heads = ["mean / median error, %", "rows"]
    heads += [f"{title}, {over}" for title in METRICS.values() for over in ("groups", "rows")]
    print(_row([*heads, "AIConfigurator 0.12 (rows)"], markdown))
    if markdown:
        print(_row(["---"] * 9, True))
    for title, part in slices(observed):
        print(line(title, part, markdown))
    inside = ", ".join(f"{METRICS[m]} {share:.0%}" for m, share in covered(observed).items())
    print(f"\nWithin the 80 % interval made without the group: {inside}")
    delivered, broken, asked_choices = choices(observed)
    print(f"\n{asked_choices} choices by a limit of TPOT: {broken / asked_choices:.1%} break it by "
          f"more than 5 %; the others deliver {np.median(delivered):.1%} (median; 10th percentile "
          f"{np.percentile(delivered, 10):.0%}) of the best measured throughput. "
          f"{PEER_CHOICE}")  # fmt: skip


if __name__ == "__main__":
    main()
