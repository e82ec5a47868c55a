"""``aiconf cli``: the main job, from a model and GPUs to the best deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from aiconf.cli.deployment import (
    DiskCache,
    DynamoVersion,
    HostCache,
    Image,
    MemoryMargin,
    ModelCache,
    Name,
    Orchestrator,
    Planner,
    Rdma,
    Router,
    TokenSecret,
    deploy_options,
    remarks,
)
from aiconf.cli.options import (
    BackendVersion,
    Calibration,
    DecodeSystem,
    Force,
    ImageCount,
    ImageSize,
    Isl,
    KvDtype,
    Model,
    Osl,
    Output,
    PerfDb,
    Precision,
    Prefix,
    System,
    amount,
    one_of,
    terminal,
    version_or_none,
    whole,
)
from aiconf.errors import UserError

if TYPE_CHECKING:
    from aiconf.report.result import SearchResult
    from aiconf.search.request import Mode, Objective

_MODES = {"any": "any", "auto": "any", "all": "any", "agg": "agg", "disagg": "disagg"}
_OBJECTIVES = ("throughput", "latency", "cost")
_TTFT, _TPOT = 2000.0, 30.0  # ms; AIConfigurator's defaults, so that both answer the same question


def search(
    context: typer.Context,
    model: Model,
    total_gpus: Annotated[
        int, typer.Option("--total-gpus", parser=whole, metavar="N", help="GPUs that may be used.")
    ],
    system: System,
    *,
    isl: Isl = 4000,
    osl: Osl = 1000,
    prefix: Prefix = 0,
    images: ImageCount = 0,
    image_size: ImageSize = None,
    ttft: Annotated[
        float | None,
        typer.Option("--ttft", parser=amount, metavar="MS",
                     help="Target of the mean time to first token; default 2000, "
                     "or none with --latency; inf: none."),
    ] = None,
    tpot: Annotated[
        float | None,
        typer.Option("--tpot", parser=amount, metavar="MS",
                     help="Target of the mean time per output token; default 30, "
                     "or none with --latency; inf: none."),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option("--latency", "--request-latency", parser=amount, metavar="MS",
                     help="Target of the mean time of a whole request."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option("--backend", metavar="NAME", help="vllm, sglang, trtllm, or any of them."),
    ] = "vllm",
    backend_version: BackendVersion = None,
    decode_system: DecodeSystem = None,
    precision: Precision = None,
    kv_dtype: KvDtype = None,
    mode: Annotated[
        str,
        typer.Option("--mode", "--serving-mode", parser=one_of(*_MODES), metavar="MODE",
                     help="agg, disagg, or any of both."),
    ] = "any",
    objective: Annotated[
        str,
        typer.Option("--objective", parser=one_of(*_OBJECTIVES), metavar="WHAT",
                     help="throughput, latency or cost."),
    ] = "throughput",
    confidence: Annotated[
        float | None,
        typer.Option("--confidence", parser=amount, metavar="P",
                     help="Probability with which all targets must be met, like 0.9."),
    ] = None,
    memory_margin: MemoryMargin = 0.0,
    top: Annotated[
        int, typer.Option("--top", "--top-n", parser=whole, metavar="N",
                          help="Rows per serving mode.")
    ] = 5,
    perf_db: PerfDb = None,
    calibration: Calibration = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="MANIFEST.yaml",
                     help="Dynamo manifest of what runs today: how much better is the best?"),
    ] = None,
    save_dir: Annotated[
        Path | None,
        typer.Option("--save-dir", metavar="DIR", help="Write deployments, figures and data."),
    ] = None,
    dynamo_version: DynamoVersion = None,
    name: Name = None,
    image: Image = None,
    token_secret: TokenSecret = "hf-token-secret",
    model_cache: ModelCache = None,
    rdma: Rdma = None,
    router: Router = "round-robin",
    orchestrator: Orchestrator = "grove",
    host_cache_gb: HostCache = None,
    disk_cache_gb: DiskCache = None,
    planner: Planner = False,
    force: Force = False,
    output: Output = "table",
) -> None:  # fmt: skip
    """Find the best way to serve a model on a number of GPUs.

    When no configuration meets the targets, the closest ones are printed and written all the
    same, with the target that breaks; JSON says "targets_met": false; the exit code is 2.
    """
    from aiconf.api import search as run

    _check_folder(save_dir, force)
    options = deploy_options(
        save_dir, name=name, dynamo=version_or_none(dynamo_version), image=image,
        token_secret=token_secret, model_cache=model_cache, rdma_resource=rdma, router=router,
        orchestrator=orchestrator, host_cache_gb=host_cache_gb, disk_cache_gb=disk_cache_gb,
        planner=planner,
    )  # fmt: skip
    found = run(
        model, system, total_gpus, isl, osl,
        _goal(ttft, _TTFT, latency), _goal(tpot, _TPOT, latency), latency=latency,
        prefix=prefix, images=images, image_size=image_size, backend=backend,
        backend_version=version_or_none(backend_version),
        decode_system=decode_system, precision=precision, kv_dtype=kv_dtype,
        mode=cast("Mode", _MODES[mode]), objective=cast("Objective", objective),
        confidence=confidence, memory_margin=memory_margin, top=top, perf_db=perf_db,
        calibration=calibration,
    )  # fmt: skip
    found = found.noting(context.obj or [])
    if baseline is not None:
        from aiconf.manifests import compared

        found = compared(found, baseline, perf_db=perf_db, calibration=calibration)
    if save_dir is not None:
        found.save(save_dir, force=force, options=options)
    _print(found, output)
    if save_dir is not None:
        typer.echo(f"written to {save_dir}", err=True)
        written = [one for one, ranked in found.settled.outcome.top.items() if ranked]
        for line in remarks(options, found.request.specs, written):
            typer.echo(line, err=True)
    unmet = found.document["unmet"]
    if unmet:
        raise UserError(f"no configuration meets the targets: {unmet['text']}")


def _goal(wanted: float | None, default: float, latency: float | None) -> float | None:
    """Return a target in ms; None where there is none."""
    if wanted is None:
        return default if latency is None else None
    return None if wanted == float("inf") else wanted


def _check_folder(folder: Path | None, force: bool) -> None:
    """Refuse a folder before the work, and not after it."""
    if folder is None:
        if force:
            raise UserError("--force is for --save-dir: name the folder to replace")
        return
    from aiconf.report.files import check_folder

    check_folder(folder, force)


def _print(found: SearchResult, output: str) -> None:
    if output == "json":
        typer.echo(found.to_json())
    elif output == "csv":
        typer.echo(found.to_csv(), nl=False)
    else:
        typer.echo(found.to_text(terminal()), nl=False)
