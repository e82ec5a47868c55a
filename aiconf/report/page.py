"""Results as HTML, for Jupyter."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from aiconf.report.style import Style
from aiconf.report.table import Column, cell
from aiconf.report.text import (
    MEMORY,
    NAMES,
    describe,
    figures_of,
    headline,
    input_lines,
    part_rows,
    shares,
    top_columns,
    top_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORDS = Style(unicode=True)


def search_page(found: dict[str, Any], figure: Figure) -> str:
    """Return a search document as HTML: inputs, winner, tables, Pareto front, breakdown, notes."""
    parts = [_inputs(found), *(f"<h4>{escape(line)}</h4>" for line in headline(found))]
    for mode in ("agg", "disagg"):
        if found["top"][mode]:
            rows = top_rows(found, mode)
            parts.append(f"<b>Top {len(rows)} {NAMES[mode]}</b>")
            parts.append(_table(top_columns(found, rows, mode), rows))
    parts.append(_picture(figure))
    return _page([*parts, _breakdown(found), _notes(found)])


def estimate_page(found: dict[str, Any]) -> str:
    """Return an estimate document as HTML: inputs, prediction, memory, breakdown, notes."""
    best = found["best"]
    said = "<br>".join(escape(line.strip()) for line in [describe(best), *figures_of(best)])
    memory = f"<b>Memory of the fullest GPU, GiB</b>{_table(MEMORY, found['memory'])}"
    return _page([_inputs(found), f"<p>{said}</p>", memory, _breakdown(found), _notes(found)])


def _page(parts: Iterable[str]) -> str:
    return f'<div class="aiconf">{"".join(parts)}</div>'


def _inputs(found: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in input_lines(found, _WORDS)
    )
    return f"<table>{rows}</table>"


def _table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    def line(tag: str, texts: Iterable[str]) -> str:
        cells = "".join(
            f'<{tag} style="text-align:{"left" if c.digits is None else "right"}">'
            f"{escape(text)}</{tag}>"
            for c, text in zip(columns, texts, strict=True)
        )
        return f"<tr>{cells}</tr>"

    body = "".join(line("td", [cell(row.get(c.field), c.digits) for c in columns]) for row in rows)
    return f"<table>{line('th', [c.title for c in columns])}{body}</table>"


def _picture(figure: Figure) -> str:
    from aiconf.report.figure import png

    data = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="Pareto front" style="max-width:100%" src="data:image/png;base64,{data}">'


def _breakdown(found: dict[str, Any]) -> str:
    columns = [Column("part", "part"), Column("ms", "ms", 3), Column("percent", "%", 1)]
    blocks = []
    for one in found["iterations"]:
        rows = [
            {"part": label, "ms": ms, "percent": 100 * share} for label, ms, share in part_rows(one)
        ]
        head = f"{one['name']}: {one['ms']:.2f} ms; {shares(one['origins'])}"
        blocks.append(f"<p>{escape(head)}</p>{_table(columns, rows)}")
    total = f"<p>All together: {escape(shares(found['origins']))}</p>"
    return f"<details><summary>Where the time goes</summary>{''.join(blocks)}{total}</details>"


def _notes(found: dict[str, Any]) -> str:
    return "".join(f"<p><i>{escape(note)}</i></p>" for note in found["notes"])
