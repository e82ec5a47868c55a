"""``aiconf runs``: predictions against measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiconf.cli.options import Calibration, one_of, whole

if TYPE_CHECKING:
    from aiconf.engine.calibration import Calibration as Fitted
    from aiconf.runs.check import Checked

app = typer.Typer(
    name="runs", help="Compare predictions with measured runs.", no_args_is_help=True,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip

_REASONS = 12  # of rows not predicted, in the table; JSON has all of them


@app.callback()
def _root() -> None:
    """Compare predictions with measured runs."""


@app.command()
def check(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="CSV of measured runs, AIPerf JSON or JSONL, "
                       "vllm bench serve JSON, SGLang bench_serving JSONL, InferenceX JSON."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CSV", help="All rows with predictions.")
    ] = None,
    output: Annotated[
        str, typer.Option("--format", parser=one_of("table", "json"), metavar="table|json")
    ] = "table",
    model: Annotated[str, typer.Option(metavar="NAME", help="Model, where not stated.")] = "",
    system: Annotated[str, typer.Option(metavar="NAME", help="System, where not stated.")] = "",
    backend: Annotated[str, typer.Option(metavar="NAME", help="Engine, where not stated.")] = "",
    backend_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Engine version, where not stated.")
    ] = "",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="Precision, where not stated.")
    ] = "",
    layout: Annotated[
        str,
        typer.Option(metavar="LAYOUT", help="Layout (tp2pp1dp1ep2) of a worker, or of a decode "
                     "worker, where not stated."),
    ] = "",
    workers: Annotated[int, typer.Option(help="Workers of --layout.")] = 1,
    prefill_layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="Layout of a prefill worker: disaggregated.")
    ] = "",
    prefill_workers: Annotated[int, typer.Option(help="Workers of --prefill-layout.")] = 1,
    concurrency: Annotated[
        str, typer.Option(metavar="USERS", help="Users of a closed loop, where not stated.")
    ] = "",
    calibration: Calibration = None,
) -> None:  # fmt: skip
    """Predict every row of measured runs by replay and print the error.

    Benchmark clients do not record what was deployed: for their files, say it with --model,
    --system, --backend and --layout.
    """
    from aiconf.cli.arguments import require_target
    from aiconf.runs.check import check as predicted
    from aiconf.runs.read import read_rows
    from aiconf.runs.write import write_csv

    given = {
        "model": model, "hardware": system, "backend": backend, "precision": precision,
        "backend_version": backend_version, "concurrency_or_rate": concurrency,
    }  # fmt: skip
    given |= _layout_cells(layout, workers, prefill_layout, prefill_workers)
    stated = {name: value for name, value in given.items() if value}
    if out is not None:
        require_target(out, files)
    rows = [row for path in files for row in read_rows(path, stated)]
    checked = predicted(rows, calibration)
    if out is not None:
        write_csv(out, checked)
    _show(checked, output)


@app.command()
def calibrate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Measured runs, as `runs check` reads them."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.yaml", help="Where the calibration goes.")
    ],
    seed: Annotated[
        int, typer.Option("--seed", parser=whole, metavar="N", help="Of the runs that are drawn.")
    ] = 0,
    rows: Annotated[
        int,
        typer.Option("--rows", parser=whole, metavar="N",
                     help="Runs of a group that are fitted to, at most."),
    ] = 6,
) -> None:  # fmt: skip
    """Fit the physical parameters of the engines to measured runs.

    Use the result with --calibration. Every group of runs (hardware, model, backend, mode) is
    also predicted without having been fitted to: that is the error printed, and the interval
    of groups that nobody has measured.
    """
    from aiconf.cli.arguments import require_target
    from aiconf.runs.calibrate import calibrate as fitted
    from aiconf.runs.calibration_file import write_calibration
    from aiconf.workload import require_whole

    require_whole("seed", seed, 0)
    require_whole("rows", rows, 1)
    require_target(out, files)
    found, _ = fitted(files, seed=seed, rows=rows, progress=partial(typer.echo, err=True))
    write_calibration(out, found)
    typer.echo("Error on groups left out of the fit, in %\n")
    for metric, title in (("tpot", "TPOT"), ("ttft", "TTFT"), ("output", "output rate")):
        if f"{metric}_mean" in found.validation:
            mean, median = (found.validation[f"{metric}_{name}"] for name in ("mean", "median"))
            groups = found.validation[f"{metric}_groups"]
            typer.echo(f"  {title:12} mean {mean:6.1%}  median {median:6.1%}  {groups:.0f} groups")
    typer.echo("")
    for line in _parameters(found):
        typer.echo(line)
    typer.echo(f"\nwritten to {out}", err=True)


def _parameters(found: Fitted) -> list[str]:
    """Every parameter with its interval, one line each."""
    lines = []
    for engine in found.engines:
        host = f", {engine.cpu}" if engine.cpu else ""
        lines.append(f"{engine.backend}, sm {engine.sm[0]} to {engine.sm[1]}{host}")
        lines += [
            f"  {name:32} {one.value:10.4g}  ({one.low:.4g} to {one.high:.4g})"
            for name, one in engine.facts.items()
        ]
    return lines


def _layout_cells(
    layout: str, workers: int, prefill_layout: str, prefill_workers: int
) -> dict[str, str]:
    """The layout options as cells of a measured row."""
    from aiconf.errors import UserError
    from aiconf.parallel import Parallel

    if min(workers, prefill_workers) < 1:
        raise UserError("--workers and --prefill-workers must be at least 1")
    if not layout:
        if prefill_layout:
            raise UserError("--prefill-layout needs --layout for the decode workers")
        return {}
    one = Parallel.parse(layout)
    if not prefill_layout:
        return {
            "serving_mode": "agg", "tp": str(one.tp), "pp": str(one.pp), "dp": str(one.dp),
            "ep": str(one.ep), "num_gpus": str(one.gpus * workers),
        }  # fmt: skip
    before = Parallel.parse(prefill_layout)
    sides = {"prefill_config": (before, prefill_workers), "decode_config": (one, workers)}
    return {"serving_mode": "disagg"} | {
        name: f"workers={count};tp={side.tp};pp={side.pp};dp={side.dp};ep={side.ep};"
        f"gpus={side.gpus * count}"
        for name, (side, count) in sides.items()
    }


def _show(checked: Sequence[Checked], output: str) -> None:
    import json

    from aiconf.runs.check import banded, grouped, reasons, summary

    total, groups, bands, why = (
        summary(checked), grouped(checked), banded(checked), reasons(checked)
    )  # fmt: skip
    if output == "json":
        found = {"total": total, "groups": groups, "concurrency": bands, "not_predicted": why}
        typer.echo(json.dumps(found, indent=2))
        return
    _tables(total, groups, bands, why)


def _tables(
    total: dict[str, Any],
    groups: list[dict[str, Any]],
    bands: list[dict[str, Any]],
    why: list[dict[str, Any]],
) -> None:
    from aiconf.report.table import Column, table

    figures = [Column("rows", "rows", 0), Column("coverage", "answered %", 0)]
    for metric, title in (("tpot", "TPOT"), ("ttft", "TTFT"), ("output", "output")):
        figures += [
            Column(f"{metric}_mean", f"{title} mean", 1), Column(f"{metric}_median", "median", 1),
            Column(f"{metric}_bias", "bias", 1), Column(f"{metric}_p90", "p90", 1),
            Column(f"{metric}_inside", "in 80 %", 0),
        ]  # fmt: skip
    names = [Column(name, name) for name in ("hardware", "backend", "model", "mode")]
    last = {"hardware": "all"} | total
    typer.echo("Error in % of the measured value (bias: mean signed error)\n")
    typer.echo(table([*names, *figures], [_percent(record) for record in [*groups, last]]))
    typer.echo("")
    typer.echo(table([Column("concurrency", "concurrency"), *figures], list(map(_percent, bands))))
    typer.echo(
        f"\n{total['rows']} rows: {total['ok']} predicted, {total['skipped']} skipped, "
        f"{total['unsupported']} unsupported"
    )
    for one in why[:_REASONS]:
        typer.echo(f"  {one['rows']:6d}  {one['status']}: {one['reason']}")
    if len(why) > _REASONS:
        rest = sum(one["rows"] for one in why[_REASONS:])
        typer.echo(f"  {rest:6d}  for {len(why) - _REASONS} other reasons (--format json)")


def _percent(record: dict[str, Any]) -> dict[str, Any]:
    shares = ("coverage", "mean", "median", "bias", "p90", "inside")
    return {
        name: value * 100 if isinstance(value, float) and name.endswith(shares) else value
        for name, value in record.items()
    }
