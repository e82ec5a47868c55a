"""``aiconf profile engine``: a vLLM or SGLang server with dummy weights, seen from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiconf.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from profilers.device import Device
    from profilers.engine.settings import Settings


def engine(
    model: Annotated[
        str, typer.Argument(help="Model that aiconf knows, or folder with a config.json.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for all results.")],
    backend: Annotated[str, typer.Option(metavar="vllm|sglang")] = "vllm",
    layout: Annotated[str, typer.Option(help="Parallel layout, such as tp2 or tp1dp8ep8.")] = "tp1",
    load: Annotated[
        list[str] | None,
        typer.Option(metavar="USERS:ISL:OSL", help="Operating point to measure; may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few compositions of a batch.")] = False,
    budget: Annotated[str, typer.Option(metavar="20m", help="Time to spend.")] = "",
    max_model_len: Annotated[
        int, typer.Option(help="Tokens of one request; 0: 20480, or its most.")
    ] = 0,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens of one iteration.")] = 8192,
    max_num_seqs: Annotated[int, typer.Option(help="Sequences at once; 0: its default.")] = 0,
    memory: Annotated[
        float, typer.Option(help="Share of the GPU's memory that it takes; 0: its default.")
    ] = 0.0,
    flag: Annotated[
        list[str] | None,
        typer.Option(metavar="--X=Y", help="Flag of the engine, as it is; may be repeated."),
    ] = None,
    url: Annotated[
        str, typer.Option(metavar="http://HOST:PORT", help="Measure a server that runs already.")
    ] = "",
    port: Annotated[int, typer.Option(help="Of the server; 0: a free one.")] = 0,
    start_timeout: Annotated[str, typer.Option(metavar="30m")] = "30m",
    system: Annotated[
        str, typer.Option(metavar="NAME", help="What the GPU must be, or FILE.yaml.")
    ] = "",
    allow_busy: Annotated[bool, typer.Option("--allow-busy")] = False,
) -> None:
    """Measure iterations and operating points of an engine through its server.

    No weights and no network are needed: the engine starts with dummy weights, from a config.json
    and a tokenizer that are made. Stop with Ctrl-C at any time and go on with `resume`.
    """
    from aiconf.cli.profile import _findable, _seconds
    from aiconf.parallel import Parallel
    from profilers import journal
    from profilers.engine.points import load_of
    from profilers.engine.settings import Settings

    if journal.exists(out):
        raise UserError(f"{out} holds a run: go on with `aiconf profile resume {out}`")
    settings = Settings(
        backend, model, Parallel.parse(layout), url, port=port, context=max_model_len,
        budget=max_num_batched_tokens, sequences=max_num_seqs, memory=memory,
        extra=tuple(flag or ()), quick=quick, loads=tuple(load_of(text) for text in load or ()),
        limit=_seconds(budget), patience=_seconds(start_timeout) or 1800.0,
        system=_findable(system),
    )  # fmt: skip
    measure(settings, out, None, allow_busy)


def go_on(asked: Mapping[str, Any], out: Path, limit: float | None, allow_busy: bool) -> None:
    """Go on with a run, as its journal says what was asked for."""
    from profilers.engine.settings import Settings

    measure(Settings.of(asked), out, limit, allow_busy)


def measure(settings: Settings, out: Path, limit: float | None, allow_busy: bool) -> None:
    """Measure or go on, and write tables and operating points."""
    from profilers.engine import run
    from profilers.engine.server import require
    from profilers.engine.settings import spec_of
    from profilers.watch import require_idle

    spec_of(settings)
    if not settings.url:
        require(settings.backend)
    device = _device(settings)
    if not allow_busy and not settings.url:
        require_idle(device.uuid, device.index)
    whole = run.run(settings, device, out, _say(), limit=limit)
    for line in run.finish(out):
        typer.echo(line)
    if not whole:
        typer.echo(f"stopped; go on with `aiconf profile resume {out}`", err=True)
        raise typer.Exit(130)


def _device(settings: Settings) -> Device:
    from profilers.engine.gpu import device

    return device(settings.system, remote=bool(settings.url))


def _say() -> Callable[[str], None]:
    return typer.echo
