"""Results as plain data: everything that is printed, and what JSON output holds.

The document of a search (times in ms, rates per second, sizes in GPUs and tokens):

``aiconf``
    Version of this program.
``inputs``
    ``model``, ``checkpoints`` (list of ``checkpoint``, ``precision``, ``kv_dtype``), ``system``,
    ``decode_system``, ``total_gpus``, ``isl`` (text), ``osl``, ``prefix``, ``images`` (only where
    there are any: ``count``, ``width``, ``height``, ``patches`` and ``tokens`` of one, which come
    in addition to ``isl``), ``backends`` (list of
    ``backend``, ``title``, ``version`` of the tables), ``mode``, ``objective``, ``targets``
    (``ttft_ms``, ``tpot_ms``, ``latency_ms``; null where there is none), ``confidence`` (null:
    the predictions themselves must meet the targets).
``evaluated``
    How many configurations were predicted.
``targets_met``
    Whether any configuration meets every target. If false, all others are the closest ones.
``best``, ``best_agg``, ``best_disagg``
    A candidate, under the field names of the CSV, with the bounds ``_lo`` and ``_hi`` of 80 %
    intervals of ``ttft_ms``, ``tpot_ms`` and ``output_tok_per_s_per_gpu`` and the
    ``probability`` of meeting all targets (null where the calibration does not know); null
    where the mode has none.
``comparison``
    ``winner`` (agg or disagg), ``measure`` (a field name), ``ratio`` (how many times better the
    winner is; null when only one mode has a candidate that counts), ``text``.
``replayed``
    ``agg`` and ``disagg``: the best of each replayed request by request: ``ttft_ms`` and
    ``tpot_ms`` with ``_mean``, ``_p50`` and ``_p99``, and ``attained``, the share of requests
    that keep the targets one by one, and ``passed``, how many finalists stood before it whose
    replay broke a target; null where there is none or the replay cannot.
``top``
    ``agg`` and ``disagg``: lists of candidates, best first.
``pareto``
    ``agg`` and ``disagg``: candidates by falling ``tok_per_s_per_user``.
``iterations``
    Of the winner: list of ``name``, ``share`` of the iterations, ``ms``, ``parts_ms`` by part,
    ``origins`` (shares).
``origins``
    Shares of the winner's time that were ``measured``, ``interpolated`` or a ``fallback``.
``unmet``
    null, or ``text``, ``breaking`` (names of targets) and ``lowest`` (per target, ms).
``notes``
    Sentences.
``baseline``
    Only with a manifest to compare with: its ``file``, ``today`` (a candidate: the operating
    point of that deployment that serves the objective best within the targets), whether it
    ``meets_targets`` there, and of the best over it ``throughput_ratio`` (output tok/s/GPU),
    ``ttft_ratio``, ``tpot_ratio``; ``notes``: how the manifest was read.

The document of an estimate has ``aiconf``, ``inputs`` (without mode and objective; ``targets``
only where there are some), ``best``, ``iterations``, ``origins``, ``memory`` and ``notes``.
``memory``: per kind of worker, GiB of its fullest GPU by use, and ``sequences`` that its KV cache
holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from aiconf import __version__
from aiconf.engine.capacity import TIGHT
from aiconf.report.verdict import comparison, notes, unmet
from aiconf.search.candidates import pareto
from aiconf.search.explain import Iteration, explain, origins
from aiconf.search.finalists import Settled
from aiconf.search.request import Request
from aiconf.search.rows import columns, record
from aiconf.search.search import Found, Outcome, Side, frontier
from aiconf.search.workers import Variant
from aiconf.simulate.results import Summary
from aiconf.units import GIB, to_ms

MODES = ("agg", "disagg")
Record = dict[str, Any]


def search_document(settled: Settled) -> dict[str, Any]:
    """Everything that a search found (see the module docstring)."""
    outcome = settled.outcome
    request = outcome.request
    top = {mode: [record(request, found) for found in outcome.top[mode]] for mode in MODES}
    best = {mode: top[mode][0] if top[mode] else None for mode in MODES}
    found: dict[str, Any] = {
        "aiconf": __version__,
        "inputs": _inputs(request) | _goals(request),
        "evaluated": sum(len(side.candidates) for side in outcome.sides),
        "targets_met": outcome.met,
        "best": record(request, outcome.best),
        "best_agg": best["agg"],
        "best_disagg": best["disagg"],
        "top": top,
        "replayed": {
            mode: _replayed(settled.replays[mode], settled.passed[mode]) for mode in MODES
        },
        "pareto": {mode: front(outcome, mode) for mode in MODES},
        **_explained(request, outcome.best),
    }
    found["comparison"] = comparison(found)
    found["unmet"] = None if outcome.met else unmet(outcome, found["best"])
    found["notes"] = notes(request, found)
    return found


def estimate_document(request: Request, found: Found) -> dict[str, Any]:
    """Everything about one configuration (see the module docstring)."""
    document: dict[str, Any] = {
        "aiconf": __version__,
        "inputs": _inputs(request) | _asked(request),
        "best": record(request, found),
        **_explained(request, found),
        "memory": _memories(request, found),
    }
    document["notes"] = [*notes(request, document), *_tight(request, found)]
    return document


def _tight(request: Request, found: Found) -> list[str]:
    """Say when the sequences that run come near what memory holds."""
    variant, work = found.variant, request.workload
    rows = max(found.value("batch") / variant.parallel.dp, 1.0)
    room = variant.platform.capacity(
        variant.spec, variant.parallel, token_budget=int(found.value("token_budget")),
        max_sequences=max(round(rows), 1), kv_dtype=variant.kv_dtype,
        drafting=variant.speculation is not None, longest=work.isl + work.osl,
    )  # fmt: skip
    left = room.lasting - room.held(rows, work.isl, work.osl)
    if left >= TIGHT * room.total:
        return []
    return [
        f"{max(left, 0.0) / GIB:.1f} GiB per GPU are left beside {rows:.0f} sequences per rank: "
        f"within {TIGHT:.0%} of memory, which the search avoids; see --memory-margin"
    ]


def _inputs(request: Request) -> Record:
    work, first = request.workload, request.platforms[0]
    return {
        "model": ", ".join(dict.fromkeys(spec.name for spec in request.specs)),
        "checkpoints": [
            {
                "checkpoint": spec.checkpoint,
                "precision": spec.precision,
                "kv_dtype": request.kv_dtype or spec.quantization.kv,
            }
            for spec in request.specs
        ],
        "system": first.system.name,
        "decode_system": request.decode_platforms[0].system.name,
        "total_gpus": request.gpus,
        "isl": work.text,
        "osl": work.osl,
        "prefix": work.prefix,
        **({"images": asdict(work.images)} if work.images else {}),
        "backends": [
            {"backend": p.traits.name, "title": p.traits.title, "version": p.version}
            for p in request.platforms
        ],
    }


def _goals(request: Request) -> Record:
    return {
        "mode": request.mode,
        "objective": request.objective,
        "targets": _targets(request),
        "confidence": request.confidence,
    }


def _targets(request: Request) -> Record:
    sla = request.sla
    targets = {"ttft_ms": sla.ttft, "tpot_ms": sla.tpot, "latency_ms": sla.latency}
    return {name: None if math.isinf(value) else to_ms(value) for name, value in targets.items()}


def _asked(request: Request) -> Record:
    """Targets of an estimate, where it was given some."""
    targets = _targets(request)
    return {} if all(value is None for value in targets.values()) else {"targets": targets}


def _replayed(seen: Summary | None, passed: int) -> Record | None:
    """Means and tails of the first of a mode by replay, times in ms."""
    if seen is None:
        return None
    times = {"ttft_ms": seen.ttft, "tpot_ms": seen.tpot}
    return {
        f"{name}_{kind}": float(to_ms(getattr(spread, kind)))
        for name, spread in times.items()
        for kind in ("mean", "p50", "p99")
    } | {"attained": seen.attained, "passed": passed}


def front(outcome: Outcome, mode: str) -> list[Record]:
    """Pareto front of a mode over all backends, by falling tokens/s/user."""
    found: list[Record] = []
    for side in outcome.sides:
        if side.mode == mode:
            found += records(outcome.request, side, frontier(outcome.request, side))
    found = [point for point in found if point["tok_per_s_per_user"] is not None]
    speed = np.array([point["tok_per_s_per_user"] for point in found], dtype=np.float64)
    rate = np.array([point["output_tok_per_s_per_gpu"] for point in found], dtype=np.float64)
    return [found[place] for place in pareto(speed, rate)] if found else []


def records(request: Request, side: Side, places: Any) -> list[Record]:
    """Candidates of a side at ``places`` (indices) as plain records, all at once."""
    taken = side.candidates.take(places)
    part = Side(side.mode, side.backend, taken, side.variants, side.prefill_variants)
    found = columns(request, part)
    plain = {
        name: [_plain(v) for v in (values.tolist() if isinstance(values, np.ndarray) else values)]
        for name, values in found.items()
    }
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _explained(request: Request, found: Found) -> Record:
    iterations = explain(request, found)
    return {
        "iterations": [_iteration(one) for one in iterations],
        "origins": origins(iterations),
    }


def _iteration(one: Iteration) -> Record:
    return {
        "name": one.name,
        "share": one.share,
        "ms": to_ms(one.seconds),
        "parts_ms": {part: to_ms(seconds) for part, seconds in one.parts.items()},
        "origins": one.origins,
    }


def _memories(request: Request, found: Found) -> list[Record]:
    sides: list[tuple[str, Variant | None, str]] = [
        ("prefill", found.prefill_variant, "prefill_token_budget"),
        ("decode" if found.prefill_variant else "worker", found.variant, "token_budget"),
    ]
    return [
        _memory(request, role, variant, int(found.value(budget)))
        for role, variant, budget in sides
        if variant is not None
    ]


def _memory(request: Request, role: str, variant: Variant, budget: int) -> Record:
    platform, gpu = variant.platform, variant.platform.system.gpu
    most = platform.traits.max_sequences(gpu.memory_bytes, gpu.sm)
    room = platform.capacity(
        variant.spec, variant.parallel, token_budget=budget, max_sequences=most,
        kv_dtype=variant.kv_dtype, drafting=variant.speculation is not None,
        longest=request.workload.isl + request.workload.osl,
    )  # fmt: skip
    parts: Sequence[tuple[str, float]] = (
        ("total", room.total), ("reserved", room.reserved), ("weights", room.weights),
        ("activations", room.activations), ("graphs", room.graphs), ("kv_cache", room.kv),
    )  # fmt: skip
    ranks = variant.parallel.dp
    return {
        "worker": role,
        "layout": str(variant.parallel),
        **{f"{name}_gib": size / GIB for name, size in parts},
        "sequences": int(room.sequences(request.workload.isl, request.workload.osl)) * ranks,
    }
