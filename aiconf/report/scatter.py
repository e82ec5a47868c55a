"""The Pareto front as characters: output tokens/s/GPU against tokens/s/user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aiconf.report.style import Style

Point = tuple[float, float]
_ASCII = {"agg": "o", "disagg": "x", "both": "*", "|": "|", "-": "-", "+": "+", "target": ":"}
_UNICODE = {"agg": "○", "disagg": "●", "both": "◉", "|": "│", "-": "─", "+": "└", "target": "┊"}
_MODES = ("agg", "disagg")
_LABELS = {"agg": "aggregated", "disagg": "disaggregated"}
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MARGIN = 9  # characters left of the axis


def ticks(top: float, most: int) -> list[float]:
    """Round numbers from 0 to ``top`` or just beyond it, at most ``most`` steps apart."""
    if not top > 0:
        return [0.0, 1.0]
    raw = top / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in _STEPS if power * s >= raw * (1 - 1e-9))
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def scatter(
    fronts: Mapping[str, Sequence[Point]],
    target: float | None,
    style: Style,
    width: int = 76,
    height: int = 16,
) -> str:
    """Draw the fronts of both modes.

    Parameters
    ----------
    fronts
        ``agg`` and ``disagg``: points (tokens/s/user, output tokens/s/GPU).
    target
        Tokens/s/user that the TPOT target asks for; a vertical line.
    width, height
        Characters of the plotting area, axes not counted.
    """
    points = [point for front in fronts.values() for point in front]
    if not points:
        return "  no Pareto front: there is no time per output token"
    marks = _UNICODE if style.unicode else _ASCII
    reach = max(x for x, _ in points)
    shown = target is not None and target <= 2.5 * reach
    right = ticks(max(reach, target or 0.0) if shown else reach, 8)
    upper = ticks(max(y for _, y in points), 4)
    grid = [[" "] * width for _ in range(height)]
    roles: dict[tuple[int, int], str] = {}
    if shown and target is not None:
        place = _place(target, right[-1], width)
        for row in range(height):
            grid[row][place], roles[row, place] = marks["target"], "target"
    for mode in _MODES:
        for x, y in fronts.get(mode, ()):
            spot = height - 1 - _place(y, upper[-1], height), _place(x, right[-1], width)
            role = "both" if roles.get(spot, mode) not in (mode, "target") else mode
            grid[spot[0]][spot[1]], roles[spot] = marks[role], role
    lines = [_legend(fronts, target, shown, marks, style), "  output tok/s/GPU"]
    lines += _rows(grid, roles, upper, marks, style)
    return "\n".join(lines + _axis(right, width, marks))


def _place(value: float, top: float, cells: int) -> int:
    return min(max(round(value / top * (cells - 1)), 0), cells - 1)


def _legend(
    fronts: Mapping[str, Sequence[Point]], target: float | None, shown: bool,
    marks: Mapping[str, str], style: Style,
) -> str:  # fmt: skip
    parts = [
        f"{style.paint(marks[mode], mode)} {_LABELS[mode]}" for mode in _MODES if fronts.get(mode)
    ]
    if len(parts) == 2:
        parts.append(f"{marks['both']} both")
    if target is not None:
        mark = style.paint(marks["target"], "target")
        where = f"TPOT target {1000 / target:g} ms = {target:.4g} tok/s/user"
        parts.append(f"{mark} {where}" if shown else f"({where} lies far to the right)")
    return "  " + "   ".join(parts)


def _rows(
    grid: list[list[str]], roles: Mapping[tuple[int, int], str], upper: Sequence[float],
    marks: Mapping[str, str], style: Style,
) -> list[str]:  # fmt: skip
    height = len(grid)
    labels = {height - 1 - _place(tick, upper[-1], height): f"{tick:,.6g}" for tick in upper}
    lines = []
    for row, cells in enumerate(grid):
        painted = [style.paint(c, roles.get((row, i), "")) for i, c in enumerate(cells)]
        head = f"{labels.get(row, ''):>{_MARGIN - 1}} "
        lines.append((head + marks["|"] + "".join(painted)).rstrip())
    return lines


def _axis(right: Sequence[float], width: int, marks: Mapping[str, str]) -> list[str]:
    """Draw the horizontal axis with its numbers and title."""
    numbers = [" "] * (width + 6)
    for tick in right:
        text = f"{tick:,.6g}"
        start = max(_place(tick, right[-1], width) - len(text) // 2, 0)
        numbers[start : start + len(text)] = text
    pad = " " * _MARGIN
    title = "tok/s/user"
    return [
        pad + marks["+"] + marks["-"] * width,
        pad + " " + "".join(numbers).rstrip(),
        pad + " " + title.rjust(width),
    ]
