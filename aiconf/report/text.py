"""The document of a result as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiconf.report.baseline import baseline_lines
from aiconf.report.scatter import scatter
from aiconf.report.style import Style
from aiconf.report.table import Column, bar, table

Document = dict[str, Any]
NAMES = {"agg": "aggregated", "disagg": "disaggregated"}
_PARTS = {
    "gemm": "GEMM", "attention": "attention", "moe": "MoE", "communication": "communication",
    "memory": "memory ops", "vision": "vision tower", "overhead": "overhead",
}  # fmt: skip
_OBJECTIVES = {
    "throughput": "most output tok/s/GPU", "latency": "lowest request latency",
    "cost": "lowest cost per output token",
}  # fmt: skip
_TARGETS = {"ttft_ms": "mean TTFT", "tpot_ms": "mean TPOT", "latency_ms": "request latency"}
_COMMON = (
    Column("concurrency", "in flight", 0), Column("gpus", "GPUs", 0),
    Column("ttft_ms", "TTFT ms", 1), Column("tpot_ms", "TPOT ms", 2),
    Column("tok_per_s_per_user", "tok/s/user", 1),
    Column("output_tok_per_s_per_gpu", "tok/s/GPU", 1),
    Column("usd_per_million_output_tok", "$/M tok", 3),
)  # fmt: skip
MEMORY = (
    Column("worker", "worker"), Column("layout", "layout"), Column("total_gib", "total", 1),
    Column("reserved_gib", "reserved", 1), Column("weights_gib", "weights", 1),
    Column("activations_gib", "activations", 1), Column("graphs_gib", "graphs", 1),
    Column("kv_cache_gib", "KV cache", 1), Column("sequences", "requests that fit", 0),
)  # fmt: skip


def search_text(found: Document, style: Style) -> str:
    """Everything of a search document, for a terminal."""
    blocks = [_inputs(found, style), _verdict(found, style)]
    if "baseline" in found:
        body = "\n".join(f"  {line}" for line in baseline_lines(found["baseline"], found["best"]))
        blocks.append(_titled(f"Against {found['baseline']['file']}", body, style))
    for mode, name in NAMES.items():
        rows = top_rows(found, mode)
        if rows:
            body = table(top_columns(found, rows, mode), rows, "  ")
            blocks.append(_titled(f"Top {len(rows)} {name}", body, style))
    targets = found["inputs"]["targets"]
    blocks.append(_titled("Pareto front", _front(found["pareto"], targets, style), style))
    blocks.append(_iterations(found, "best" if found["targets_met"] else "closest", style))
    return "\n\n".join(blocks + _notes(found, style)) + "\n"


def estimate_text(found: Document, style: Style) -> str:
    """Everything of an estimate document, for a terminal."""
    best = found["best"]
    lines = [describe(best), *figures_of(best)]
    blocks = [
        _inputs(found, style),
        _titled("Prediction", "\n".join(f"  {line}" for line in lines), style),
        _titled("Memory of the fullest GPU, GiB", table(MEMORY, found["memory"], "  "), style),
        _iterations(found, "predicted", style),
    ]
    return "\n\n".join(blocks + _notes(found, style)) + "\n"


def describe(best: Document) -> str:
    """One configuration in a line: workers, layouts, checkpoint, engine."""
    workers = f"{best['workers']} x {best['layout']}"
    if best["mode"] == "disagg":
        before = f"{best['prefill_workers']} x prefill {best['prefill_layout']}"
        workers = f"{before} + {best['workers']} x decode {best['layout']}"
    idle = f" ({best['gpus_idle']} idle)" if best["gpus_idle"] else ""
    engine = f"{best['backend']} {best['backend_version']}"
    gpus = f"{best['gpus']} GPU{'s' * (best['gpus'] != 1)}{idle}"
    return f"{workers} on {gpus}: {best['model']}, {engine}"


def figures_of(best: Document) -> list[str]:
    """Times and rates of one configuration, and how sure they are."""
    tpot = "no TPOT"
    if best["tpot_ms"] is not None:
        tpot = f"TPOT {best['tpot_ms']:.2f} ms ({best['tok_per_s_per_user']:.1f} tok/s/user)"
    return [
        f"TTFT {best['ttft_ms']:,.1f} ms, {tpot}, request {best['latency_ms']:,.0f} ms",
        f"{best['output_tok_per_s_per_gpu']:,.1f} output tok/s/GPU, "
        f"{best['request_per_s']:,.2f} requests/s with {best['concurrency']:,} in flight, "
        f"$ {best['usd_per_million_output_tok']:.3f} per million output tokens",
        *_certainty(best),
    ]


def replay_of(seen: Document | None) -> list[str]:
    """What a replay of a configuration saw, in a line."""
    if seen is None:
        return []
    return [
        f"replayed: TTFT {seen['ttft_ms_mean']:,.1f} ms (p99 {seen['ttft_ms_p99']:,.0f}), "
        f"TPOT {seen['tpot_ms_mean']:.2f} ms (p99 {seen['tpot_ms_p99']:.2f})"
    ]


def _certainty(best: Document) -> list[str]:
    """The 80 % intervals of one configuration, where the calibration knows them."""
    said = [
        f"{name} {best[f'{field}_lo']:,.{digits}f} to {best[f'{field}_hi']:,.{digits}f} {unit}"
        for name, field, digits, unit in (
            ("TTFT", "ttft_ms", 0, "ms"), ("TPOT", "tpot_ms", 1, "ms"),
            ("rate", "output_tok_per_s_per_gpu", 0, "output tok/s/GPU"),
        )
        if best.get(f"{field}_lo") is not None
    ]  # fmt: skip
    return [f"80 % intervals: {', '.join(said)}"] if said else []


def headline(found: Document) -> list[str]:
    """Who wins, or that nothing meets the targets and what comes closest."""
    mode, text = NAMES[found["best"]["mode"]], found["comparison"]["text"]
    if found["targets_met"]:
        return [f"Best: {mode}{',' if found['comparison']['ratio'] else ';'} {text}"]
    return [
        f"No configuration meets the targets: {found['unmet']['text']}",
        f"Closest: {mode}; {text}",
    ]


def input_lines(found: Document, style: Style) -> list[tuple[str, str]]:
    """Inputs as understood: a name and a text each."""
    inputs = found["inputs"]
    checkpoints = [
        f"{c['checkpoint']} ({c['precision']} weights, {c['kv_dtype']} KV cache)"
        for c in inputs["checkpoints"]
    ]
    systems = f"{inputs['total_gpus']} x {inputs['system']}"
    if inputs["decode_system"] != inputs["system"]:
        systems = f"{systems} (prefill) and {inputs['decode_system']} (decode)"
    engines = ", ".join(f"{b['title']} {b['version']}" for b in inputs["backends"])
    cached = f", {inputs['prefix']} of the prompt already cached" if inputs["prefix"] else ""
    lines = [("Model" if not i else "", text) for i, text in enumerate(checkpoints)]
    lines.append(("System", systems))
    lines.append(("Engine", f"{engines} (version of the measured tables)"))
    shown = images_text(inputs)
    tokens = f"{inputs['isl']} input{shown} + {inputs['osl']} output tokens"
    lines.append(("Traffic", f"{tokens}{cached}"))
    if "targets" in inputs and "objective" not in inputs:
        lines.append(("Targets", style.plain(_kept(inputs["targets"], found["best"]))))
    elif "targets" in inputs:
        goal = _OBJECTIVES[inputs["objective"]]
        sure = inputs["confidence"]
        surely = "" if sure is None else f", all with a probability of {sure:.0%}"
        said = f"{_goals(inputs['targets'])}{surely}; {goal}"
        lines.append(("Targets", style.plain(said)))
        lines.append(("Searched", f"{found['evaluated']:,} configurations"))
    return lines


def top_rows(found: Document, mode: str) -> list[Document]:
    """The best of a mode, with what the table adds to a candidate."""
    rows = []
    for place, best in enumerate(found["top"][mode], 1):
        kept = "met" if best["meets_targets"] else "missed"
        chance = best.get("probability")
        rows.append(
            best | {"place": place, "kept": kept, "deployed": _spelled(best),
                    "chance": None if chance is None else 100.0 * chance}
        )  # fmt: skip
    return rows


def top_columns(found: Document, rows: Sequence[Document], mode: str) -> list[Column]:
    """Columns of the table of a mode; only those that tell the rows apart."""
    inputs = found["inputs"]
    columns = [Column("place", "#", 0), Column("deployed", "workers")]
    if len(inputs["checkpoints"]) > 1:
        columns.append(Column("precision", "weights"))
    if len(inputs["backends"]) > 1:
        columns.append(Column("backend", "engine"))
    columns += [Column("token_budget", "budget", 0)] if mode == "agg" else []
    columns += _COMMON
    if any(row["chance"] is not None for row in rows):
        columns.append(Column("chance", "P(met) %", 0))
    if any(row["kept"] == "missed" for row in rows):
        columns.append(Column("kept", "targets"))
    return columns


def part_rows(iteration: Document) -> list[tuple[str, float, float]]:
    """Name, ms and share of the parts of an iteration that take any time."""
    return [
        (label, iteration["parts_ms"][part], iteration["parts_ms"][part] / iteration["ms"])
        for part, label in _PARTS.items()
        if iteration["parts_ms"].get(part, 0.0) > 0
    ]


def images_text(inputs: Document) -> str:
    """Images of a request beside its text; empty where there are none."""
    images = inputs.get("images")
    if not images:
        return ""
    tokens = images["count"] * images["tokens"]
    size = f"{images['width']}x{images['height']}"
    return f" + {tokens} of {images['count']} x {size} images"


def shares(origins: dict[str, float]) -> str:
    """Shares by origin as a sentence."""
    return ", ".join(f"{share:.0%} {name}" for name, share in origins.items())


def _titled(title: str, body: str, style: Style) -> str:
    return f"{style.bold(title)}\n{body}"


def _inputs(found: Document, style: Style) -> str:
    lines = input_lines(found, style)
    return "\n".join(f"{style.bold(f'{name:9}')} {text}" for name, text in lines)


def _goals(targets: Document) -> str:
    said = [f"{_TARGETS[key]} ≤ {ms:g} ms" for key, ms in targets.items() if ms is not None]
    return ", ".join(said) or "none"


def _kept(targets: Document, best: Document) -> str:
    """Targets of an estimate, whether they are met, and how surely."""
    chance = best.get("probability")
    surely = "" if chance is None else f" (probability {chance:.0%})"
    return f"{_goals(targets)}: {'met' if best['meets_targets'] else 'missed'}{surely}"


def _verdict(found: Document, style: Style) -> str:
    lines = [style.bold(line) for line in headline(found)]
    for mode, name in NAMES.items():
        best = found[f"best_{mode}"]
        if best:
            rank = "Best" if best["meets_targets"] else "Closest"
            lines.append(f"  {rank} {name}: {describe(best)}")
            lines += [f"    {line}" for line in figures_of(best)]
            if best.get("probability") is not None:
                chance = f"{best['probability'] * 100:.0f} %"
                lines.append(f"    keeps all targets with a probability of {chance}")
            lines += [f"    {line}" for line in replay_of(found["replayed"][mode])]
    return "\n".join(lines)


def _spelled(best: Document) -> str:
    decode = f"{best['workers']} x {best['layout']}"
    if best["mode"] == "agg":
        return decode
    return f"{best['prefill_workers']} x {best['prefill_layout']} + {decode}"


def _front(pareto: dict[str, Sequence[Document]], targets: Document, style: Style) -> str:
    fronts = {
        mode: [(p["tok_per_s_per_user"], p["output_tok_per_s_per_gpu"]) for p in points]
        for mode, points in pareto.items()
    }
    tpot = targets["tpot_ms"]
    wide = min(style.width, 110) - 16
    return scatter(fronts, 1000.0 / tpot if tpot else None, style, width=wide)


def _iterations(found: Document, what: str, style: Style) -> str:
    lines = []
    for one in found["iterations"]:
        often = f", {one['share']:.0%} of the iterations" if one["share"] < 1 else ""
        lines.append(f"  {one['name']}: {one['ms']:.2f} ms{often}; {shares(one['origins'])}")
        for label, ms, share in part_rows(one):
            drawn = bar(share, 40, style)
            lines.append(f"    {label:13} {ms:9.3f} ms  {share:6.1%}  {drawn}".rstrip())
    lines.append(f"  All together: {shares(found['origins'])}")
    return _titled(f"Where the time goes in the {what} configuration", "\n".join(lines), style)


def _notes(found: Document, style: Style) -> list[str]:
    if not found["notes"]:
        return []
    return [_titled("Notes", "\n".join(f"  {note}" for note in found["notes"]), style)]
