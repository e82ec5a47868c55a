"""``aiconf deploy``: Dynamo manifests, ours or anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiconf.cli.deploy_diff import diff
from aiconf.cli.options import one_of

if TYPE_CHECKING:
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
) -> None:
    """Check manifests as Dynamo's operator, the engines' parsers and the GPUs would.

    Exit code 0: clean; 1: problems; 2: a file could not be read.
    """
    from aiconf.deploy.validate.check import check

    found = check(paths, dynamo_version)
    if output == "json":
        _print_json(found.problems, found.unreadable, found.documents)
    else:
        for problem in found.problems:
            typer.echo(_line(problem))
        typer.echo(_summary(found.problems, found.documents), err=bool(found.problems))
    for message in found.unreadable:
        typer.echo(f"error: {message}", err=True)
    if found.unreadable:
        raise typer.Exit(2)
    if any(problem.level == "error" for problem in found.problems):
        raise typer.Exit(1)


def _line(problem: Problem) -> str:
    mark = "warning: " if problem.level == "warning" else ""
    fix = f"; fix: {problem.fix}" if problem.fix else ""
    line = " ".join(f"{problem.source}: {problem.path}: {mark}{problem.what}{fix}".split())
    # A manifest's own text must not steer the terminal.
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _summary(problems: tuple[Problem, ...], graphs: int) -> str:
    errors = sum(problem.level == "error" for problem in problems)
    warnings = len(problems) - errors
    told = f"{graphs} Dynamo {'document' if graphs == 1 else 'documents'}: "
    told += f"{errors} {'problem' if errors == 1 else 'problems'}" if errors else "clean"
    return told + (f", {warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else "")


def _print_json(problems: tuple[Problem, ...], unreadable: tuple[str, ...], graphs: int) -> None:
    import json
    from dataclasses import asdict

    found = {
        "documents": graphs,
        "problems": [asdict(problem) for problem in problems],
        "unreadable": list(unreadable),
    }
    typer.echo(json.dumps(found, indent=2))
