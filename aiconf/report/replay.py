"""Results of a replay: document, text, and the table of its requests.

The document (times in ms, rates per second of the whole deployment):

``aiconf``; ``inputs``
    Version; what was replayed: ``model``, ``precision``, ``system``, ``backend``,
    ``backend_version``, ``mode``, ``layout``, ``workers``, ``gpus``, ``load``, ``requests``,
    ``warmup``, ``seed``, ``drafts`` and ``acceptance`` (null without drafts), ``targets``.
``times_ms``
    ``ttft``, ``tpot``, ``itl``, ``latency``, ``queued``: ``mean``, ``p50``, ``p90``, ``p95``,
    ``p99`` each; null where there is none.
``rates``
    ``requests``, ``output_tokens``, ``total_tokens``, ``output_tokens_per_gpu``, ``goodput``
    (requests that kept every target), ``attained`` (their share), ``duration_s``.
``engine``
    ``peak_kv``, ``preempted``, ``running``, ``waiting`` (means), ``iterations``.
``seconds``
    Per kind of worker: ``compute``, ``communication``, ``overhead``, ``idle``.
``timeline``
    Lists ``time_s``, ``running``, ``waiting``, ``kv`` (share of the cache).
``notes``
    Sentences.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aiconf import __version__
from aiconf.report.style import Style
from aiconf.report.table import Column, bar, table
from aiconf.simulate.demand import Demand
from aiconf.simulate.requests import Replay
from aiconf.simulate.results import Causes, Summary, summarize, timeline
from aiconf.simulate.scenario import Deployed, Scenario, run
from aiconf.units import to_ms
from aiconf.workload import Sla

_POINTS = 120  # of the timeline in the document
_TIMES = ("ttft", "tpot", "itl", "latency", "queued")
_NAMES = {
    "ttft": "TTFT", "tpot": "TPOT", "itl": "between tokens", "latency": "request",
    "queued": "queued",
}  # fmt: skip
_COLUMNS = (
    Column("name", "ms"), Column("mean", "mean", 2), Column("p50", "p50", 2),
    Column("p90", "p90", 2), Column("p95", "p95", 2), Column("p99", "p99", 2),
)  # fmt: skip
_CAUSES = ("compute", "communication", "overhead", "idle")
REQUEST_FIELDS = (
    "request", "warmup", "prompt_tokens", "output_tokens", "sent_s", "started_s",
    "first_token_s", "last_token_s", "ttft_ms", "tpot_ms", "latency_ms",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class ReplayResult:
    """What a replay showed. ``replay`` holds the single requests, ``summary`` the figures."""

    inputs: Mapping[str, Any]
    replay: Replay
    summary: Summary
    causes: Mapping[str, Causes]
    notes: tuple[str, ...] = ()

    @cached_property
    def document(self) -> dict[str, Any]:
        """Everything that is printed, as plain data (see the module docstring)."""
        found = self.summary
        states = timeline(self.replay, _POINTS)
        return {
            "aiconf": __version__,
            "inputs": dict(self.inputs),
            "times_ms": {
                name: {key: _finite(to_ms(v)) for key, v in asdict(getattr(found, name)).items()}
                for name in _TIMES
            },
            "rates": {
                "requests": found.request_rate,
                "output_tokens": found.output_rate,
                "total_tokens": found.total_rate,
                "output_tokens_per_gpu": found.output_rate / self.inputs["gpus"],
                "goodput": found.goodput,
                "attained": found.attained,
                "duration_s": found.duration,
            },
            "engine": {
                "peak_kv": found.peak_kv,
                "preempted": found.preempted,
                "running": found.running,
                "waiting": found.waiting,
                "iterations": self.replay.iterations,
            },
            "seconds": {role: asdict(split) for role, split in self.causes.items()},
            "timeline": {
                "time_s": states.time.tolist(),
                "running": states.running.tolist(),
                "waiting": states.waiting.tolist(),
                "kv": states.kv.tolist(),
            },
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document, indent=2, allow_nan=False)

    def to_text(self, style: Style | None = None) -> str:
        """Everything, as text for a terminal."""
        return replay_text(self.document, style or Style())

    def requests_csv(self) -> str:
        """The single requests as CSV, one row each, in the order they were sent."""
        replay = self.replay
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(REQUEST_FIELDS)
        columns = (
            np.arange(len(replay.sent)), replay.prompt, replay.output, replay.sent,
            replay.started, replay.first, replay.last, to_ms(replay.ttft), to_ms(replay.tpot),
            to_ms(replay.last - replay.sent),
        )  # fmt: skip
        for number, prompt, output, *times in zip(*(c.tolist() for c in columns), strict=True):
            written = ["" if math.isnan(t) else f"{t:.6f}" for t in times]
            warm = "yes" if number < replay.warmup else "no"
            writer.writerow([number, warm, prompt, output, *written])
        return out.getvalue()


def replay_result(deployed: Deployed, demand: Demand, sla: Sla, seed: int) -> ReplayResult:
    """Replay ``demand`` on ``deployed`` and collect what it showed."""
    done = run(deployed, demand, seed)
    place, kind = deployed.platform, deployed.speculation
    inputs = {
        "model": deployed.spec.name,
        "precision": deployed.spec.precision,
        "system": place.system.name,
        "backend": place.traits.name,
        "backend_version": place.version,
        "mode": "agg" if deployed.prefill_layout is None else "disagg",
        "layout": str(done.worker),
        "workers": deployed.workers,
        "prefill_layout": None if done.prefill is None else str(done.prefill),
        "prefill_workers": None if done.prefill is None else deployed.prefill_workers,
        "gpus": done.gpus,
        "deployed": _deployed(deployed, done),
        "load": demand.described,
        "requests": len(done.replay.sent),
        "warmup": demand.warmup,
        "seed": seed,
        "drafts": kind.drafts if kind else None,
        "acceptance": kind.acceptance if kind else None,
        "targets": {
            name: None if math.isinf(value) else to_ms(value)
            for name, value in (("ttft_ms", sla.ttft), ("tpot_ms", sla.tpot))
        },
    }
    said = (f"{deployed.spec.name}: {note}" for note in deployed.spec.notes)
    notes = (*demand.notes, *said)
    return ReplayResult(inputs, done.replay, summarize(done.replay, sla), done.causes, notes)


def _deployed(deployed: Deployed, done: Scenario) -> str:
    workers = f"{deployed.workers} x {done.worker}"
    if done.prefill is not None:
        before = f"{deployed.prefill_workers} x prefill {done.prefill}"
        workers = f"{before} + {deployed.workers} x decode {done.worker}"
    place = deployed.platform
    return (
        f"{workers} on {done.gpus} {place.system.name}: {deployed.spec.name} "
        f"({deployed.spec.precision}), {place.traits.title} {place.version}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def replay_text(found: Mapping[str, Any], style: Style) -> str:
    """The document of a replay, for a terminal."""
    inputs, rates, engine = found["inputs"], found["rates"], found["engine"]
    head = [
        f"  {inputs['deployed']}",
        f"  {inputs['load']}: {inputs['requests']:,} requests in {rates['duration_s']:,.1f} s",
    ]
    if inputs["drafts"]:
        head.append(
            f"  {inputs['drafts']} drafts per iteration, "
            f"{inputs['acceptance'] * 100:.0f} % of first drafts kept"
        )
    rows = [{"name": _NAMES[name], **found["times_ms"][name]} for name in _TIMES]
    goodput = (
        f"  goodput {rates['goodput']:,.2f} requests/s: {rates['attained'] * 100:.1f} % keep "
        f"{_targets(inputs['targets'], style)}"
    )
    lines = [
        f"  {rates['output_tokens']:,.1f} output tok/s ({rates['output_tokens_per_gpu']:,.1f} "
        f"per GPU), {rates['total_tokens']:,.1f} tok/s in all, {rates['requests']:,.2f} requests/s",
        *([goodput] if any(inputs["targets"].values()) else []),
        f"  {engine['running']:,.1f} decode and {engine['waiting']:,.1f} wait for their first "
        f"token on average; cache at most {engine['peak_kv'] * 100:.0f} % full; "
        f"{engine['preempted']:,} preempted",
    ]
    blocks = [
        _titled("Replay", "\n".join(head), style),
        _titled("Seen by requests", table(_COLUMNS, rows, "  "), style),
        _titled("Deployment", "\n".join(lines), style),
        _titled("Seconds of the workers", "\n".join(_seconds(found["seconds"], style)), style),
    ]
    if found["notes"]:
        blocks.append(_titled("Notes", "\n".join(f"  {n}" for n in found["notes"]), style))
    return "\n\n".join(blocks) + "\n"


def _titled(title: str, body: str, style: Style) -> str:
    return f"{style.bold(title)}\n{body}"


def _targets(targets: Mapping[str, float | None], style: Style) -> str:
    names = {"ttft_ms": "TTFT", "tpot_ms": "TPOT"}
    set_ = [f"{names[key]} ≤ {value:g} ms" for key, value in targets.items() if value is not None]
    return style.plain(", ".join(set_))


def _seconds(parts: Mapping[str, Mapping[str, float]], style: Style) -> list[str]:
    lines = []
    for role, split in parts.items():
        whole = max(sum(split.values()), 1e-12)
        for cause in _CAUSES:
            share = split[cause] / whole
            drawn = bar(share, 24, style)
            lines.append(f"  {role:8} {cause:14} {drawn} {share * 100:5.1f} %")
    return lines
