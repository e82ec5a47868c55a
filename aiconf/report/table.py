"""Plain text tables and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiconf.report.style import Style

_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Column:
    """A column: field of the records, heading, and how a number is written."""

    field: str
    title: str
    digits: int | None = None  # None: text, to the left; else decimals, to the right


def number(value: float | None, digits: int) -> str:
    """Write a number with thousands separators; ``-`` where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def cell(value: Any, digits: int | None) -> str:
    """Write a field of a record."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if digits is None else number(float(value), digits)


def table(columns: Sequence[Column], records: Sequence[dict[str, Any]], indent: str = "") -> str:
    """Lay out ``records`` under ``columns``; texts to the left, numbers to the right."""
    rows = [[column.title for column in columns]]
    rows += [[cell(record.get(c.field), c.digits) for c in columns] for record in records]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if column.digits is None else text.rjust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def bar(share: float, width: int, style: Style) -> str:
    """Draw ``share`` (0 to 1) as a bar of at most ``width`` characters, padded to it."""
    share = min(max(share, 0.0), 1.0)
    if not style.unicode:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return (_EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
