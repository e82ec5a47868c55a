"""What runs today beside the best that a search found, at the same workload and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aiconf.report.verdict import MEASURES
from aiconf.search.request import Request
from aiconf.search.rows import record
from aiconf.search.search import Found, shortfall

Record = dict[str, Any]

# Of the notes, for the terminal.
_IMPORTANT = ("not modelled", "another model", "speculative decoding")


def baseline(
    request: Request, best: Record, points: Sequence[tuple[Request, Found]], file: str,
    notes: Sequence[str],
) -> Record:  # fmt: skip
    """Return the document's ``baseline`` (see ``aiconf.report.document``).

    Parameters
    ----------
    request, best
        Of the search.
    points
        Predictions of the deployment at several numbers of requests in flight: the one that
        serves the objective best within the targets counts, or else the one that misses least.
        Where the search asks for a confidence, they meet the targets with that probability too.
    """
    asked = [
        (replace(own, sla=request.sla, confidence=request.confidence), found)
        for own, found in points
    ]
    records = [record(own, found) for own, found in asked]
    measure = MEASURES[request.objective]
    met = [one for one in records if one["meets_targets"]]
    if met:
        sign = -1.0 if request.objective == "throughput" else 1.0
        today = min(met, key=lambda one: sign * one[measure])
    else:
        over = [_shortfall(own, found) for own, found in asked]
        today = records[int(np.argmin(over))]
    ratio = best["output_tok_per_s_per_gpu"] / today["output_tok_per_s_per_gpu"]
    return {
        "file": file,
        "today": today,
        "meets_targets": bool(met),
        "throughput_ratio": ratio,
        "ttft_ratio": best["ttft_ms"] / today["ttft_ms"],
        "tpot_ratio": best["tpot_ms"] / today["tpot_ms"] if today["tpot_ms"] else None,
        "notes": list(notes),
    }


def _shortfall(request: Request, found: Found) -> float:
    """By what factor one candidate misses what was asked."""
    one = found.side.candidates.take(np.array([found.place]))
    return float(shortfall(request, replace(found.side, candidates=one))[0])


def baseline_lines(found: Record, best: Record) -> list[str]:
    """Return the comparison in words, a line each."""
    today = found["today"]
    lines = [f"today  {_figures(today)}", f"best   {_figures(best)}"]
    if not found["meets_targets"]:
        chance = today["probability"]
        closest = "" if chance is None else f" (here with a probability of {chance:.0%})"
        lines.append(
            f"what runs today meets the targets at no number of requests in flight{closest}"
        )
    change = 100.0 * (found["throughput_ratio"] - 1.0)
    word = "more" if change >= 0 else "less"
    said = [f"{abs(change):,.1f} % {word} output tok/s/GPU"]
    for name, field in (("TTFT", "ttft_ratio"), ("TPOT", "tpot_ratio")):
        if found[field] is not None:
            said.append(f"{name} {100.0 * (found[field] - 1.0):+,.1f} %")
    told = [note for note in found["notes"] if note.startswith(_IMPORTANT)]
    return [*lines, f"the best gives {', '.join(said)}", *told]


def _figures(one: Record) -> str:
    tpot = "" if one["tpot_ms"] is None else f"TPOT {one['tpot_ms']:.2f} ms, "
    layout = f"{one['workers']} x {one['layout']}"
    if one["mode"] == "disagg":
        layout = f"{one['prefill_workers']} x {one['prefill_layout']} + {layout}"
    return (
        f"{one['output_tok_per_s_per_gpu']:,.1f} output tok/s/GPU, TTFT {one['ttft_ms']:,.1f} ms, "
        f"{tpot}{one['concurrency']:,} in flight on {one['gpus']} GPUs ({layout})"
    )
