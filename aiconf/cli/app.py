"""The entry point: finds the command, runs it, and turns what goes wrong into one line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from aiconf import __version__
from aiconf.cli.arguments import spelled, translated
from aiconf.errors import UserError, nearest

# Each command's module has one function, or a Typer app of its own. Only the module of the
# command that runs is imported: start-up is part of the speed.
_COMMANDS = {
    "cli": ("aiconf.cli.search", "search"),
    "estimate": ("aiconf.cli.estimate", "estimate"),
    "simulate": ("aiconf.cli.simulate", "simulate"),
    "support": ("aiconf.cli.support", "support"),
    "systems": ("aiconf.cli.listing", "systems"),
    "models": ("aiconf.cli.listing", "models"),
    "model": ("aiconf.cli.model", "app"),
    "runs": ("aiconf.cli.runs", "app"),
    "db": ("aiconf.cli.db", "app"),
    "deploy": ("aiconf.cli.deploy", "app"),
    "profile": ("aiconf.cli.profile", "app"),
}
# BadParameter is a usage error, which is a click exception, in click and in Typer's own copy.
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aiconf {__version__}")
        raise typer.Exit


def build(names: list[str]) -> typer.Typer:
    """Build the app with the commands ``names``."""
    app = typer.Typer(
        name="aiconf",
        help="Find, predict and deploy the best way to serve a model.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def _root(
        version: Annotated[
            bool,
            typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
        ] = False,
    ) -> None:
        """Find, predict and deploy the best way to serve a model."""

    for name in names:
        module, attribute = _COMMANDS[name]
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main(words: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit code: 0, 2 for bad input (one line on standard error), 130 when interrupted.
    """
    arguments = spelled(sys.argv[1:] if words is None else words)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone. Without this, Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a file that went away: the user's to mend
        return _complain(f"{error.strerror or error}{f': {error.filename}' * bool(error.filename)}")
    except KeyboardInterrupt:
        return 130
    return code


def _run(words: list[str]) -> int:
    try:
        words, notes = translated(words)
        if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
            raise _no_command(words[0])
        chosen = words[:1] if words and words[0] in _COMMANDS else list(_COMMANDS)
        run = typer.main.get_command(build(chosen))
        code = run.main(words, prog_name="aiconf", standalone_mode=False, obj=notes)
    except UserError as error:
        return _complain(str(error))
    except MemoryError:
        return _complain("the search space does not fit in memory: ask for fewer GPUs or one mode")
    except _CLICK_ERROR as error:
        return _complain_of(error)
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


def _no_command(name: str) -> UserError:
    near = nearest(name, _COMMANDS)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_COMMANDS)}"
    return UserError(f"unknown command '{name}': {hint}")


def _complain_of(error: Exception) -> int:
    """Say in one line what Typer found wrong, with the nearest option where one is unknown."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        typer.echo(getattr(error, "message", None) or error.ctx.get_help(), err=True)  # type: ignore[attr-defined]
        return 2
    option, known = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if option and known:
        near = nearest(option, known, limit=2) or known
        return _complain(f"no such option {option}: did you mean {' or '.join(near)}?")
    describe = getattr(error, "format_message", error.__str__)
    return _complain(str(describe()))


def _complain(message: str) -> int:
    line = " ".join(message.split())
    typer.echo(f"error: {line}", err=True)
    return 2
