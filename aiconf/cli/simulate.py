"""``aiconf simulate``: single requests replayed through one deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiconf.cli.options import (
    BackendVersion,
    Calibration,
    ImageCount,
    ImageSize,
    Isl,
    KvDtype,
    Model,
    Osl,
    PerfDb,
    Precision,
    System,
    amount,
    one_of,
    terminal,
    version_or_none,
    whole,
)

_FORMATS = ("table", "json")


def simulate(
    model: Model,
    system: System,
    layout: Annotated[
        str,
        typer.Option("--layout", metavar="L", help="Layout of a worker, like tp4 or "
                     "tp2pp1dp4ep8; of a decode worker with --prefill-layout."),
    ],
    *,
    isl: Isl = 1024,
    osl: Osl = 128,
    images: ImageCount = 0,
    image_size: ImageSize = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", parser=whole, metavar="N",
                     help="Load: users of a closed loop over all workers."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", parser=amount, metavar="R", help="Load: requests per second."),
    ] = None,
    static: Annotated[
        int | None,
        typer.Option("--static", parser=whole, metavar="N", help="Load: one batch of requests."),
    ] = None,
    offline: Annotated[
        int | None,
        typer.Option("--offline", parser=whole, metavar="N",
                     help="Load: requests that are all queued at the beginning."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Load: arrivals and lengths of a Mooncake, "
                     "Azure or Vidur trace; beside another load its lengths alone."),
    ] = None,
    arrivals: Annotated[
        str,
        typer.Option("--arrivals", parser=one_of("poisson", "gamma", "constant"),
                     metavar="poisson|gamma|constant", help="How requests of --rate arrive."),
    ] = "poisson",
    cv: Annotated[
        float,
        typer.Option("--cv", parser=amount, metavar="X",
                     help="Variation of gamma arrivals: above 1 in bursts."),
    ] = 1.0,
    requests: Annotated[
        int | None,
        typer.Option("--requests", parser=whole, metavar="N", help="How many requests; default: "
                     "10 per user, 1000 of a rate, all of a trace."),
    ] = None,
    warmup: Annotated[
        int,
        typer.Option("--warmup", parser=whole, metavar="N", help="First requests not counted."),
    ] = 0,
    length_range: Annotated[
        float,
        typer.Option("--length-range", parser=amount, metavar="X",
                     help="Lengths are uniform from X times --isl and --osl; 1: fixed."),
    ] = 1.0,
    length_cv: Annotated[
        float | None,
        typer.Option("--length-cv", parser=amount, metavar="X",
                     help="Lengths are lognormal around --isl and --osl, varying by X."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", parser=whole, metavar="N")] = 0,
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
    token_budget: Annotated[
        int | None,
        typer.Option("--token-budget", parser=whole, metavar="N", help="Tokens of an iteration."),
    ] = None,
    max_sequences: Annotated[
        int | None,
        typer.Option("--max-sequences", parser=whole, metavar="N", help="Running sequences."),
    ] = None,
    drafts: Annotated[
        int,
        typer.Option("--drafts", parser=whole, metavar="N",
                     help="Tokens drafted per iteration (MTP, EAGLE); 0: none."),
    ] = 0,
    acceptance: Annotated[
        float | None,
        typer.Option("--acceptance", parser=amount, metavar="X", help="Probability that a draft "
                     "of --drafts is kept when those before it were; default: 0.8."),
    ] = None,
    ttft: Annotated[
        float | None,
        typer.Option("--ttft", parser=amount, metavar="MS", help="Target of goodput."),
    ] = None,
    tpot: Annotated[
        float | None,
        typer.Option("--tpot", parser=amount, metavar="MS", help="Target of goodput."),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="vllm, sglang or trtllm.")
    ] = "vllm",
    backend_version: BackendVersion = None,
    precision: Precision = None,
    kv_dtype: KvDtype = None,
    perf_db: PerfDb = None,
    calibration: Calibration = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.csv", help="Write the single requests."),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--format", parser=one_of(*_FORMATS), metavar="|".join(_FORMATS),
                     help="How to print."),
    ] = "table",
) -> None:  # fmt: skip
    """Replay single requests: queues, tails and goodput of one deployment under a load."""
    from aiconf.api import replay
    from aiconf.cli.arguments import require_target

    if out is not None:
        require_target(out, [trace] if trace is not None else [])
    found = replay(
        model, system, layout, isl, osl,
        concurrency=concurrency, rate=rate, static=static, offline=offline, trace=trace,
        arrivals=arrivals, cv=cv, requests=requests, warmup=warmup,
        length_range=length_range, length_cv=length_cv, seed=seed, workers=workers,
        images=images, image_size=image_size,
        prefill_layout=prefill_layout, prefill_workers=prefill_workers,
        token_budget=token_budget, max_sequences=max_sequences,
        drafts=drafts, acceptance=acceptance, ttft=ttft, tpot=tpot,
        backend=backend, backend_version=version_or_none(backend_version),
        precision=precision, kv_dtype=kv_dtype, perf_db=perf_db, calibration=calibration,
    )  # fmt: skip
    if out is not None:
        from aiconf.resources import write_text

        write_text(out, found.requests_csv())
        typer.echo(f"written to {out}", err=True)
    typer.echo(found.to_text(terminal()) if output == "table" else found.to_json() + "\n", nl=False)
