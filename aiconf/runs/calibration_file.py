"""Writing a calibration as YAML, so that it reads well and differs little between two fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from aiconf.engine.calibration import LEVELS, Calibration, Spread
from aiconf.resources import write_text

_HEAD = """\
# Calibration of aiconf: {what}
# Written by `aiconf runs calibrate`; value, low, high: the parameter and its 80 % interval.
# spreads: metric, mode, system, backend, model, least share of fallback, groups, rows, quantiles
# of ln(measured / predicted) at {levels}; on groups left out of the fit where no system is named.
"""


def write_calibration(path: Path, found: Calibration) -> None:
    """Write ``found`` to ``path``, atomically.

    Raises
    ------
    UserError
        When it cannot be written.
    """
    import yaml

    what = f"fitted to {sum(file.rows for file in found.files)} measured runs."
    head = _HEAD.format(what=what, levels=", ".join(map(str, LEVELS)))
    record = {
        "tool": found.tool,
        "seed": found.seed,
        "rows": found.rows,
        "files": [asdict(file) for file in found.files],
        "validation": dict(found.validation),
        "engines": [
            {
                "backend": engine.backend,
                "sm": list(engine.sm),
                **({"cpu": engine.cpu} if engine.cpu else {}),
                "facts": {name: asdict(one) for name, one in engine.facts.items()},
            }
            for engine in found.engines
        ],
    }
    text = yaml.safe_dump(record, sort_keys=False, width=120, default_flow_style=None)
    # A block of text: as nested YAML it would take ten times as long to read.
    block = "".join(f"  {line}\n" for line in _block(found.spreads).splitlines())
    write_text(path, f"{head}{text}spreads: |\n{block}" if block else f"{head}{text}spreads: ''\n")


def _block(spreads: Sequence[Spread]) -> str:
    """Spreads as one line each, in columns."""
    lines = []
    for one in spreads:
        group = [name or "-" for name in (one.system, one.backend, one.model)]
        counts = [f"{one.fallback:g}", str(one.groups), str(one.rows)]
        quantiles = [f"{value:.3f}" for value in one.quantiles]
        lines.append(" ".join([one.metric, one.mode, *group, *counts, *quantiles]))
    return "\n".join(lines) + "\n" if lines else ""
