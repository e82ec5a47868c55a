"""What a search result means in words: which mode wins, which target breaks, what to know."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiconf.search.finalists import TOLERANCE
from aiconf.search.request import Request, refused
from aiconf.search.search import Outcome, latency
from aiconf.units import to_ms

MEASURES = {
    "throughput": "output_tok_per_s_per_gpu",
    "latency": "latency_ms",
    "cost": "usd_per_million_output_tok",
}
_FIELDS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "latency_ms": "request latency"}
_NAMES = {"agg": "aggregated", "disagg": "disaggregated"}
# Tokens/s of one API server, see docs/decisions/request-path.md.
_STREAMED = 20_000.0
_MANY_FALLBACKS = 0.1  # share of the time from which on a warning is due


def comparison(found: dict[str, Any]) -> dict[str, Any]:
    """By how much the winner's mode is ahead of the other one."""
    winner = found["best"]["mode"]
    other = "agg" if winner == "disagg" else "disagg"
    measure = MEASURES[found["inputs"]["objective"]]
    rival = found[f"best_{other}"]
    ratio = None
    if rival is None:
        text = _absent(found, other)
    elif found["targets_met"] and not rival["meets_targets"]:
        text = f"no {_NAMES[other]} configuration meets the targets"
    elif not found["targets_met"]:
        text = f"it comes closer to the targets than any {_NAMES[other]} configuration"
    else:
        mine, theirs = found["best"][measure], rival[measure]
        ratio = mine / theirs if measure == MEASURES["throughput"] else theirs / mine
        text = _margin(measure, ratio, mine, theirs, _NAMES[other])
    return {"winner": winner, "measure": measure, "ratio": ratio, "text": text}


def _absent(found: dict[str, Any], other: str) -> str:
    """Say why there is nothing to compare with."""
    inputs = found["inputs"]
    if inputs["mode"] != "any":
        return f"only {_NAMES[inputs['mode']]} serving was searched"
    if other == "disagg" and inputs["osl"] == 1:
        return "disaggregated serving has nothing to decode at osl 1"
    if other == "disagg" and inputs["total_gpus"] == 1:
        return "disaggregated serving needs at least 2 GPUs"
    if other == "agg" and inputs["decode_system"] != inputs["system"]:
        return "two systems can only serve disaggregated"
    return f"{_NAMES[other]} serving fits in no way"


def _margin(measure: str, ratio: float, mine: float, theirs: float, other: str) -> str:
    if measure == MEASURES["throughput"]:
        more = f"{100 * (ratio - 1):.1f} % more per GPU than"
        return f"{more} the best {other} ({mine:,.0f} against {theirs:,.0f} output tok/s/GPU)"
    if measure == MEASURES["latency"]:
        less = f"{100 * (1 - 1 / ratio):.1f} % sooner than"
        return f"{less} the best {other} ({mine:,.0f} against {theirs:,.0f} ms per request)"
    less = f"{100 * (1 - 1 / ratio):.1f} % cheaper than"
    return f"{less} the best {other} ($ {mine:.3f} against {theirs:.3f} per million output tokens)"


def unmet(outcome: Outcome, best: dict[str, Any]) -> dict[str, Any]:
    """Which targets break, and the lowest value of each that any configuration reaches."""
    request = outcome.request
    sla = request.sla
    targets = {"ttft_ms": sla.ttft, "tpot_ms": sla.tpot, "latency_ms": sla.latency}
    lowest = _lowest(outcome)
    set_ = {name: to_ms(value) for name, value in targets.items() if np.isfinite(value)}
    alone = [name for name, value in set_.items() if lowest[name] > value]
    missed = [name for name, value in set_.items() if (best[name] or 0.0) > value]
    if request.confidence is not None and not missed:
        chance = best["probability"] or 0.0
        text = f"the closest does with a probability of {chance:.0%}, not {request.confidence:.0%}"
    elif alone:
        text = "; ".join(
            f"{_FIELDS[n]} {set_[n]:g} ms is out of reach: the lowest is {lowest[n]:.1f} ms"
            for n in alone
        )
    else:
        goals = " and ".join(f"{_FIELDS[n]} {value:g} ms" for n, value in set_.items())
        closest = " and ".join(f"{_FIELDS[n]} {best[n]:.1f} ms" for n in missed)
        text = f"each alone can be met, but not {goals} together: the closest has {closest}"
    return {"text": text, "breaking": alone or missed, "lowest": lowest}


def _lowest(outcome: Outcome) -> dict[str, float]:
    """Lowest mean of each time over all candidates, in ms."""
    found: dict[str, list[float]] = {name: [] for name in _FIELDS}
    for side in outcome.sides:
        candidates = side.candidates
        times = (candidates.ttft, np.nan_to_num(candidates.tpot))
        for name, values in zip(
            _FIELDS, (*times, latency(outcome.request, candidates)), strict=True
        ):
            found[name].append(float(to_ms(values.min())))
    return {name: min(values) for name, values in found.items()}


def notes(request: Request, found: dict[str, Any]) -> list[str]:
    """Sentences that a reader of the result should know."""
    said = []
    best, work = found["best"], request.workload
    if work.osl == 1:
        said.append("osl 1: there is no TPOT with one output token, and nothing to decode apart")
    if best["gpus_idle"]:
        said.append(
            f"{best['gpus_idle']} of {request.gpus} GPUs stay idle in the best configuration; "
            "rates per GPU count them, costs do not"
        )
    inside = best["batch"] * best["workers"]
    if best["mode"] == "agg" and best["concurrency"] > inside:
        said.append(
            f"the KV cache holds {inside:,} of {best['concurrency']:,} requests: "
            "the others wait, and TTFT is their queue"
        )
    if work.images:
        said.append(
            f"{work.images} are encoded before their prompt: their time is in TTFT; decoding and "
            "resizing them on the CPU is not predicted"
        )
    said += _streamed(best)
    said += _replay_misses(request, found)
    pairs = zip(request.platforms, request.decode_platforms, strict=True)
    reasons = [refused(request.specs, pair, request.kv_dtype) for pair in pairs]
    said += [f"not compared: {reason}" for reason in reasons if reason]
    if request.left_out:
        said.append(
            f"not compared: {', '.join(request.left_out)}; --precision or the checkpoint's "
            "own name includes one"
        )
    if found["origins"]["fallback"] > _MANY_FALLBACKS:
        said.append(
            f"{found['origins']['fallback']:.0%} of the time is a speed-of-light fallback: "
            "no measured table covers it, trust the answer less"
        )
    used = next(s for s in request.specs if s.checkpoint == best["model"])
    return said + [f"{used.name}: {note}" for note in used.notes]


def _streamed(best: dict[str, Any]) -> list[str]:
    """Whether one server of the best would stream more tokens than measured ones did."""
    each = best["output_tok_per_s"] / best["workers"]
    if each <= _STREAMED:
        return []
    return [
        f"each server would stream {each:,.0f} tok/s: measured ones saturate at 13,000 "
        "(TensorRT-LLM 1.0rc) to 20,000 (SGLang 0.5.6) unless they send several tokens at a time"
    ]


def _replay_misses(request: Request, found: dict[str, Any]) -> list[str]:
    """What the replays of the winners changed, and targets that they broke all the same."""
    if not found.get("targets_met"):  # an estimate has none
        return []
    limits = {"ttft_ms": request.sla.ttft, "tpot_ms": request.sla.tpot}
    said = []
    for mode, seen in (found.get("replayed") or {}).items():
        name = "disaggregated" if mode == "disagg" else "aggregated"
        if seen is None:
            if found.get(f"best_{mode}"):
                said.append(
                    f"the best {name} configuration was not replayed (too many users at once, or "
                    "a prefix that is shared): its targets hold in the steady state alone"
                )
            continue
        if seen["passed"]:
            said.append(
                f"{name}: {seen['passed']} that the search ranks higher broke a target when "
                "replayed, and stand behind"
            )
        said += [
            f"replayed, the best {name} configuration has a mean {_FIELDS[field]} of "
            f"{seen[f'{field}_mean']:,.1f} ms, over the target of {to_ms(limit):g} ms"
            for field, limit in limits.items()
            if seen[f"{field}_mean"] > to_ms(limit) * TOLERANCE
        ]
    return said
