"""A calibration from files of measured runs: fit, validation on left-out groups, spreads.

Every group (hardware, model, backend, mode) is predicted with parameters fitted without it, so
its residuals are those of a group that nobody has measured. Their distribution is the interval
of such groups; that of a group that was measured is its own, as far as it has enough runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import aiconf
from aiconf.engine.batch import Array
from aiconf.engine.calibration import LEVELS, Calibration, EngineFit, Fitted, Source, Spread
from aiconf.engine.traits import backend_names
from aiconf.errors import UserError
from aiconf.runs.fit import METRICS, Fit, Group, Progress, at, fit, group_of, residuals
from aiconf.runs.measured import MeasuredRun
from aiconf.runs.parameters import FAMILIES, Parameter
from aiconf.runs.predict import predict
from aiconf.runs.read import read_rows

_NORMAL_80 = 1.2816  # standard deviations on each side of an 80 % interval
_FALLBACK = (0.0, 0.3)  # least shares of fallback that have a spread of their own
_LEAST_GROUPS = 6  # of a spread for groups that were not measured
_BORROWED_ROWS = 20.0  # weight of the unmeasured spread in that of a measured group, in rows


@dataclass(frozen=True)
class Observed:
    """One run with what its prediction was off: ln(measured / predicted) by metric."""

    run: MeasuredRun
    group: Group
    fallback: float
    errors: dict[str, float]


def calibrate(
    paths: Sequence[Path], *, seed: int = 0, rows: int = 12, progress: Progress = print
) -> tuple[Calibration, list[Observed]]:
    """Fit to all runs of ``paths`` that can be predicted; see ``fit.fit``.

    Returns the calibration, and the runs predicted with their groups left out.

    Raises
    ------
    UserError
        For a file that cannot be read or is of no known form, or when no run can be used.
    """
    runs, sources = [], []
    for path in paths:
        read = read_rows(path, {})
        mine = [row.run for row in read if row.run is not None]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sources.append(Source(path.name, digest, len(mine)))
        runs += mine
    found = fit(runs, seed=seed, rows=rows, progress=progress)
    left_out = _by_group(runs, found, leave_out=True, progress=progress)
    fitted = _by_group(runs, found, leave_out=False, progress=progress)
    return Calibration(
        tool=aiconf.__version__,
        seed=seed,
        files=tuple(sources),
        engines=_engines(found),
        spreads=spreads(left_out, fitted),
        validation=validation(left_out),
    ), left_out


def _by_group(
    runs: Sequence[MeasuredRun], found: Fit, *, leave_out: bool, progress: Progress
) -> list[Observed]:
    """Replay every run, each group with the parameters it is to be predicted with."""
    groups: dict[Group, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        groups[group_of(run)].append(run)
    what = "left out of the fit" if leave_out else "with the final parameters"
    progress(f"replaying {len(runs)} runs of {len(groups)} groups {what}")
    work = [
        (members, group, found.known, found.without(group) if leave_out else found.logs)
        for group, members in sorted(groups.items())
    ]
    with ProcessPoolExecutor() as pool:
        return [one for part in pool.map(_replayed, work) for one in part]


def _replayed(
    work: tuple[list[MeasuredRun], Group, tuple[Parameter, ...], Array],
) -> list[Observed]:
    runs, group, known, logs = work
    known_errors: dict[object, tuple[float, dict[str, float]] | None] = {}
    observed = []
    for run in runs:
        key = (run.deployment, run.traffic, run.metrics)
        if key not in known_errors:
            known_errors[key] = _error(run, known, logs)
        error = known_errors[key]
        if error is not None:
            observed.append(Observed(run, group, *error))
    return observed


def _error(
    run: MeasuredRun, known: tuple[Parameter, ...], logs: Array
) -> tuple[float, dict[str, float]] | None:
    try:
        found = predict(at(run.deployment, known, logs), run.traffic)
    except UserError:
        return None
    return found.origin[2], {name: -off for name, off in residuals(run, found).items()}


def _engines(found: Fit) -> tuple[EngineFit, ...]:
    engines = []
    for backend in backend_names():
        for family in FAMILIES:
            facts = {
                one.kind.fact: _fitted(one, float(log), float(np.sqrt(variance)))
                for one, log, variance in zip(
                    found.known, found.logs, found.variance, strict=True
                )
                if one.of(backend, family[0])
            }
            engines.append(EngineFit(backend, family, facts))
    return tuple(engines)


def _fitted(one: Parameter, log: float, deviation: float) -> Fitted:
    value, width = one.start * np.exp(log), _NORMAL_80 * deviation
    return Fitted(*(_rounded(value * np.exp(side * width)) for side in (0.0, -1.0, 1.0)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def spreads(left_out: Iterable[Observed], fitted: Iterable[Observed]) -> tuple[Spread, ...]:
    """Spreads of unmeasured groups by metric, mode and fallback, then of measured groups."""
    out, own = list(left_out), list(fitted)
    found = []
    for metric in METRICS:
        for mode in ("agg", "disagg"):
            values = [one for one in out if one.run.mode == mode and metric in one.errors]
            if not values:
                continue
            for least in _FALLBACK:
                part = [one for one in values if one.fallback >= least]
                if least == 0.0 or len({one.group for one in part}) >= _LEAST_GROUPS:
                    found.append(_spread(metric, mode, part, least))
            found += _measured(metric, mode, values, own)
    return tuple(found)


def _spread(metric: str, mode: str, part: Sequence[Observed], least: float) -> Spread:
    errors, weights = _weighted(metric, part)
    groups = len({one.group for one in part})
    quantiles = _quantiles(errors, weights)
    return Spread(metric, mode, quantiles, groups, len(part), fallback=least)


def _measured(
    metric: str, mode: str, values: Sequence[Observed], own: Sequence[Observed]
) -> list[Spread]:
    """Spreads of the groups themselves, mixed with that of all groups for want of runs."""
    errors, weights = _weighted(metric, values)
    weights = weights / weights.sum() * _BORROWED_ROWS
    groups: dict[Group, list[float]] = defaultdict(list)
    for one in own:
        if one.run.mode == mode and metric in one.errors:
            groups[one.group].append(one.errors[metric])
    found = []
    for (system, backend, model, _), mine in sorted(groups.items()):
        # What others show is how far runs lie from their group's middle, not where that is.
        middle = float(np.median(mine)) * len(mine) / (len(mine) + _BORROWED_ROWS)
        spread = errors - float(np.median(errors)) + middle
        mixed = np.concatenate([spread, np.array(mine)])
        mass = np.concatenate([weights, np.ones(len(mine))])
        found.append(
            Spread(
                metric, mode, _quantiles(mixed, mass), 1, len(mine), system, backend, model,
            )
        )
    return found


def _weighted(metric: str, part: Sequence[Observed]) -> tuple[Array, Array]:
    """Errors, each weighing 1 / rows of its group."""
    sizes: dict[Group, int] = defaultdict(int)
    for one in part:
        sizes[one.group] += 1
    errors = np.array([one.errors[metric] for one in part])
    return errors, np.array([1.0 / sizes[one.group] for one in part])


def _quantiles(values: Array, weights: Array) -> tuple[float, ...]:
    order = np.argsort(values)
    mass = np.cumsum(weights[order]) - weights[order] / 2.0
    found = np.interp(LEVELS, mass / weights.sum(), values[order])
    return tuple(round(float(one), 4) for one in found)


def validation(left_out: Sequence[Observed]) -> dict[str, float]:
    """Mean and median over groups of the mean absolute relative error, predicted / measured."""
    found: dict[str, float] = {}
    for metric in METRICS:
        groups: dict[Group, list[float]] = defaultdict(list)
        for one in left_out:
            if metric in one.errors:
                groups[one.group].append(abs(float(np.expm1(-one.errors[metric]))))
        if groups:
            means = [float(np.mean(errors)) for errors in groups.values()]
            found[f"{metric}_groups"] = len(means)
            found[f"{metric}_mean"] = round(float(np.mean(means)), 4)
            found[f"{metric}_median"] = round(float(np.median(means)), 4)
    return found
