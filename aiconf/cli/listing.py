"""``aiconf systems`` and ``aiconf models``: what is known, with its figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from aiconf.cli.options import Output, PerfDb

if TYPE_CHECKING:
    from aiconf.report.table import Column


def systems(perf_db: PerfDb = None, output: Output = "table") -> None:
    """List the GPU systems and the engines that were measured on them."""
    from aiconf.engine.traits import backend_names
    from aiconf.perf.store import PerfDb as Database
    from aiconf.report.catalog import SYSTEMS, system_records
    from aiconf.system import system_names

    database = Database.open(perf_db)
    measured = {
        (system, backend): version
        for system in system_names()
        for backend in backend_names()
        if (version := database.version(system, backend))
    }
    show(SYSTEMS, system_records(measured), output)


def models(output: Output = "table") -> None:
    """List the embedded models; any config.json of their architectures works too."""
    from aiconf.report.catalog import MODELS, model_records

    show(MODELS, model_records(), output)


def show(columns: Sequence[Column], records: list[dict[str, Any]], output: str) -> None:
    """Print records as a table (without columns that are empty throughout), JSON or CSV."""
    from aiconf.report.rows import csv_text
    from aiconf.report.table import table

    if output == "json":
        typer.echo(json.dumps(records, indent=2))
    elif output == "csv":
        typer.echo(csv_text(records), nl=False)
    else:
        used = [c for c in columns if any(r.get(c.field) not in (None, "") for r in records)]
        typer.echo(table(used, records))
