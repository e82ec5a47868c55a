"""Which checkpoints are answered, and from what: every config.json of a folder on every engine.

    python benchmarks/models.py FOLDER [--systems h200_sxm,gb200,gb300] [--markdown]

FOLDER holds ``OWNER--NAME_config.json`` with ``OWNER--NAME_hf_quant_config.json`` beside it, as
the package aiconfigurator-core keeps them in ``model_configs``, or a folder with config.json per
checkpoint. Each is estimated on the fewest GPUs that hold it (`aiconf.report.coverage`); shown is
how much of that time was measured, interpolated, or fallback.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiconf.engine.platform import platform
from aiconf.engine.traits import backend_names
from aiconf.errors import UserError
from aiconf.model.checkpoint import build, read_config
from aiconf.model.library import checkpoints
from aiconf.model.spec import ModelSpec
from aiconf.report.coverage import coverage

SYSTEMS = "h200_sxm,gb200,gb300"
_ENDING = "_config.json"
_QUANTISED = "_hf_quant_config.json"


@dataclass(frozen=True)
class Read:
    """A checkpoint of the folder, or why it was refused; ``named``: its id resolves by itself."""

    identifier: str
    spec: ModelSpec | None
    problem: str = ""
    named: bool = False


def read(folder: Path) -> Iterator[Read]:
    """Read every checkpoint of a folder."""
    for path in sorted(folder.glob(f"*{_ENDING}")):
        if not path.name.endswith(_QUANTISED):
            yield _one(path.name.removesuffix(_ENDING).replace("--", "/"), path)
    for path in sorted(folder.glob("*/config.json")):
        yield _one(path.parent.name, path)


def _one(identifier: str, path: Path) -> Read:
    try:
        named = bool(checkpoints(identifier)) if "/" in identifier else False
    except UserError:
        named = False
    try:
        if path.name == "config.json":
            return Read(identifier, read_config(path, identifier), named=named)
        beside = path.with_name(path.name.replace(_ENDING, _QUANTISED))
        quantised = json.loads(beside.read_text("utf-8")) if beside.is_file() else None
        figures = json.loads(path.read_text("utf-8"))
        return Read(identifier, build(figures, quantised, path.name, identifier), named=named)
    except UserError as refusal:
        return Read(identifier, None, str(refusal), named)


def _cell(found: dict[str, Any]) -> str:
    """GPUs, then per cent measured / interpolated / fallback."""
    if found["measured"] is None:
        return "-"
    shares = (round(100 * found[name]) for name in ("measured", "interpolated", "fallback"))
    return f"{found['gpus']}: {'/'.join(str(share) for share in shares)}"


def _print(header: list[str], rows: list[list[str]], markdown: bool) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    edge = "| " if markdown else ""
    between = " | " if markdown else "  "
    for index, row in enumerate([header, *rows]):
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print(edge + between.join(cells) + (" |" if markdown else ""))
        if markdown and not index:
            print("|---" * len(header) + "|")


def main() -> None:
    """Print the table, what was not answered, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--systems", default=SYSTEMS)
    parser.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args()
    places = [(s, b) for s in chosen.systems.split(",") for b in backend_names()]
    header = ["checkpoint", "by name", *(f"{system} {backend}" for system, backend in places)]
    rows, problems, counts = [], [], Counter[str]()
    for entry in read(chosen.folder):
        counts["configs"] += 1
        counts["resolved by name"] += entry.named
        row = [entry.identifier, "yes" if entry.named else "no"]
        if entry.spec is None:
            problems.append(f"{entry.identifier}: refused: {entry.problem}")
            rows.append([*row, *("refused" for _ in places)])
            continue
        counts["read"] += 1
        for system, backend in places:
            found = coverage(entry.spec, platform(system, backend))
            row.append(_cell(found))
            counts["points"] += 1
            if found["measured"] is None:
                problems.append(f"{entry.identifier} on {system} {backend}: {found['reason']}")
            else:
                counts["answered"] += 1
                counts["fallback only"] += found["fallback"] > 0.99
        rows.append(row)
    _print(header, rows, chosen.markdown)
    print("\nGPUs of the smallest layout: per cent of its time measured/interpolated/fallback")
    print("\n".join(["", "Not answered", *(problems or ["none"]), ""]))
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
