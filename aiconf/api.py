"""The Python interface: ``search``, ``estimate`` and ``replay``; targets in ms as on the CLI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aiconf.engine.changes import Changes
from aiconf.engine.engine import Platform
from aiconf.engine.platform import platform, prefill_changes
from aiconf.engine.speculation import Speculation
from aiconf.engine.traits import backend_names
from aiconf.errors import UserError, unknown
from aiconf.model.library import checkpoints, in_precision
from aiconf.model.spec import ModelSpec
from aiconf.model.traffic import Asked, images_of
from aiconf.report.replay import ReplayResult, replay_result
from aiconf.report.result import EstimateResult, SearchResult
from aiconf.search.estimate import Setting, estimate_point
from aiconf.search.request import Mode, Objective, Request, compared, require_kv_dtype
from aiconf.search.search import search as _search
from aiconf.simulate.demand import demand_of
from aiconf.simulate.scenario import Deployed
from aiconf.units import from_ms
from aiconf.workload import Sla, require_whole

ANY = "any"
ACCEPTANCE = 0.8  # of a draft, where nothing is said


def _target(name: str, value: float | None) -> float:
    if value is None:
        return math.inf
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise UserError(f"{name} must be a positive number of milliseconds, not {value!r}")
    return from_ms(value)


def _texts(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str | Path):
            raise UserError(f"{name} must be a text, not {value!r}")


def _backends(backend: str) -> tuple[str, ...]:
    if backend.lower() in (ANY, "auto", "all"):
        return backend_names()
    return (backend,)


def _specs(model: str, precision: str | None) -> tuple[ModelSpec, ...]:
    return checkpoints(model) if precision is None else (in_precision(model, precision),)


def _check_version(found: Platform, wanted: str | None) -> None:
    if wanted is not None and wanted != found.version:
        raise unknown(
            f"{found.traits.title} version on {found.system.name}", wanted, [found.version]
        )


def _margin(wanted: float) -> Changes:
    """Return what engines are told of memory that shall stay empty."""
    if not 0.0 <= wanted < 0.5:  # also not a number
        raise UserError(f"memory margin {wanted:g} must lie between 0 and 0.5, like 0.05")
    return (("memory.margin", float(wanted)),) if wanted else ()


def _laid_over(folder: Path, request: Request) -> str:
    """Say how many tables of the user's folder the answer could use."""
    from aiconf.perf.manifest import read_entries

    systems = {p.system.name for p in (*request.platforms, *request.decode_platforms)}
    entries = read_entries(folder)
    used = sum(system in systems for system, _, _ in entries)
    return (
        f"{used} of the {len(entries)} tables in {folder} are of "
        f"{' and '.join(sorted(systems))} and lie over the embedded ones"
    )


def search(
    model: str,
    system: str,
    total_gpus: int,
    isl: int = 4000,
    osl: int = 1000,
    ttft: float | None = 2000.0,
    tpot: float | None = 30.0,
    *,
    latency: float | None = None,
    prefix: int = 0,
    images: int = 0,
    image_size: str | None = None,
    backend: str = "vllm",
    backend_version: str | None = None,
    decode_system: str | None = None,
    precision: str | None = None,
    kv_dtype: str | None = None,
    mode: Mode = "any",
    objective: Objective = "throughput",
    confidence: float | None = None,
    memory_margin: float = 0.0,
    top: int = 5,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> SearchResult:
    """Find the best deployments of a model.

    Parameters
    ----------
    model
        Embedded name, Hugging Face id, or path of a config.json. A family name compares its
        checkpoints (precisions).
    system, decode_system
        GPU system; the second of the decode side where it differs.
    total_gpus
        GPUs that may be used.
    isl, osl, prefix
        Prompt and output tokens per request; leading prompt tokens already cached.
    images, image_size
        Images per request and their size in pixels, like ``1024x768``. Their tokens come in
        addition to ``isl``, which is text.
    ttft, tpot, latency
        Targets for the means in milliseconds; None: no target.
    backend
        ``vllm``, ``sglang``, ``trtllm``, or ``any`` to compare all three.
    backend_version
        Engine version of the tables; an error where it is not the one measured.
    precision, kv_dtype
        Keep to checkpoints of one precision; override the KV cache type (bf16, fp8).
    mode
        ``any``, ``agg`` or ``disagg``.
    objective
        ``throughput`` (output tokens/s/GPU), ``latency`` or ``cost``.
    confidence
        Probability with which all targets must be met, between 0 and 1; None: the predicted
        means must meet them.
    memory_margin
        Lower the engine's memory setting by so much, between 0 and 0.5.
    top
        Candidates kept per mode.
    perf_db
        Folder with tables of your own, laid over the embedded ones.
    calibration
        File of ``aiconf runs calibrate``; None: the one that is shipped.

    Raises
    ------
    UserError
        One line: what is wrong and what would be right.
    """
    _texts(model=model, system=system, backend=backend)
    sla = Sla(_target("ttft", ttft), _target("tpot", tpot), _target("latency", latency))
    folder = Path(perf_db) if perf_db is not None else None
    fitted = Path(calibration) if calibration is not None else None
    specs = _specs(model, precision)
    work = Asked(isl, osl, prefix, images, image_size).of(specs[0])
    names = _backends(backend)
    told = _margin(memory_margin)
    platforms = tuple(platform(system, name, folder, told, fitted) for name in names)
    decoding = tuple(
        platform(decode_system or system, name, folder, told, fitted) for name in names
    )
    for one in platforms:
        _check_version(one, backend_version)
    require_whole("top", top, 1)
    chosen = compared(specs, platforms[0])
    request = Request(
        specs=chosen,
        platforms=platforms,
        decode_platforms=decoding,
        gpus=total_gpus,
        workload=work,
        sla=sla,
        objective=objective,
        mode=mode,
        kv_dtype=kv_dtype,
        confidence=confidence,
        prefill_platforms=tuple(
            platform(system, one.traits.name, folder, prefill_changes(one.traits) + told, fitted)
            for one in platforms
        ),
        left_out=tuple(f"{s.checkpoint} ({s.precision})" for s in specs if s not in chosen),
    )
    found = SearchResult(request, _search(request, keep=top))
    return found if folder is None else found.noting([_laid_over(folder, request)])


def estimate(
    model: str,
    system: str,
    layout: str,
    isl: int = 4000,
    osl: int = 1000,
    *,
    concurrency: int = 1,
    workers: int = 1,
    prefill_layout: str | None = None,
    prefill_workers: int = 1,
    prefill_batch: int = 1,
    token_budget: int | None = None,
    prefix: int = 0,
    images: int = 0,
    image_size: str | None = None,
    backend: str = "vllm",
    backend_version: str | None = None,
    decode_system: str | None = None,
    precision: str | None = None,
    kv_dtype: str | None = None,
    memory_margin: float = 0.0,
    ttft: float | None = None,
    tpot: float | None = None,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> EstimateResult:
    """Predict one configuration and explain it.

    Parameters
    ----------
    layout
        ``tp2pp1dp4ep8`` of a worker; of the decode worker when ``prefill_layout`` is given.
    concurrency
        Requests in flight per worker (per decode worker when disaggregated).
    workers, prefill_workers
        Worker counts. prefill_batch: prompts at once per prefill worker.
    token_budget
        Tokens of an iteration on one attention rank; None: the engine's default.
    ttft, tpot
        Targets in milliseconds that it is held against; None: none.

    Other parameters are as in ``search``.

    Raises
    ------
    UserError
        Also when the layout is illegal for the model or the engine, or does not fit.
    """
    _texts(model=model, system=system, backend=backend, layout=layout)
    folder = Path(perf_db) if perf_db is not None else None
    fitted = Path(calibration) if calibration is not None else None
    spec = _specs(model, precision)[0]
    work = Asked(isl, osl, prefix, images, image_size).of(spec)
    sla = Sla(_target("ttft", ttft), _target("tpot", tpot))
    told = _margin(memory_margin)
    first = platform(system, backend, folder, told, fitted)
    _check_version(first, backend_version)
    setting = Setting(
        spec=spec,
        platform=first,
        decode_platform=platform(decode_system or system, backend, folder, told, fitted),
        workload=work,
        layout=layout,
        concurrency=concurrency,
        workers=workers,
        prefill_layout=prefill_layout,
        prefill_workers=prefill_workers,
        prefill_batch=prefill_batch,
        token_budget=token_budget,
        kv_dtype=kv_dtype,
        prefill_platform=platform(
            system, backend, folder, prefill_changes(first.traits) + told, fitted
        ),
    )
    request, found = estimate_point(setting)
    return EstimateResult(replace(request, sla=sla), found)


def replay(
    model: str,
    system: str,
    layout: str,
    isl: int = 1024,
    osl: int = 128,
    *,
    images: int = 0,
    image_size: str | None = None,
    concurrency: int | None = None,
    rate: float | None = None,
    static: int | None = None,
    offline: int | None = None,
    trace: str | Path | None = None,
    arrivals: str = "poisson",
    cv: float = 1.0,
    requests: int | None = None,
    warmup: int = 0,
    length_range: float = 1.0,
    length_cv: float | None = None,
    seed: int = 0,
    workers: int = 1,
    prefill_layout: str | None = None,
    prefill_workers: int = 1,
    token_budget: int | None = None,
    max_sequences: int | None = None,
    drafts: int = 0,
    acceptance: float | None = None,
    ttft: float | None = None,
    tpot: float | None = None,
    backend: str = "vllm",
    backend_version: str | None = None,
    precision: str | None = None,
    kv_dtype: str | None = None,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> ReplayResult:
    """Replay single requests through a deployment.

    Parameters
    ----------
    layout, workers, prefill_layout, prefill_workers
        As in ``estimate``.
    concurrency, rate, static, offline, trace
        Exactly one load: users of a closed loop, requests per second, requests of one batch,
        requests queued at once, or a file that says when requests arrived. A trace beside
        another load gives its lengths alone.
    arrivals, cv
        Of a rate: ``poisson``, ``gamma`` (with the coefficient of variation of its gaps) or
        ``constant``.
    requests, warmup
        How many are sent, and how many of the first are not counted.
    length_range, length_cv
        Lengths are uniform from that share of ``isl`` and ``osl`` (1: fixed), or lognormal with
        that coefficient of variation around them.
    images, image_size
        Of each request, beside the ``isl`` tokens of its text.
    token_budget, max_sequences
        Settings of the engine; None: its defaults.
    drafts, acceptance
        Speculative decoding: drafts per iteration (0: none) and the probability that one is
        kept after those before it were (None: 0.8).
    ttft, tpot
        Targets in milliseconds that each single request must keep to count as goodput.
    seed
        Of lengths, arrivals and acceptance.

    Other parameters are as in ``search``.

    Raises
    ------
    UserError
        One line: what is wrong and what would be right.
    """
    _texts(model=model, system=system, backend=backend, layout=layout)
    require_whole("seed", seed, 0)
    folder = Path(perf_db) if perf_db is not None else None
    fitted = Path(calibration) if calibration is not None else None
    place = platform(system, backend, folder, (), fitted)
    _check_version(place, backend_version)
    spec = _specs(model, precision)[0]
    demand = demand_of(
        {"concurrency": concurrency, "rate": rate, "static": static, "offline": offline},
        Path(trace) if trace is not None else None,
        isl=isl, osl=osl, least=length_range, length_cv=length_cv, process=arrivals, cv=cv,
        requests=requests, warmup=warmup, images=images_of(spec, images, image_size),
    )  # fmt: skip
    deployed = Deployed(
        spec=spec,
        platform=place,
        layout=layout,
        workers=workers,
        prefill_layout=prefill_layout,
        prefill_workers=prefill_workers,
        token_budget=token_budget,
        max_sequences=max_sequences,
        kv_dtype=kv_dtype,
        speculation=_speculation(drafts, acceptance),
        prefill_platform=platform(system, backend, folder, prefill_changes(place.traits), fitted),
    )
    require_kv_dtype(kv_dtype)
    sla = Sla(_target("ttft", ttft), _target("tpot", tpot))
    return replay_result(deployed, demand, sla, seed)


def _speculation(drafts: int, acceptance: float | None) -> Speculation | None:
    if not drafts and acceptance is not None:
        raise UserError(
            f"an acceptance ({acceptance:g}) needs drafts: add --drafts N (1 to 64, with an "
            "acceptance from 0 to 1), or leave it out"
        )
    return Speculation(drafts, ACCEPTANCE if acceptance is None else acceptance) if drafts else None


__all__: Sequence[str] = ["estimate", "replay", "search"]
