"""``aiconf support``: which models are covered by measured data, on what, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiconf.cli.listing import show
from aiconf.cli.options import Output, PerfDb, Precision

if TYPE_CHECKING:
    from aiconf.model.spec import ModelSpec

_ALL = ("all", "any", "auto")


def support(
    model: Annotated[
        str,
        typer.Option("--model", "--model-path", "--model-name", "--hf-id", metavar="NAME",
                     help="Name, id or folder; all: the usual checkpoint of every model."),
    ] = "all",
    system: Annotated[
        str, typer.Option("--system", metavar="NAME", help="Only this system.")
    ] = "all",
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="Only this engine.")
    ] = "all",
    precision: Precision = None,
    perf_db: PerfDb = None,
    output: Output = "table",
) -> None:  # fmt: skip
    """Say how far measured data cover a model: measured, interpolated or fallback.

    Shares are of the time of one point: 4000 + 1000 tokens, 32 requests in flight, on the
    fewest GPUs (a power of two) that hold the model.
    """
    from aiconf.engine.platform import platform
    from aiconf.engine.traits import backend_names
    from aiconf.report.coverage import COLUMNS, coverage
    from aiconf.system import system_names

    specs = _specs(model, precision)
    systems = system_names() if system.lower() in _ALL else (system,)
    backends = backend_names() if backend.lower() in _ALL else (backend,)
    records = []
    for name in systems:
        for engine in backends:
            joined = platform(name, engine, perf_db)
            records += [coverage(spec, joined) for spec in specs]
            joined.steps.clear()
    records.sort(key=lambda found: [spec.checkpoint for spec in specs].index(found["checkpoint"]))
    show(COLUMNS, records, output)


def _specs(model: str, precision: str | None) -> tuple[ModelSpec, ...]:
    from aiconf.errors import UserError
    from aiconf.model.library import checkpoints, in_precision, load_model, model_names

    if model.lower() not in _ALL:
        return checkpoints(model) if precision is None else (in_precision(model, precision),)
    if precision is None:
        return tuple(load_model(name) for name in model_names())
    found = []
    for name in model_names():
        try:
            found.append(load_model(name, precision))
        except UserError:
            continue  # this family has no such checkpoint
    if not found:
        raise UserError(f"no embedded model has a {precision} checkpoint")
    return tuple(found)
