"""Dynamo manifests predicted: what a deployment that exists does, and how two of them differ."""

from __future__ import annotations

from pathlib import Path

from aiconf.deploy.read.manifest import Places, Reading, read_plan
from aiconf.engine.changes import Changes
from aiconf.engine.engine import Platform
from aiconf.engine.platform import platform
from aiconf.report.result import EstimateResult
from aiconf.runs.history import past_facts
from aiconf.search.deployed import predict
from aiconf.workload import Workload, require_whole


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
    work = Workload(isl, osl, prefix)
    return read_plan(Path(path), work, places, system=system, decode_system=decode_system)


def estimate_manifest(
    path: str | Path,
    isl: int = 4000,
    osl: int = 1000,
    *,
    prefix: int = 0,
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
        path, isl, osl, prefix=prefix, system=system, decode_system=decode_system,
        perf_db=perf_db, calibration=calibration,
    )  # fmt: skip
    return predicted(reading, concurrency)


def predicted(reading: Reading, concurrency: int | None = None) -> EstimateResult:
    """Predict a deployment that was read."""
    request, found = predict(reading.plan, reading.places, concurrency)
    return EstimateResult(request, found, reading.notes)


__all__ = ["estimate_manifest", "places_of", "predicted", "read_manifest"]
