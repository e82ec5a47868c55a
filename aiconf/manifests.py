"""Dynamo manifests predicted: what a deployment that exists does, and how two of them differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aiconf.deploy.read.manifest import Places, Reading, read_plan
from aiconf.engine.changes import Changes
from aiconf.engine.engine import Platform
from aiconf.engine.platform import platform
from aiconf.engine.speculation import Speculation
from aiconf.model.traffic import Asked
from aiconf.report.baseline import baseline
from aiconf.report.result import EstimateResult, SearchResult
from aiconf.runs.history import past_facts
from aiconf.search.deployed import predict, swept
from aiconf.workload import require_whole


def places_of(perf_db: Path | None, calibration: Path | None) -> Places:
    """Return what joins a system and an engine of some version with tables and calibration."""

    def place(system: str, backend: str, version: str | None, changes: Changes) -> Platform:
        past = past_facts(backend, version, "") if version else ()
        return platform(system, backend, perf_db, (*past, *changes), calibration)

    return place


def read_manifest(
    path: str | Path,
    isl: int = 4000,
    osl: int = 1000,
    *,
    prefix: int = 0,
    images: int = 0,
    image_size: str | None = None,
    system: str | None = None,
    decode_system: str | None = None,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> Reading:
    """Read a Dynamo manifest as the plan that it serves by (see ``estimate_manifest``)."""
    places = places_of(
        Path(perf_db) if perf_db is not None else None,
        Path(calibration) if calibration is not None else None,
    )
    asked = Asked(isl, osl, prefix, images, image_size)
    return read_plan(Path(path), asked, places, system=system, decode_system=decode_system)


def estimate_manifest(
    path: str | Path,
    isl: int = 4000,
    osl: int = 1000,
    *,
    prefix: int = 0,
    images: int = 0,
    image_size: str | None = None,
    concurrency: int | None = None,
    system: str | None = None,
    decode_system: str | None = None,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> EstimateResult:
    """Predict what the deployment of a Dynamo manifest does.

    Parameters
    ----------
    path
        File with one DynamoGraphDeployment (v1alpha1 or v1beta1) and the ConfigMaps it mounts.
    concurrency
        Requests in flight per worker (per decode worker when disaggregated); None: as many as
        its settings and its KV cache let run.
    system, decode_system
        GPU system, and that of the decode side where it differs; None: what node selectors or
        names in the manifest say.

    Other parameters are as in ``aiconf.search``.

    Raises
    ------
    UserError
        A fact is missing or not modelled: one line names it.
    """
    if concurrency is not None:
        require_whole("concurrency", concurrency, 1)
    reading = read_manifest(
        path, isl, osl, prefix=prefix, images=images, image_size=image_size, system=system,
        decode_system=decode_system,
        perf_db=perf_db, calibration=calibration,
    )  # fmt: skip
    return predicted(reading, concurrency)


def predicted(reading: Reading, concurrency: int | None = None) -> EstimateResult:
    """Predict a deployment that was read."""
    drafts, said = drafting(reading)
    request, found = predict(reading.plan, reading.places, concurrency, drafts)
    return EstimateResult(request, found, (*reading.notes, *said), source=reading.source)


def drafting(reading: Reading) -> tuple[Speculation | None, tuple[str, ...]]:
    """Return the drafts that a deployment asks for, and a note on how likely they are kept.

    None where it drafts nothing, or in a way that is not modelled. The acceptance is the published
    one for the model (``aiconf/runs/speculation.yaml``), as it was fitted to measured runs.

    Raises
    ------
    UserError
        No engine verifies so many.
    """
    role = reading.plan.workers[-1].role
    stated = reading.stated[role]
    if not stated.chain:
        return None, ()
    from aiconf.runs.speculation import published_for

    fitted = reading.places[role].traits.scales.get("acceptance", 1.0)
    name = reading.plan.model.checkpoint.rpartition("/")[2]
    found = published_for(name, stated.chain).scaled(fitted)
    note = (
        f"speculative decoding ({stated.drafter}, {found.drafts} drafts): assumed that "
        f"{found.acceptance:.0%} of first drafts are kept"
    )
    if found.drafts > 1:
        note += f" and {found.decay:.2f} times as many of each further one"
    return found, (f"{note}, {found.expected:.2f} tokens per iteration",)


def compared(
    result: SearchResult,
    path: str | Path,
    *,
    perf_db: str | Path | None = None,
    calibration: str | Path | None = None,
) -> SearchResult:
    """Return ``result`` with what the deployment of a manifest does at the same workload.

    It is predicted on the GPU systems of the search, whatever its own node selectors say, at
    the number of requests in flight that suits it best within the targets of the search.

    Raises
    ------
    UserError
        The manifest cannot be read or predicted.
    """
    request = result.request
    work = request.workload
    reading = read_manifest(
        path, work.text, work.osl, prefix=work.prefix,
        images=work.images.count if work.images else 0,
        image_size=work.images.size if work.images else None,
        system=request.platforms[0].system.name,
        decode_system=request.decode_platforms[0].system.name, perf_db=perf_db,
        calibration=calibration,
    )  # fmt: skip
    drafts, said = drafting(reading)
    points = swept(reading.plan, reading.places, drafts)
    notes = [*reading.notes, *said]
    served = reading.plan.model
    if served.checkpoint not in {spec.checkpoint for spec in request.specs}:
        notes.append(f"another model: {served.checkpoint} runs today")
    beside = baseline(request, result.best, points, str(path), notes)
    return replace(result, baseline=beside)


@dataclass(frozen=True)
class Effect:
    """What two deployments do with as many requests in flight: a is before, b is after."""

    a: EstimateResult
    b: EstimateResult


def effect(before: Reading, after: Reading, concurrency: int | None = None) -> Effect:
    """Predict both deployments under the same load.

    Parameters
    ----------
    concurrency
        Requests in flight over each whole deployment; None: as many as both let run.
    """
    if concurrency is not None:
        require_whole("concurrency", concurrency, 1)
        total = concurrency
    else:
        total = min(round(predicted(one).best["concurrency"]) for one in (before, after))
    results = []
    for one in (before, after):
        last = one.plan.workers[-1]
        results.append(predicted(one, max(round(total / last.replicas), 1)))
    return Effect(*results)


__all__ = [
    "Effect", "compared", "drafting", "effect", "estimate_manifest", "places_of", "predicted",
    "read_manifest",
]  # fmt: skip
