"""Accuracy: predictions against measured runs, as tables.

    python benchmarks/accuracy.py [--runs FOLDER] [--markdown]

Errors are of the mean TPOT and mean TTFT of aggregated engines under a closed loop. Prediction
is the closed form; nothing in it was fitted to these rows.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measured import FILES, FOLDER, Run, aggregated_runs

from aiconf.api import estimate
from aiconf.errors import UserError

# AIConfigurator 0.12.0 on the same two files with duplicates removed: mean and median absolute
# error in % of TPOT, then of TTFT, and rows. Source: its own estimates of these rows, taken on a
# 2-core machine; it answered 71 % of them from tables. The slices by engine are "no MTP".
PEER = {
    "all": (20.4, 14.4, 50.1, 49.4, 2199),
    "trtllm": (12.8, 9.6, 49.1, 45.8, 564),
    "sglang": (21.8, 17.5, 69.8, 75.7, 404),
    "vllm": (26.1, 16.0, 43.7, 43.4, 340),
}
PEER_COVERAGE = 71
TTFT_LABEL = "TTFT: closed form, no burst; replaced by the replay"


@dataclass(frozen=True)
class Error:
    """Relative errors of one predicted run (predicted / measured - 1); ttft NaN: not measured."""

    run: Run
    tpot: float
    ttft: float


def predict(runs: Iterable[Run]) -> tuple[list[Error], list[tuple[Run, str]]]:
    """Predict every run; return the errors, and the runs that were refused with the reason."""
    errors, refused = [], []
    for run in runs:
        try:
            best = estimate(**run.arguments).best
        except UserError as problem:
            refused.append((run, str(problem)))
            continue
        ttft = best["ttft_ms"] / run.ttft_ms - 1.0 if run.ttft_ms else np.nan
        errors.append(Error(run, best["tpot_ms"] / run.tpot_ms - 1.0, ttft))
    return errors, refused


def _figures(errors: list[Error]) -> tuple[float, ...]:
    """Mean |e|, median |e| and bias of TPOT, then mean |e| and median |e| of TTFT, in %."""
    tpot = np.array([error.tpot for error in errors]) * 100
    ttft = np.array([error.ttft for error in errors]) * 100
    ttft = ttft[~np.isnan(ttft)]
    far = np.abs(ttft) if len(ttft) else np.array([np.nan])
    size = np.abs(tpot)
    return (size.mean(), float(np.median(size)), tpot.mean(), far.mean(), float(np.median(far)))


def _print_table(
    title: str, groups: dict[str, list[Error]], asked: Counter[str], markdown: bool
) -> None:
    heads = ("rows", "answered", "TPOT mean", "median", "bias", "TTFT mean", "median")
    width = max(len(name) for name in [title, *groups])
    rows = []
    for name, errors in groups.items():
        count, share = len(errors), 100 * len(errors) / asked[name]
        numbers = [f"{value:+.1f}" if place == 2 else f"{value:.1f}"
                   for place, value in enumerate(_figures(errors))]  # fmt: skip
        rows.append((name, str(count), f"{share:.0f} %", *numbers))
    if markdown:
        print(f"| {title} | " + " | ".join(heads) + " |")
        print("|---|" + "---:|" * len(heads))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows), end="\n\n")
        return
    print(f"{title:{width}s} " + " ".join(f"{head:>9s}" for head in heads))
    for name, *numbers in rows:
        print(f"{name:{width}s} " + " ".join(f"{number:>9s}" for number in numbers))
    print()


def _grouped(errors: list[Error], key: Callable[[Run], str]) -> dict[str, list[Error]]:
    groups: dict[str, list[Error]] = defaultdict(list)
    for error in errors:
        groups[key(error.run)].append(error)
    return dict(sorted(groups.items()))


def _report(runs: list[Run], markdown: bool, kind: str) -> None:
    errors, refused = predict(runs)
    keys: list[tuple[str, Callable[[Run], str]]] = [
        (kind, lambda run: "all"),
        ("by backend", lambda run: run.backend),
        ("by hardware", lambda run: run.hardware),
        (
            "by group",
            lambda r: f"{r.hardware}, {r.backend}, {r.model.rsplit('/', 1)[-1]}, {r.precision}",
        ),
    ]
    for title, key in keys:
        _print_table(title, _grouped(errors, key), Counter(map(key, runs)), markdown)
    reasons = Counter((run.model.rsplit("/", 1)[-1], why.split(":")[0]) for run, why in refused)
    if reasons:
        print("Not answered:")
        for (model, why), count in reasons.most_common(12):
            print(f"  {count:4d}  {model}: {why}")
        print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Compare predictions with measured runs.")
    parser.add_argument("--runs", type=Path, default=FOLDER, help="folder of the CSV files")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if not options.runs.is_dir():
        raise SystemExit(f"no measured runs in {options.runs}: name their folder with --runs")
    runs = list(aggregated_runs(options.runs, FILES))
    print(f"Absolute errors of the means in %. {TTFT_LABEL}.\n")
    clear = [run for run in runs if not run.hides_drafts and not run.queued]
    _report(clear, options.markdown, "aggregated")
    print("Rows whose engine admitted only some of the users (TTFT longer than the decoding):\n")
    _report([run for run in runs if run.queued], options.markdown, "queued")
    print("Rows of DeepSeek whose source hides whether MTP was on (its TPOT may be of drafts):\n")
    hidden = [run for run in runs if run.hides_drafts and not run.queued]
    _report(hidden, options.markdown, "MTP not stated")
    print(f"AIConfigurator 0.12, both files, answers {PEER_COVERAGE} % of the rows:")
    for name, (tpot, tpot_mid, ttft, ttft_mid, count) in PEER.items():
        print(f"  {name:7s} {count:5d} rows  TPOT mean {tpot:.1f} median {tpot_mid:.1f}"
              f"  TTFT mean {ttft:.1f} median {ttft_mid:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
