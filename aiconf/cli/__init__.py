"""The command line: one Typer app, a file per command; it parses, calls and renders."""

from aiconf.cli.app import main

__all__ = ["main"]
