"""Iteration-time model against measured forward passes, with no scheduler in between.

    python benchmarks/steps.py [--steps FOLDER] [--markdown]

Every iteration of a configuration is predicted in one call. Errors are predicted / measured - 1;
nothing was fitted to these rows but what docs/decisions/iteration-time.md names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from iterations import BACKEND, FOLDER, SYSTEM, Array, Iterations, iterations
from numpy.typing import NDArray

from aiconf.engine.curves import PARTS
from aiconf.engine.platform import platform
from aiconf.model import load_model

BATCHES = (1, 2, 5, 9, 17, 25, 33)  # first of each band of decoding sequences
CONTEXTS = (1, 2048, 4096, 6144, 8192, 65536)
PROMPTS = (1, 256, 1024, 4096, 8193)


@dataclass(frozen=True)
class Predicted:
    """Iterations of one configuration with their predicted seconds, in all and by part."""

    measured: Iterations
    seconds: Array
    parts: Array  # (part, iteration)

    @property
    def error(self) -> Array:
        """Predicted / measured - 1 of every iteration."""
        return self.seconds * 1e3 / self.measured.milliseconds - 1.0


def predict(runs: Iterable[Iterations]) -> list[Predicted]:
    """Predict every iteration; KV cache in bf16, as all these runs had it."""
    found = []
    for run in runs:
        here = platform(SYSTEM, BACKEND)
        step = here.step(load_model(run.model), run.parallel, "bf16")
        time = step.time(run.batch)
        found.append(Predicted(run, time.seconds, time.by_part))
    return found


def _line(name: str, error: Array) -> tuple[str, ...]:
    size = np.abs(error) * 100
    shown = (size.mean(), np.median(size), error.mean() * 100, np.quantile(size, 0.9))
    signs = ("", "", "+", "")
    numbers = [f"{value:{sign}.1f}" for value, sign in zip(shown, signs, strict=True)]
    return (name, f"{len(error):,}", *numbers)


def _bands(values: Array, starts: tuple[int, ...]) -> list[tuple[str, NDArray[np.bool_]]]:
    found = []
    for low, high in pairwise(starts):
        name = f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"
        found.append((name, (values >= low) & (values < high)))
    return found


def _print(title: str, rows: list[tuple[str, ...]], markdown: bool) -> None:
    heads = (title, "iterations", "mean", "median", "bias", "p90")
    if markdown:
        print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * 5)
        print("\n".join("| " + " | ".join(row) + " |" for row in rows), end="\n\n")
        return
    width = max(len(row[0]) for row in [heads, *rows])
    for row in (heads, *rows):
        print(f"{row[0]:{width}s} " + " ".join(f"{cell:>10s}" for cell in row[1:]))
    print()


def report(runs: list[Predicted], markdown: bool) -> None:
    """Print the error tables: by ranks and kind, then by batch, context and prompt tokens."""
    rows, batch, context, prompt = [], [], [], []
    for run in runs:
        measured, error, usual = run.measured, run.error, run.measured.regular
        ranks = f"TP {measured.parallel.tp}"
        for kind in ("decode", "prefill", "mixed"):
            chosen = usual & (measured.kind == kind)
            if chosen.any():
                rows.append(_line(f"{ranks} {kind}", error[chosen]))
        decode = usual & (measured.kind == "decode")
        for name, band in _bands(measured.batch.decode, BATCHES):
            if (band & decode).any():
                batch.append(_line(f"{ranks} decode, batch {name}", error[band & decode]))
        for name, band in _bands(measured.batch.context, CONTEXTS):
            if (band & decode).any():
                context.append(_line(f"{ranks} decode, context {name}", error[band & decode]))
        for name, band in _bands(measured.batch.prefill_tokens, PROMPTS):
            if (band & usual).any():
                prompt.append(_line(f"{ranks} with prompt tokens {name}", error[band & usual]))
    for title, found in (("kind", rows), ("batch", batch), ("context", context), ("new", prompt)):
        _print(title, found, markdown)


def shares(runs: list[Predicted]) -> None:
    """Print the median share of each part of the model, and what is least, by ranks and kind."""
    print("median share of the predicted time in %: " + ", ".join(PARTS))
    for run in runs:
        for kind in ("decode", "prefill", "mixed"):
            chosen = run.measured.kind == kind
            part = np.median(run.parts[:, chosen] / run.seconds[chosen], axis=1) * 100
            print(f"TP {run.measured.parallel.tp} {kind:8s}" + "".join(f"{p:6.1f}" for p in part))
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Compare iterations with measured ones.")
    parser.add_argument("--steps", type=Path, default=FOLDER, help="folder of the measurements")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if not options.steps.is_dir():
        raise SystemExit(f"no measured iterations in {options.steps}: name their folder (--steps)")
    runs = predict(iterations(options.steps))
    if not runs:
        raise SystemExit(f"no configuration of a known model in {options.steps}")
    count = sum(len(run.seconds) for run in runs)
    odd = sum(int((~run.measured.regular).sum()) for run in runs)
    exact = all(run.measured.exact for run in runs)
    lengths = "recorded" if exact else "followed through the iterations, not recorded"
    print(f"{count:,} iterations, {odd:,} set aside (interval not their own).")
    print(f"Lengths are {lengths}.\n")
    report(runs, options.markdown)
    shares(runs)


if __name__ == "__main__":
    main()
