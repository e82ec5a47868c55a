"""``aiconf deploy diff``: two manifests in terms of serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiconf.cli.options import (
    Calibration,
    DecodeSystem,
    Isl,
    Osl,
    PerfDb,
    Prefix,
    one_of,
    whole,
)

if TYPE_CHECKING:
    from aiconf.deploy.difference import Difference

_FIGURES = (
    ("requests in flight", "concurrency", 0), ("output tok/s/GPU", "output_tok_per_s_per_gpu", 1),
    ("output tok/s", "output_tok_per_s", 0), ("TTFT ms", "ttft_ms", 1),
    ("TPOT ms", "tpot_ms", 2), ("request ms", "latency_ms", 0),
)  # fmt: skip


def diff(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="A", help="Manifest.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Manifest to compare with it.")],
    *,
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="NAME",
                     help="GPU system; default: what each manifest says."),
    ] = None,
    decode_system: DecodeSystem = None,
    isl: Isl = 4000,
    osl: Osl = 1000,
    prefix: Prefix = 0,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", parser=whole, metavar="N",
                     help="Requests in flight in each whole deployment; default: as many as "
                     "both let run."),
    ] = None,
    perf_db: PerfDb = None,
    calibration: Calibration = None,
    output: Annotated[
        str, typer.Option("--format", parser=one_of("table", "json"), metavar="table|json")
    ] = "table",
) -> None:  # fmt: skip
    """Compare two Dynamo manifests: layouts, batches, memory, versions, and what that does.

    Without --isl and --osl, both are asked about the lengths that A (else B) was written for.

    Exit code 0: they serve alike; 1: they differ; 2: one cannot be read or predicted.
    """
    from aiconf.deploy.difference import Difference, differences
    from aiconf.deploy.read.manifest import asked_lengths
    from aiconf.manifests import effect, read_manifest

    lengths = {"isl": isl, "osl": osl, "prefix": prefix}
    if not any(_is_given(context, name) for name in lengths):
        lengths |= asked_lengths(before) or asked_lengths(after)
    common: dict[str, Any] = {
        **lengths, "system": system,
        "decode_system": decode_system, "perf_db": perf_db, "calibration": calibration,
    }  # fmt: skip
    readings = [read_manifest(path, **common) for path in (before, after)]
    found = differences(*readings)
    seen = effect(readings[0], readings[1], concurrency)
    figures = [seen.a.best, seen.b.best]
    if not found and figures[0] != figures[1]:  # what differs has no name here, but an effect
        found = [Difference("", "predicted figures", "see below", "see below")]
    if output == "json":
        document = {
            "a": str(before), "b": str(after), "same": not found,
            "differences": [one.document() for one in found],
            "predicted": {"a": figures[0], "b": figures[1]},
            "notes": {"a": list(readings[0].notes), "b": list(readings[1].notes)},
        }  # fmt: skip
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        typer.echo(_text(before, after, found, figures), nl=False)
    if found:
        raise typer.Exit(1)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _text(
    before: Path, after: Path, found: list[Difference], figures: list[dict[str, Any]]
) -> str:
    from aiconf.deploy.read.printable import printable
    from aiconf.report.table import Column, table

    if not found:
        return printable(f"{before} and {after} serve alike") + "\n"
    rows = [one.document() for one in found]
    columns = (Column("where", "where"), Column("what", "what"),
               Column("before", "A"), Column("after", "B"))  # fmt: skip
    effects = [
        {"what": name, "before": f"{a:,.{digits}f}", "after": f"{b:,.{digits}f}",
         "change": f"{100.0 * (b / a - 1.0):+.1f} %"}
        for name, field, digits in _FIGURES
        if (a := figures[0][field]) and (b := figures[1][field])
    ]  # fmt: skip
    change = (*columns[1:], Column("change", "change"))
    head = f"A  {printable(str(before))}\nB  {printable(str(after))}\n"
    return (
        f"{head}\nWhat differs\n{table(columns, rows, '  ')}\n\n"
        f"Predicted effect\n{table(change, effects, '  ')}\n"
    )
