"""``aiconf model show``: the architecture of one model as the tool understands it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from aiconf.cli.options import KvDtype, Output, PerfDb, Precision, System, terminal, whole

app = typer.Typer(no_args_is_help=True, help="What one model is, and which tables answer for it.")


@app.callback()
def _group() -> None:
    """What one model is, and which tables answer for it."""


@app.command()
def show(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="Name, Hugging Face id, or folder of a model."),
    ],
    system: System = "h200_sxm",
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="L",
                     help="Of one worker, like tp4; default: the fewest GPUs that hold it."),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="vllm, sglang or trtllm.")
    ] = "vllm",
    precision: Precision = None,
    kv_dtype: KvDtype = None,
    context: Annotated[
        int, typer.Option("--context", parser=whole, metavar="N", help="Tokens of a sequence.")
    ] = 4096,
    perf_db: PerfDb = None,
    output: Output = "table",
) -> None:  # fmt: skip
    """Print a model's blocks, weights, memory and operators, and the tables that time them."""
    from aiconf.engine.platform import platform
    from aiconf.model.library import checkpoints, load_model
    from aiconf.perf.store import PerfDb as Database
    from aiconf.report.architecture import architecture
    from aiconf.report.architecture_text import architecture_text
    from aiconf.report.rows import csv_text
    from aiconf.search.request import require_kv_dtype

    require_kv_dtype(kv_dtype)
    spec = load_model(model, precision)
    others = tuple(s.checkpoint for s in checkpoints(model) if s.checkpoint != spec.checkpoint)
    found = architecture(
        spec, platform(system, backend, perf_db), Database.open(perf_db), layout=layout,
        kv_dtype=kv_dtype, context=context, others=others,
    )  # fmt: skip
    if output == "json":
        typer.echo(json.dumps(found, indent=2))
    elif output == "csv":
        typer.echo(csv_text(found["operators"]), nl=False)
    else:
        typer.echo(architecture_text(found, terminal()), nl=False)
