"""``aiconf profile``: measure kernels of this machine into tables of perf_db."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiconf.cli.options import one_of
from aiconf.cli.profile_engine import engine, go_on
from aiconf.errors import UserError

if TYPE_CHECKING:
    from profilers.device import Device
    from profilers.plan import Job, Plan

app = typer.Typer(help="Measure kernels of this machine into perf_db tables.", no_args_is_help=True)
app.command("engine")(engine)

_Ops = Annotated[
    str, typer.Option("--ops", metavar="A,B", help="Operators (see `list`); default: all.")
]
_Backend = Annotated[
    str, typer.Option("--backend", metavar="A,B", help="Whose kernels; default: all that are here.")
]
_Quick = Annotated[bool, typer.Option("--quick", help="Few shapes: a first look at a machine.")]
_Budget = Annotated[
    str, typer.Option("--budget", metavar="20m", help="Time to spend: 90s, 20m or 2h.")
]
_DeviceKind = Annotated[
    str,
    typer.Option("--device", parser=one_of("cuda", "cpu"), metavar="cuda|cpu",
                 help="cpu: a rehearsal, whose tables are of the system `cpu`."),
]  # fmt: skip
_System = Annotated[
    str, typer.Option("--system", metavar="NAME", help="What the GPU must be, or FILE.yaml.")
]
_Known = Annotated[
    Path | None,
    typer.Option("--perf-db", metavar="DIR", help="Tables to refine: their rows count as known."),
]
_Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for journal and tables.")]
_Busy = Annotated[bool, typer.Option("--allow-busy", help="Measure though others use the GPU.")]
_Run = Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a run.")]
_RESTART = 2.0  # seconds of a budget that a restarted process would not measure in
_EVERY = 5.0  # seconds between lines of progress that nobody watches


@app.command("list")
def list_() -> None:
    """List operators, their tables and kernels, and what can run here."""
    from aiconf.cli.db import print_table
    from profilers import catalog

    device = _here()
    rows = [("OPERATOR", "TABLE", "BACKEND", "KERNEL", "HERE")]
    for operator in catalog.operators(()):
        for kernel in operator.kernels:
            why = kernel.missing(device) or "yes"
            rows.append((operator.name, operator.table, kernel.backend, kernel.name, why))
    print_table(rows, right=())


@app.command()
def plan(
    ops: _Ops = "", backend: _Backend = "", quick: _Quick = False, budget: _Budget = "",
    device: _DeviceKind = "cuda", system: _System = "", perf_db: _Known = None,
) -> None:  # fmt: skip
    """Print which points would be measured and how long that takes; measures nothing.

    With --system and no GPU here, the plan is that of the named system; then of the kernels
    that need no engine, unless --backend names others.
    """
    from profilers.device import detect, planned

    elsewhere, named = device == "cuda" and bool(system) and not _has_gpu(), bool(backend)
    backend = backend or ("torch,triton" if elsewhere else "")
    job = _job(ops, backend, quick, budget, 0, device, system, perf_db)
    _plan(job, planned(system) if elsewhere else detect(device, system), every=named)


@app.command()
def run(
    out: _Out, ops: _Ops = "", backend: _Backend = "", quick: _Quick = False, budget: _Budget = "",
    seed: Annotated[int, typer.Option(help="Of the random inputs.")] = 0,
    device: _DeviceKind = "cuda", system: _System = "", perf_db: _Known = None,
    allow_busy: _Busy = False,
) -> None:  # fmt: skip
    """Measure into --out; stop with Ctrl-C at any time and go on with `resume`."""
    from aiconf.perf.merge import holds_tables
    from profilers import journal
    from profilers.team import leads

    if leads() and journal.exists(out):
        raise UserError(f"{out} holds a run: go on with `aiconf profile resume {out}`")
    if leads() and holds_tables(out):
        raise UserError(
            f"{out} holds tables: measure into another folder, and lay them over these with "
            f"`aiconf profile import DIR --into {out}`"
        )
    job = _job(ops, backend, quick, budget, seed, device, system, perf_db)
    _measure(job, out, None, allow_busy)


@app.command()
def resume(out: _Run, budget: _Budget = "", allow_busy: _Busy = False) -> None:
    """Go on with a run that was stopped or killed; at most the point in hand was lost."""
    from profilers import journal
    from profilers.plan import Job

    asked = journal.read(out).records[0]
    if "engine" in asked:
        go_on(asked, out, _seconds(budget), allow_busy)
    else:
        _measure(Job.of(asked), out, _seconds(budget), allow_busy)


@app.command()
def status(out: _Run) -> None:
    """Say what a run has measured, refused and measured with."""
    from profilers.report import status_lines

    for line in status_lines(out):
        typer.echo(line)


@app.command("import")
def import_(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of finished runs.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="perf_db folder that takes them in.")],
) -> None:
    """Check runs, of other machines too, and lay their tables over those of a perf_db folder.

    A row of a run wins over one with the same key.
    """
    from aiconf.perf.merge import holds_tables, merge
    from profilers import journal
    from profilers.tables import finish

    for folder in runs:
        finish(folder)
        damage = journal.read(folder).damage
        if damage:
            typer.echo(f"{folder}: {damage}", err=True)
    for line in merge([*runs, *([into] if holds_tables(into) else [])], into):
        typer.echo(line)


def _job(
    ops: str, backend: str, quick: bool, budget: str, seed: int, device: str, system: str,
    perf_db: Path | None,
) -> Job:  # fmt: skip
    from profilers import catalog
    from profilers.plan import Job

    names, backends = _names(ops), _names(backend)
    catalog.operators(names)  # unknown names are said before the machine is looked at
    catalog.backends(backends)
    known = str(perf_db.resolve()) if perf_db else ""
    return Job(names, backends, quick, _seconds(budget), seed, device, _findable(system), known)


def _findable(system: str) -> str:
    """A system as a resumed run finds it from any folder: a file by its whole path."""
    return str(Path(system).resolve()) if system.endswith((".yaml", ".yml")) else system


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seconds(text: str) -> float | None:
    """Read 90s, 20m, 2h or a number of seconds."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip().lower())
    if not match or not float(match[1]):
        raise UserError(f"'{text}' is no time to spend: write 90s, 20m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _here() -> Device:
    """The GPU of this machine, or a CPU of which nothing is measured."""
    from profilers.device import Device, detect

    if _has_gpu():
        return detect("cuda")
    return Device("cpu", "", "cpu", 0, 0.0, 0.0, {}, 1.0, datasheet=False)


def _plan(job: Job, device: Device, *, shown: bool = True, every: bool = True) -> Plan:
    """Lay out the points of a job and say what they come to."""
    from profilers.plan import plan
    from profilers.report import plan_lines
    from profilers.timing import method_of

    found = plan(job, device, method_of(device.kind), every=every)
    for line in plan_lines(found, job) if shown else ():
        typer.echo(line)
    return found


def _measure(job: Job, out: Path, budget: float | None, allow_busy: bool) -> None:
    """Check the machine, show the plan, measure, and write the tables; under torchrun, on all
    ranks, of which the first one speaks and writes.
    """
    from profilers.device import detect
    from profilers.measure import LostDevice
    from profilers.run import run
    from profilers.tables import finish
    from profilers.team import local_rank, one_device, team
    from profilers.timing import method_of

    with team(job.device) as ranks:
        found_here = detect(job.device, job.system, local_rank(), idle=not allow_busy)
        device = one_device(found_here, ranks)
        asked = job if budget is None else replace(job, budget=budget)  # what is shown
        found = _plan(asked, device, shown=ranks.rank == 0)
        start, before = time.monotonic(), _points(out)
        say = _progress() if ranks.rank == 0 else lambda _line: None
        try:
            whole = run(
                job, found, device, method_of(device.kind), out, say, team=ranks, budget=budget
            )
        except LostDevice as lost:
            if ranks.size > 1:
                raise UserError(
                    f"a kernel broke a GPU's context ({lost}): go on with `resume`, under torchrun"
                ) from lost
            left = _left(job, budget, out, time.monotonic() - start)
            whole = spent = left is not None and left < _RESTART
            what = "the budget is spent" if spent else "starting again"
            say(f"a kernel broke the GPU's context ({lost}): {what}")
            if not spent:
                _again(out, None if budget is None else left)
        if ranks.rank:
            return
    if sys.stdout.isatty():
        typer.echo()
    if whole and _points(out) == before and found.points() > before:
        typer.echo("no point was measured: what is left of the budget pays for none", err=True)
    for place, rows in finish(out).items():
        typer.echo(f"{out}/{place}.parquet: {rows} rows")
    if not whole:
        typer.echo(f"stopped; go on with `aiconf profile resume {out}`", err=True)
        raise typer.Exit(130)


def _points(out: Path) -> int:
    """Points that a run has dealt with."""
    from profilers import journal

    if not journal.exists(out):
        return 0
    reading = journal.read(out)
    return len(reading.of("point")) + len(reading.of("refused"))


def _left(job: Job, budget: float | None, out: Path, spent: float) -> float | None:
    """Seconds left of what this session, or else the job, may take; None: no limit.

    spent: seconds of this session.
    """
    from profilers import journal

    if budget is not None:
        return budget - spent
    if job.budget is None:
        return None
    reading = journal.read(out)
    walls = (r["wall"] for r in (*reading.of("point"), *reading.of("refused")))
    return job.budget - float(sum(walls))


def _again(out: Path, budget: float | None) -> None:
    """Replace this process by one that resumes: a broken CUDA context cannot be repaired.

    budget: seconds for it; None: what is left of the job's.
    The GPU was found idle before; what is busy now is this process.
    """
    words = [sys.executable, "-m", "aiconf", "profile", "resume", str(out), "--allow-busy"]
    if budget is not None:
        words += ["--budget", f"{budget:.1f}s"]
    sys.stdout.flush()
    os.execv(sys.executable, words)


def _progress() -> Callable[[str], None]:
    """Show lines in place on a terminal; elsewhere one every few seconds, and every refusal."""
    last = -float("inf")

    def say(line: str) -> None:
        nonlocal last
        if sys.stdout.isatty():
            width = os.get_terminal_size().columns - 1
            typer.echo(f"\r\x1b[K{line[:width]}", nl=False)
        elif time.monotonic() - last > _EVERY or not line.endswith(" us"):
            last = time.monotonic()
            typer.echo(line)

    return say
