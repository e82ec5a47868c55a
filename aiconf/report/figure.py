"""The Pareto front as a matplotlib figure, without pyplot and its global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aiconf.report.table import number
from aiconf.report.text import images_text

# Okabe and Ito's palette, which colour-blind readers can tell apart; markers differ too.
_LINES = {"agg": ("#0072B2", "o", "aggregated"), "disagg": ("#D55E00", "s", "disaggregated")}


class ParetoFigure(Figure):
    """A figure that Jupyter shows although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return png(self)


def pareto_figure(found: dict[str, Any]) -> Figure:
    """Draw the fronts of a search document: output tokens/s/GPU against tokens/s/user.

    Parameters
    ----------
    found
        Document of a search (see ``aiconf.report.document``).

    Returns
    -------
    matplotlib.figure.Figure
        Both modes, the TPOT target as a vertical line, the winner as a star.
    """
    figure = ParetoFigure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for mode, (colour, marker, label) in _LINES.items():
        front = found["pareto"].get(mode)
        if front:
            x = [point["tok_per_s_per_user"] for point in front]
            y = [point["output_tok_per_s_per_gpu"] for point in front]
            axes.plot(x, y, color=colour, marker=marker, markersize=3.5, lw=1.2, label=label)
    _target(axes, found)
    _winner(axes, found)
    inputs = found["inputs"]
    traffic = f"{inputs['isl']}{images_text(inputs)} in, {inputs['osl']} out"
    title = f"{inputs['model']} on {inputs['total_gpus']} x {inputs['system']}, {traffic}"
    axes.set_title(title, fontsize=min(11.0, 11.0 * 68 / len(title)))  # 68 characters fill a line
    axes.set_xlabel("tokens/s per user")
    axes.set_ylabel("output tokens/s per GPU")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    return figure


def _target(axes: Axes, found: dict[str, Any]) -> None:
    tpot = found["inputs"]["targets"]["tpot_ms"]
    if tpot:
        axes.axvline(1000.0 / tpot, color="0.35", ls="--", lw=1, label=f"TPOT target {tpot:g} ms")


def _winner(axes: Axes, found: dict[str, Any]) -> None:
    best = found["best"]
    speed, rate = best["tok_per_s_per_user"], best["output_tok_per_s_per_gpu"]
    if speed is not None:
        name = "best" if found["targets_met"] else "closest to the targets"
        label = f"{name}: {number(rate, 0)} at {number(speed, 0)}"
        axes.plot(
            [speed], [rate], ls="", marker="*", markersize=14, color="#F0E442",
            markeredgecolor="black", label=label, zorder=5,
        )  # fmt: skip


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    return data.getvalue()


def write_figures(figure: Figure, folder: Path) -> None:
    """Write ``pareto.png`` and ``pareto.svg``; the same figure always gives the same bytes."""
    (folder / "pareto.png").write_bytes(png(figure, dpi=150))
    with mpl.rc_context({"svg.hashsalt": "aiconf"}):  # else ids in the file are random
        figure.savefig(folder / "pareto.svg", format="svg", metadata={"Date": None})
