"""The document of `architecture` as text for a terminal."""

from __future__ import annotations

from typing import Any

from aiconf.report.style import Style
from aiconf.report.table import Column, table

Document = dict[str, Any]
_BLOCKS = (
    Column("layers", "layers", 0), Column("attention", "attention"), Column("ffn", "feed-forward"),
)  # fmt: skip
_WEIGHTS = (
    Column("name", "class"), Column("precision", "stored as"),
    Column("parameters_billion", "params B", 3), Column("active_billion", "active B", 3),
    Column("gib", "GiB", 2),
)  # fmt: skip
_WORK = (
    Column("phase", "token of"), Column("gflop_per_token", "GFLOP", 2),
    Column("gb_per_token", "GB moved", 4), Column("flop_per_byte", "FLOP/byte", 1),
)  # fmt: skip
_MEMORY = (
    Column("layout", "layout"), Column("gpus", "GPUs", 0), Column("weights_gib", "weights", 1),
    Column("activations_gib", "activations", 1), Column("graphs_gib", "graphs", 1),
    Column("reserved_gib", "reserved", 1), Column("kv_cache_gib", "KV cache", 1),
    Column("kv_kb_per_token", "KV kB/token", 2), Column("state_mb", "state MB", 2),
    Column("sequences", "sequences that fit", 0),
)  # fmt: skip
_TABLES = (
    Column("table", "table"), Column("system", "measured on"),
    Column("version", "engine version"), Column("rows", "rows", 0),
    Column("date", "date"),
)  # fmt: skip
_LETTERS = {"measured": "m", "interpolated": "i", "fallback": "f"}


def architecture_text(found: Document, style: Style) -> str:
    """Everything of the document, for a terminal."""
    context, layout = found["context"], found["layout"]
    place = f"{found['backend_title']} {found['version']} on {found['system']}"
    blocks = [
        _head(found),
        _titled("Blocks", table(_BLOCKS, found["blocks"], "  "), style),
        _titled("Weights", table(_WEIGHTS, found["weights"], "  "), style),
        _titled(
            f"Work of one token behind {context:,} others", table(_WORK, found["work"], "  "), style
        ),
        _titled(
            f"Memory of the fullest GPU, GiB: {place}, sequences of {context:,} tokens",
            _memory(found["memory"]),
            style,
        ),
    ]
    if layout is None:
        blocks.append(f"It fits in no layout on {found['system']}: no operators to show.")
    else:
        title = f"Operators of one GPU under {layout}: ms of a whole pass, {place}"
        blocks += [
            _titled(title, _operators(found), style),
            _titled("Tables that answer", table(_TABLES, found["tables"], "  "), style),
        ]
    notes = found["model"]["notes"]
    if notes:
        blocks.append(_titled("Notes", "\n".join(f"  {note}" for note in notes), style))
    return "\n\n".join(blocks) + "\n"


def _titled(title: str, body: str, style: Style) -> str:
    return f"{style.bold(title)}\n{body}"


def _head(found: Document) -> str:
    model, cache = found["model"], found["cache"]
    lines = [
        ("Model", f"{model['checkpoint']} ({model['architecture']})"),
        ("Also", ", ".join(model["others"])),
        (
            "Shape",
            f"{model['layers']} layers, hidden {model['hidden']:,}, vocabulary "
            f"{model['vocab']:,}, context {model['max_context']:,}"
            + (f", MTP layers: {model['mtp_layers']}" if model["mtp_layers"] else ""),
        ),
        ("Weights", _weights(model)),
        ("Cache", _cache(cache)),
    ]
    return "\n".join(f"{name:10}{text}" for name, text in lines if text)


def _weights(model: Document) -> str:
    tied = "also the output head" if model["tied_embeddings"] else "not counted as active"
    return (
        f"{model['parameters'] / 1e9:,.2f} B parameters, "
        f"{model['active_parameters'] / 1e9:,.2f} B active per token; input embedding "
        f"{model['embedding_parameters'] / 1e9:.2f} B, {tied}; "
        f"checkpoint {model['checkpoint_bytes'] / 1e9:,.1f} GB"
    )


def _cache(cache: Document) -> str:
    windows = [
        f"{each['bytes_per_token'] / 1e3:,.2f} "
        + ("without end" if each["window"] is None else f"for {each['window']:,} tokens")
        for each in cache["by_window"]
        if each["bytes_per_token"]
    ]
    text = f"{cache['bytes_per_token'] / 1e3:,.2f} kB of {cache['kv_dtype']} KV per token"
    if any(each["window"] is not None for each in cache["by_window"]):
        text += f" ({' + '.join(windows)})"
    if cache["state_bytes"]:
        text += f"; {cache['state_bytes'] / 1e6:,.2f} MB of state per sequence"
    return text


def _memory(rooms: list[Document]) -> str:
    """Layouts that hold at least one sequence, and how many do not."""
    rows = [room for room in rooms if room["sequences"]]
    used = [c for c in _MEMORY if any(room.get(c.field) is not None for room in rows)]
    lines = [table(used, rows, "  ")] if rows else []
    if len(rows) < len(rooms):
        lines.append(f"  {len(rooms) - len(rows)} smaller layouts do not hold it")
    return "\n".join(lines)


def _operators(found: Document) -> str:
    """One line per operator: times per pass, ms and origin at each point, tables."""
    points = found["points"]
    columns = (
        Column("operator", "operator"), Column("shape", "shape"), Column("precision", "precision"),
        Column("times", "times", 0), *(Column(point, point, 3) for point in points),
        Column("origin", "from"), Column("tables", "tables"),
    )  # fmt: skip
    rows = [
        one
        | one["ms"]
        | {
            "origin": "".join(_letter(one["origins"][point]) for point in points),
            "tables": ", ".join(t.removeprefix(f"{found['backend']}/") for t in one["tables"]),
        }
        for one in found["operators"]
        if not one["fused"]
    ]
    totals = {total["point"]: total["ms"] for total in found["totals"]}
    rows.append({"operator": "together, without host time", **totals})
    shares = [
        f"  {total['point']:12} {total['measured_percent']:3.0f} % measured, "
        f"{total['interpolated_percent']:3.0f} % interpolated, "
        f"{total['fallback_percent']:3.0f} % fallback"
        for total in found["totals"]
    ]
    legend = "  from, one letter per point: m measured, i interpolated, f fallback, . no time"
    inside = dict.fromkeys(one["operator"] for one in found["operators"] if one["fused"])
    fused = [f"  inside other kernels of this engine: {', '.join(inside)}"] if inside else []
    return "\n".join([table(columns, rows, "  "), *fused, legend, *shares])


def _letter(shares: dict[str, float]) -> str:
    """Letter of the origin with most of the time."""
    return _LETTERS[max(shares, key=lambda kind: shares[kind])] if shares else "."
