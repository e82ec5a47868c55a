"""``aiconf deploy``: Dynamo manifests, ours or anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiconf.cli.deploy_diff import diff
from aiconf.cli.options import one_of

if TYPE_CHECKING:
    from aiconf.deploy.validate.check import Found
    from aiconf.deploy.validate.problem import Problem

app = typer.Typer(
    name="deploy", help="Check Dynamo manifests.", no_args_is_help=True,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip


@app.callback()
def _root() -> None:
    """Check Dynamo manifests."""


app.command("diff")(diff)


@app.command()
def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Manifests, or folders that are searched for them."),
    ],
    output: Annotated[
        str, typer.Option("--format", parser=one_of("table", "json"), metavar="table|json")
    ] = "table",
    dynamo_version: Annotated[
        str | None,
        typer.Option(metavar="X.Y.Z", help="Release of Dynamo's operator; default: the newest."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")] = False,
) -> None:
    """Check manifests as Dynamo's operator, the engines' parsers and the GPUs would.

    Exit code 0: no error; 1: errors; 2: a file could not be read, and no other had errors.
    """
    from aiconf.deploy.validate.check import check

    found = check(paths, dynamo_version)
    shown = tuple(one for one in found.problems if one.level == "error" or not quiet)
    if output == "json":
        _print_json(shown, found.unreadable, found.documents)
    else:
        for problem in shown:
            typer.echo(_line(problem))
    for message in found.unreadable:
        typer.echo(f"error: {message}", err=True)
    if output != "json":
        is_clean = not found.problems and not found.unreadable
        typer.echo(_summary(found), err=not is_clean)
    if any(problem.level == "error" for problem in found.problems):
        raise typer.Exit(1)
    if found.unreadable:
        raise typer.Exit(2)


def _line(problem: Problem) -> str:
    fix = f"; fix: {problem.fix}" if problem.fix else ""
    path = problem.path
    if problem.component:  # spec.components[2] says little
        place, end, rest = path.partition("]")
        path = f"{place}{end} ({problem.component}){rest}"
    line = " ".join(f"{problem.source}: {path}: {problem.level}: {problem.what}{fix}".split())
    # A manifest's own text must not steer the terminal.
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _summary(found: Found) -> str:
    errors = sum(problem.level == "error" for problem in found.problems)
    counts = {"error": errors, "warning": len(found.problems) - errors}
    told = [_counted(count, name) for name, count in counts.items() if count]
    if found.unreadable:
        told.insert(0, f"{_counted(len(found.unreadable), 'file')} not readable")
    documents = _counted(found.documents, "Dynamo document")
    return f"{documents}: {', '.join(told) or 'clean'}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" + ("" if count == 1 else "s")


def _print_json(problems: tuple[Problem, ...], unreadable: tuple[str, ...], graphs: int) -> None:
    import json
    from dataclasses import asdict

    found = {
        "documents": graphs,
        "problems": [asdict(problem) for problem in problems],
        "unreadable": list(unreadable),
    }
    typer.echo(json.dumps(found, indent=2))
