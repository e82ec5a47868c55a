"""The document of a result as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiconf.report.scatter import scatter
from aiconf.report.style import Style
from aiconf.report.table import Column, bar, table

NAMES = {"agg": "aggregated", "disagg": "disaggregated"}
PARTS = {
    "gemm": "GEMM", "attention": "attention", "moe": "MoE", "communication": "communication",
    "memory": "memory ops", "overhead": "overhead",
}  # fmt: skip
_OBJECTIVES = {
    "throughput": "most output tok/s/GPU", "latency": "lowest request latency",
    "cost": "lowest cost per output token",
}  # fmt: skip
_COMMON = (
    Column("concurrency", "in flight", 0), Column("gpus", "GPUs", 0),
    Column("ttft_ms", "TTFT ms", 1), Column("tpot_ms", "TPOT ms", 2),
    Column("tok_per_s_per_user", "tok/s/user", 1),
    Column("output_tok_per_s_per_gpu", "tok/s/GPU", 1),
    Column("usd_per_million_output_tok", "$/M tok", 3),
)  # fmt: skip


def search_text(found: dict[str, Any], style: Style) -> str:
    """Everything of a search document, for a terminal."""
    blocks = [_inputs(found, style), _verdict(found, style)]
    for mode in ("agg", "disagg"):
        if found["top"][mode]:
            blocks.append(_top(found, mode, style))
    targets = found["inputs"]["targets"]
    blocks.append(_titled("Pareto front", front_text(found["pareto"], targets, style), style))
    blocks.append(_iterations(found, "winner", style))
    return "\n\n".join(blocks + _notes(found, style)) + "\n"


def estimate_text(found: dict[str, Any], style: Style) -> str:
    """Everything of an estimate document, for a terminal."""
    best = found["best"]
    lines = [f"  {describe(best)}", *_figures(best)]
    memory = table(
        [
            Column("worker", "worker"), Column("layout", "layout"),
            Column("total_gib", "total", 1), Column("reserved_gib", "reserved", 1),
            Column("weights_gib", "weights", 1), Column("activations_gib", "activations", 1),
            Column("graphs_gib", "graphs", 1), Column("kv_cache_gib", "KV cache", 1),
            Column("sequences", "requests that fit", 0),
        ],
        found["memory"],
        "  ",
    )  # fmt: skip
    blocks = [
        _inputs(found, style),
        _titled("Prediction", "\n".join(lines), style),
        _titled("Memory of the fullest GPU, GiB", memory, style),
        _iterations(found, "configuration", style),
    ]
    return "\n\n".join(blocks + _notes(found, style)) + "\n"


def describe(best: dict[str, Any]) -> str:
    """One configuration in a line: workers, layouts, checkpoint, engine."""
    workers = f"{best['workers']} x {best['layout']}"
    if best["mode"] == "disagg":
        before = f"{best['prefill_workers']} x prefill {best['prefill_layout']}"
        workers = f"{before} + {best['workers']} x decode {best['layout']}"
    idle = f" ({best['gpus_idle']} idle)" if best["gpus_idle"] else ""
    engine = f"{best['backend']} {best['backend_version']}"
    return f"{workers} on {best['gpus']} GPUs{idle}: {best['model']}, {engine}"


def front_text(
    pareto: dict[str, Sequence[dict[str, Any]]], targets: dict[str, Any], style: Style
) -> str:
    """Both fronts as characters."""
    fronts = {
        mode: [(p["tok_per_s_per_user"], p["output_tok_per_s_per_gpu"]) for p in points]
        for mode, points in pareto.items()
    }
    tpot = targets["tpot_ms"]
    wide = min(style.width, 110) - 16
    return scatter(fronts, 1000.0 / tpot if tpot else None, style, width=wide)


def _titled(title: str, body: str, style: Style) -> str:
    return f"{style.bold(title)}\n{body}"


def _inputs(found: dict[str, Any], style: Style) -> str:
    inputs = found["inputs"]
    systems = f"{inputs['total_gpus']} x {inputs['system']}"
    if inputs["decode_system"] != inputs["system"]:
        systems = f"{systems} (prefill) and {inputs['decode_system']} (decode)"
    cached = f", {inputs['prefix']} of the prompt cached" if inputs["prefix"] else ""
    engines = ", ".join(f"{b['title']} {b['version']}" for b in inputs["backends"])
    lines = [("Model", inputs["model"])]
    lines += [
        ("", f"{c['checkpoint']} ({c['precision']} weights, {c['kv_dtype']} KV cache)")
        for c in inputs["checkpoints"]
    ]
    lines[0:2] = [("Model", lines[1][1])]
    lines.append(("System", systems))
    lines.append(("Engine", f"{engines} (versions of the measured tables)"))
    lines.append(("Traffic", f"{inputs['isl']} input + {inputs['osl']} output tokens{cached}"))
    if "targets" in inputs:
        goal = _OBJECTIVES[inputs["objective"]]
        lines.append(("Targets", style.plain(f"{_targets(inputs['targets'])}; {goal}")))
        lines.append(("Searched", f"{found['evaluated']:,} configurations"))
    return "\n".join(f"{style.bold(f'{name:9}')} {text}" for name, text in lines)


def _targets(targets: dict[str, Any]) -> str:
    names = {"ttft_ms": "mean TTFT", "tpot_ms": "mean TPOT", "latency_ms": "request latency"}
    said = [f"{names[key]} ≤ {value:g} ms" for key, value in targets.items() if value is not None]
    return ", ".join(said) or "none"


def _verdict(found: dict[str, Any], style: Style) -> str:
    best = found["best"]
    mode = NAMES[best["mode"]]
    lines = []
    if found["targets_met"]:
        lines.append(style.bold(f"Best: {mode}, {found['comparison']['text']}"))
    else:
        lines.append(style.bold(f"No configuration meets the targets: {found['unmet']['text']}"))
        lines.append(style.bold(f"Closest: {mode}; {found['comparison']['text']}"))
    for name, label in (("best_agg", "aggregated"), ("best_disagg", "disaggregated")):
        if found[name]:
            lines += [f"  Best {label}: {describe(found[name])}", *_figures(found[name])]
    return "\n".join(lines)


def _figures(best: dict[str, Any]) -> list[str]:
    tpot = "no TPOT"
    if best["tpot_ms"] is not None:
        tpot = f"TPOT {best['tpot_ms']:.2f} ms ({best['tok_per_s_per_user']:.1f} tok/s/user)"
    return [
        f"    TTFT {best['ttft_ms']:.1f} ms, {tpot}, request {best['latency_ms']:,.0f} ms",
        f"    {best['output_tok_per_s_per_gpu']:,.1f} output tok/s/GPU, "
        f"{best['request_per_s']:.2f} requests/s with {best['concurrency']} in flight, "
        f"$ {best['usd_per_million_output_tok']:.3f} per million output tokens",
    ]


def _top(found: dict[str, Any], mode: str, style: Style) -> str:
    rows = []
    for place, best in enumerate(found["top"][mode], 1):
        kept = "" if best["meets_targets"] else "misses"
        rows.append(best | {"place": place, "kept": kept, "worker": _spelled(best, mode)})
    columns = [Column("place", "#", 0), Column("worker", "workers")]
    if len({row["precision"] for row in rows} | _precisions(found)) > 1:
        columns.append(Column("precision", "weights"))
    if len(found["inputs"]["backends"]) > 1:
        columns.append(Column("backend", "engine"))
    columns += [Column("token_budget", "budget", 0)] if mode == "agg" else []
    columns += _COMMON
    columns += [Column("kept", "targets")] if any(row["kept"] for row in rows) else []
    title = f"Top {len(rows)} {NAMES[mode]}"
    return _titled(title, table(columns, rows, "  "), style)


def _precisions(found: dict[str, Any]) -> set[str]:
    return {one["precision"] for one in found["inputs"]["checkpoints"]}


def _spelled(best: dict[str, Any], mode: str) -> str:
    if mode == "agg":
        return f"{best['workers']} x {best['layout']}"
    before = f"{best['prefill_workers']} x {best['prefill_layout']}"
    return f"{before} + {best['workers']} x {best['layout']}"


def _iterations(found: dict[str, Any], what: str, style: Style) -> str:
    lines = []
    for one in found["iterations"]:
        often = f", {one['share']:.0%} of the iterations" if one["share"] < 1 else ""
        lines.append(f"  {one['name']}: {one['ms']:.2f} ms{often}; {_shares(one['origins'])}")
        for part, label in PARTS.items():
            ms = one["parts_ms"][part]
            if ms > 0:
                share = ms / one["ms"]
                drawn = bar(share, 40, style)
                lines.append(f"    {label:13} {ms:9.3f} ms  {share:6.1%}  {drawn}".rstrip())
    lines.append(f"  All together: {_shares(found['origins'])}")
    return _titled(f"Where the time goes in the {what}", "\n".join(lines), style)


def _shares(origins: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {name}" for name, share in origins.items())


def _notes(found: dict[str, Any], style: Style) -> list[str]:
    if not found["notes"]:
        return []
    return [_titled("Notes", "\n".join(f"  {note}" for note in found["notes"]), style)]
