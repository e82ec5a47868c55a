"""Candidates as records with full names and human units: what CSV, JSON and pandas show."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiconf.search.confidence import intervals, probabilities
from aiconf.search.request import Request
from aiconf.search.search import (
    Found,
    Side,
    cost_per_million,
    hourly_cost,
    latency,
    meets,
    output_rate,
)
from aiconf.search.workers import Variant
from aiconf.units import to_ms


def columns(request: Request, side: Side) -> dict[str, Any]:
    """All candidates of a side, one array per field (times in ms, rates per second)."""
    found = side.candidates
    osl = request.workload.osl
    layout = _gathered(side.variants, found.variant)
    blank = [""] * len(found)
    before = (
        _gathered(side.prefill_variants, found.prefill_variant)
        if side.mode == "disagg"
        else {"layout": blank, "gpus": np.zeros(len(found)), "system": blank}
    )
    with np.errstate(divide="ignore"):
        speed = 1.0 / found.tpot
    named = {
        "mode": [side.mode] * len(found),
        "backend": [side.backend] * len(found),
        "backend_version": layout["version"],
        "model": layout["checkpoint"],
        "precision": layout["precision"],
        "kv_dtype": layout["kv_dtype"],
        "system": layout["system"],
        "layout": layout["layout"],
        "gpus_per_worker": layout["gpus"],
        "workers": found.workers.astype(int),
        "batch": found.batch.astype(int),
        "token_budget": found.token_budget.astype(int),
        "prefill_system": before["system"],
        "prefill_layout": before["layout"],
        "prefill_gpus_per_worker": np.asarray(before["gpus"]).astype(int),
        "prefill_workers": found.prefill_workers.astype(int),
        "prefill_batch": found.prefill_batch.astype(int),
        "prefill_token_budget": found.prefill_token_budget.astype(int),
        "gpus": found.gpus.astype(int),
        "gpus_idle": (request.gpus - found.gpus).astype(int),
        "concurrency": found.concurrency.astype(int),
        "ttft_ms": to_ms(found.ttft),
        "tpot_ms": to_ms(found.tpot),
        "latency_ms": to_ms(latency(request, found)),
        "request_per_s": found.request_rate,
        "output_tok_per_s": found.request_rate * osl,
        "output_tok_per_s_per_gpu": output_rate(request, found),
        "tok_per_s_per_user": speed,
        "kv_transfer_ms": to_ms(found.transfer),
        "load": found.load,
        "usd_per_hour": hourly_cost(side),
        "usd_per_million_output_tok": cost_per_million(request, side),
        "meets_targets": meets(request, side),
    }
    return named | _certainty(request, side, named)


def _gathered(variants: list[Variant], place: Any) -> dict[str, Any]:
    def each(values: list[Any]) -> Any:
        return np.array(values, dtype=object)[place]

    return {
        "layout": each([str(v.parallel) for v in variants]),
        "gpus": np.array([v.parallel.gpus for v in variants])[place],
        "checkpoint": each([v.spec.checkpoint for v in variants]),
        "precision": each([v.spec.precision for v in variants]),
        "kv_dtype": each([v.kv_dtype for v in variants]),
        "system": each([v.platform.system.name for v in variants]),
        "version": each([v.platform.version for v in variants]),
    }


def record(request: Request, found: Found) -> dict[str, Any]:
    """One candidate as plain Python values (NaN becomes None)."""
    single = Side(
        found.side.mode,
        found.side.backend,
        found.side.candidates.take(np.array([found.place])),
        found.side.variants,
        found.side.prefill_variants,
    )
    plain = {}
    for name, value in columns(request, single).items():
        entry = value[0]
        entry = entry.item() if isinstance(entry, np.generic) else entry
        plain[name] = None if isinstance(entry, float) and not np.isfinite(entry) else entry
    return plain


_BOUNDED = {"ttft": "ttft_ms", "tpot": "tpot_ms", "output": "output_tok_per_s_per_gpu"}


def _certainty(request: Request, side: Side, found: dict[str, Any]) -> dict[str, Any]:
    """Bounds of 80 % intervals, and the probability of meeting the targets.

    NaN where the calibration says nothing.
    """
    factors = intervals(side, request.workload)
    said: dict[str, Any] = {}
    for metric, name in _BOUNDED.items():
        for end, factor in zip(("lo", "hi"), factors[metric], strict=True):
            said[f"{name}_{end}"] = found[name] * factor
    said["probability"] = probabilities(side, request.workload, request.sla)
    return said
