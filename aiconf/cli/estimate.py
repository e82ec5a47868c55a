"""``aiconf estimate``: one configuration explained, or a file of them predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Osl,
    Output,
    PerfDb,
    Precision,
    Prefix,
    amount,
    terminal,
    version_or_none,
    whole,
)
from aiconf.errors import UserError

if TYPE_CHECKING:
    from aiconf.deploy.options import Options
    from aiconf.report.result import EstimateResult


def estimate(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "--model-path", "--model-name", "--hf-id", metavar="NAME",
                     help="Embedded name, Hugging Face id, or folder of a config.json."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="NAME", help="GPU system (see `aiconf systems`)."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="L", help="Layout of a worker, like tp4 or "
                     "tp2pp1dp4ep8; of a decode worker with --prefill-layout."),
    ] = None,
    *,
    isl: Isl = 4000,
    osl: Osl = 1000,
    prefix: Prefix = 0,
    images: ImageCount = 0,
    image_size: ImageSize = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", parser=whole, metavar="N",
                          help="Requests in flight per worker."),
    ] = 1,
    workers: Annotated[
        int, typer.Option("--workers", parser=whole, metavar="N", help="Workers.")
    ] = 1,
    prefill_layout: Annotated[
        str | None,
        typer.Option("--prefill-layout", metavar="L", help="Layout of prefill workers: "
                     "disaggregated serving."),
    ] = None,
    prefill_workers: Annotated[
        int, typer.Option("--prefill-workers", parser=whole, metavar="N", help="Prefill workers.")
    ] = 1,
    prefill_batch: Annotated[
        int, typer.Option("--prefill-batch", parser=whole, metavar="N",
                          help="Prompts at once per prefill worker."),
    ] = 1,
    token_budget: Annotated[
        int | None,
        typer.Option("--token-budget", parser=whole, metavar="N",
                     help="Tokens of an iteration on one attention rank."),
    ] = None,
    ttft: Annotated[
        float | None,
        typer.Option("--ttft", parser=amount, metavar="MS",
                     help="Target of the mean time to first token, also of --planner."),
    ] = None,
    tpot: Annotated[
        float | None,
        typer.Option("--tpot", parser=amount, metavar="MS",
                     help="Target of the mean time per output token, also of --planner."),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="vllm, sglang or trtllm.")
    ] = "vllm",
    backend_version: BackendVersion = None,
    decode_system: DecodeSystem = None,
    precision: Precision = None,
    kv_dtype: KvDtype = None,
    memory_margin: MemoryMargin = 0.0,
    perf_db: PerfDb = None,
    calibration: Calibration = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A Dynamo manifest (.yaml): predict what it "
                     "deploys. A .csv: predict every row; columns are named as these options, "
                     "which stand for columns and cells that are missing."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.csv", help="Where --from writes; default: here."),
    ] = None,
    save_dir: Annotated[
        Path | None,
        typer.Option("--save-dir", metavar="DIR", help="Write the deployment and the JSON."),
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
    """Predict one configuration and explain it, or with --from a manifest or many at once.

    From a Dynamo manifest come model, engine, layouts, worker counts and every setting; without
    --concurrency its workers are as full as its settings and their KV cache let them be. What
    aiconf wrote itself also says GPU systems and lengths, where no options give them. From a
    CSV every row comes back, with its prediction or the reason why there is none; the exit code
    is 2 where a row has none.
    """
    options: dict[str, Any] = {
        "model": model, "system": system, "layout": layout, "isl": isl, "osl": osl,
        "prefix": prefix, "images": images, "image_size": image_size,
        "concurrency": concurrency, "workers": workers,
        "prefill_layout": prefill_layout, "prefill_workers": prefill_workers,
        "prefill_batch": prefill_batch, "token_budget": token_budget, "backend": backend,
        "backend_version": version_or_none(backend_version), "decode_system": decode_system,
        "precision": precision, "kv_dtype": kv_dtype, "perf_db": perf_db,
        "calibration": calibration, "memory_margin": memory_margin,
    }  # fmt: skip
    targets = {
        name: value for name, value in (("ttft", ttft), ("tpot", tpot)) if value is not None
    }
    if source is not None and targets:
        raise UserError(f"--{next(iter(targets))} is for one configuration, not for --from")
    choices = deploy_options(
        save_dir, name=name, dynamo=version_or_none(dynamo_version), image=image,
        token_secret=token_secret, model_cache=model_cache, rdma_resource=rdma, router=router,
        orchestrator=orchestrator, host_cache_gb=host_cache_gb, disk_cache_gb=disk_cache_gb,
        planner=planner,
    )  # fmt: skip
    if source is not None and source.suffix in (".yaml", ".yml"):
        given = {name for name in options if _is_given(context, name)}
        if out is not None:
            raise UserError("--out is for a CSV: give --save-dir or redirect the output")
        told = {name: options[name] for name in given}
        _manifest(source, told, save_dir, force, output, choices)
        return
    if source is not None:
        if save_dir is not None:
            raise UserError("--save-dir is for one configuration: with --from give --out")
        from aiconf.cli.batch import run

        try:
            run(source, out, options, force=force)
        except UserError as error:
            if isinstance(error.__cause__, UnicodeDecodeError):
                raise UserError(f"{source}: not UTF-8 text") from error
            raise
        return
    if out is not None:
        raise UserError("--out is for --from: give --save-dir or redirect the output")
    _one(options | targets, save_dir, force, output, choices)


# What a manifest does not say; all else is read from it.
_BESIDE_MANIFEST = (
    "isl", "osl", "prefix", "images", "image_size", "concurrency", "system", "decode_system",
    "perf_db", "calibration",
)  # fmt: skip


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _manifest(
    source: Path, given: dict[str, Any], save_dir: Path | None, force: bool, output: str,
    choices: Options | None,
) -> None:  # fmt: skip
    """Predict what a Dynamo manifest deploys, and print it."""
    from aiconf.deploy.read.manifest import asked_lengths
    from aiconf.manifests import estimate_manifest

    other = sorted(set(given) - set(_BESIDE_MANIFEST))
    if other:
        raise UserError(
            f"--{other[0].replace('_', '-')} is read from the manifest: leave it out with "
            f"--from {source.name}"
        )
    lengths = {} if {"isl", "osl"} <= set(given) else asked_lengths(source)
    if {"isl", "osl"} & set(given):
        lengths.pop("prefix", None)  # it belongs to the lengths that the manifest names
    if {"images", "image_size"} & set(given):
        lengths.pop("image_size", None)
    _print(estimate_manifest(source, **lengths | given), save_dir, force, output, choices)


def _one(
    options: dict[str, Any], save_dir: Path | None, force: bool, output: str,
    choices: Options | None,
) -> None:  # fmt: skip
    """Predict one configuration and print it."""
    missing = [f"--{name}" for name in ("model", "system", "layout") if options[name] is None]
    if missing:
        raise UserError(f"missing {', '.join(missing)} (or --from a manifest or a CSV)")
    from aiconf.api import estimate as run

    _print(run(**options), save_dir, force, output, choices)


def _print(
    found: EstimateResult, save_dir: Path | None, force: bool, output: str,
    choices: Options | None,
) -> None:  # fmt: skip
    if save_dir is not None:
        found.save(save_dir, force=force, options=choices)
        typer.echo(f"written to {save_dir}", err=True)
        for line in remarks(choices, found.request.specs):
            typer.echo(line, err=True)
    if output == "table":
        typer.echo(found.to_text(terminal()), nl=False)
    else:
        typer.echo(found.to_json() + "\n" if output == "json" else found.to_csv(), nl=False)
