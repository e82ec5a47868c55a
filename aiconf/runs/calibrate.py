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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import aiconf
from aiconf.engine.batch import Array
from aiconf.engine.calibration import (
    LEVELS,
    UNCALIBRATED,
    Calibration,
    EngineFit,
    Fitted,
    Source,
    Spread,
    load_calibration,
)
from aiconf.engine.traits import backend_names
from aiconf.errors import UserError
from aiconf.runs.fit import (
    METRICS,
    ROWS,
    Fit,
    Group,
    Progress,
    at,
    distinct,
    fit,
    group_of,
    residuals,
)
from aiconf.runs.measured import MeasuredRun, Row
from aiconf.runs.names import model_of
from aiconf.runs.parameters import FAMILIES, Parameter, cpus
from aiconf.runs.predict import Prediction, predict
from aiconf.runs.read import read_rows

_NORMAL_80 = 1.2816  # standard deviations on each side of an 80 % interval
_FALLBACK = 0.3  # share of fallback from which on a spread is the wider one
_LEAST_GROUPS = 6  # of a spread for groups that were not measured
# Where fewer groups tell how much wider: AIConfigurator 0.12 misses by 48 % where it falls back
# and by 20 % where it has tables (its own measured runs).
_WIDER = 2.4
_BORROWED_ROWS = 20.0  # weight of the unmeasured spread in that of a measured group, in rows
_FEWEST_ROWS = 4  # of a group with a spread of its own
_LOW, _HIGH = LEVELS.index(0.1), LEVELS.index(0.9)


@dataclass(frozen=True)
class Observed:
    """One run with its prediction, and by metric what that was off: ln(measured / predicted)."""

    run: MeasuredRun
    group: Group
    found: Prediction
    errors: dict[str, float]

    @property
    def fallback(self) -> float:
        """Share of the predicted time that is a fallback."""
        return self.found.origin[2]


def calibrate(
    paths: Sequence[Path], *, seed: int = 0, rows: int = ROWS, progress: Progress = print
) -> tuple[Calibration, list[Observed]]:
    """Fit to all runs of ``paths`` that can be predicted; see ``fit.fit``.

    Left out are runs that may have used speculative decoding and do not say.

    Returns the calibration, and the runs predicted with their groups left out.

    Raises
    ------
    UserError
        For a file that cannot be read or is of no known form, or when no run can be used.
    """
    runs: list[MeasuredRun] = []
    sources = []
    for path in paths:
        read = read_rows(path, {})
        mine = [row.run for row in read if row.run is not None and not hides_drafts(row)]
        hidden = sum(hides_drafts(row) for row in read)
        before = len(runs)
        runs = distinct([*runs, *mine])
        used = len(runs) - before
        source = Source(
            path.name, hashlib.sha256(path.read_bytes()).hexdigest(), len(read), used,
            len(read) - len(mine) - hidden, hidden, len(mine) - used,
        )  # fmt: skip
        sources.append(source)
        progress(
            f"{source.name}: {source.read} rows: {used} used, {source.unread} say too little or "
            f"are not supported, {hidden} may hide drafts, {source.repeated} repeat others"
        )
    found = fit(runs, seed=seed, rows=rows, progress=progress)
    left_out = replayed_by_group(runs, found, leave_out=True, progress=progress)
    fitted = replayed_by_group(runs, found, leave_out=False, progress=progress)
    progress(f"{len(runs) - len(fitted)} of {len(runs)} runs cannot be predicted")
    return Calibration(
        tool=aiconf.__version__,
        seed=seed,
        rows=rows,
        files=tuple(sources),
        engines=_engines(found),
        spreads=spreads(left_out, fitted),
        validation=validation(left_out),
    ), left_out


def hides_drafts(row: Row) -> bool:
    """Whether a run may have verified drafts without saying so: its model ships a draft layer."""
    if row.run is None or row.cells.get("mtp/spec", "").strip():
        return False
    deployment = row.run.deployment
    return model_of(deployment.model, deployment.precision).mtp_layers > 0


def replayed_by_group(
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
    answers: dict[object, Prediction | None] = {}
    observed = []
    for run in runs:
        key = (run.deployment, run.traffic)
        if key not in answers:
            answers[key] = _answer(run, known, logs)
        found = answers[key]
        if found is not None:
            errors = {name: -off for name, off in residuals(run, found).items()}
            observed.append(Observed(run, group, found, errors))
    return observed


def _answer(run: MeasuredRun, known: tuple[Parameter, ...], logs: Array) -> Prediction | None:
    try:
        return predict(at(run.deployment, known, logs), run.traffic, UNCALIBRATED)
    except UserError:
        return None


def _engines(found: Fit) -> tuple[EngineFit, ...]:
    values = [
        (one, _fitted(one, float(log), float(np.sqrt(variance))))
        for one, log, variance in zip(found.known, found.logs, found.variance, strict=True)
    ]
    everywhere = (FAMILIES[0][0], FAMILIES[-1][1])
    engines = []
    for backend in backend_names():
        for family in FAMILIES:
            facts = {
                one.kind.fact: fitted for one, fitted in values
                if one.backend == backend and one.family in (None, family)
            }  # fmt: skip
            engines.append(EngineFit(backend, family, facts))
        for cpu in cpus():
            facts = {one.kind.fact: fitted for one, fitted in values if one.cpu == cpu}
            engines.append(EngineFit(backend, everywhere, facts, cpu))
    return tuple(engines)


def _fitted(one: Parameter, log: float, deviation: float) -> Fitted:
    value, width = one.start * np.exp(log), _NORMAL_80 * deviation
    return Fitted(*(_rounded(value * np.exp(side * width)) for side in (0.0, -1.0, 1.0)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def spreads(left_out: Iterable[Observed], fitted: Iterable[Observed]) -> tuple[Spread, ...]:
    """Spreads of unmeasured groups by metric, mode and fallback, then of measured groups.

    Of a metric and mode with too few groups they are those of the shipped calibration.
    """
    out, own = list(left_out), list(fitted)
    found = []
    for metric in METRICS:
        for mode in ("agg", "disagg"):
            values = [one for one in out if one.run.mode == mode and metric in one.errors]
            if len({one.group for one in values}) < _LEAST_GROUPS:
                # Too few to tell what others will be like: what the shipped calibration knows.
                found += _shipped(metric, mode)
                continue
            common = _spread(metric, mode, values, 0.0)
            missing = [one for one in values if one.fallback >= _FALLBACK]
            enough = len({one.group for one in missing}) >= _LEAST_GROUPS
            wider = _spread(metric, mode, missing, _FALLBACK) if enough else _widened(common)
            found += [common, wider]
            found += _measured(metric, mode, values, own)
    return tuple(found)


def _shipped(metric: str, mode: str) -> list[Spread]:
    return [
        one for one in load_calibration().spreads
        if (one.metric, one.mode) == (metric, mode)
    ]  # fmt: skip


def _widened(common: Spread) -> Spread:
    """A spread with its quantiles further from the median."""
    middle = common.quantiles[LEVELS.index(0.5)]
    quantiles = tuple(round(middle + _WIDER * (one - middle), 3) for one in common.quantiles)
    return replace(common, quantiles=quantiles, fallback=_FALLBACK)


def _spread(metric: str, mode: str, part: Sequence[Observed], least: float) -> Spread:
    errors, weights = _weighted(metric, part)
    groups = len({one.group for one in part})
    quantiles = _quantiles(errors, weights)
    return Spread(metric, mode, quantiles, groups, len(part), fallback=least)


def _measured(
    metric: str, mode: str, values: Sequence[Observed], own: Sequence[Observed]
) -> list[Spread]:
    """Spreads of the groups themselves, mixed with that of all groups for want of runs.

    A group whose middle lies where not one in ten of all does has none: its runs did something
    else than they say, which others like it will not. Each holds the prediction.
    """
    errors, weights = _weighted(metric, values)
    common = _quantiles(errors, weights)
    weights = weights / weights.sum() * _BORROWED_ROWS
    groups: dict[Group, list[float]] = defaultdict(list)
    for one in own:
        if one.run.mode == mode and metric in one.errors:
            groups[one.group].append(one.errors[metric])
    found = []
    for (system, backend, model, _), mine in sorted(groups.items()):
        if len(mine) < _FEWEST_ROWS or not common[_LOW] <= np.median(mine) <= common[_HIGH]:
            continue
        # What others show is how far runs lie from their group's middle, not where that is.
        middle = float(np.median(mine)) * len(mine) / (len(mine) + _BORROWED_ROWS)
        spread = errors - float(np.median(errors)) + middle
        mixed = np.concatenate([spread, np.array(mine)])
        mass = np.concatenate([weights, np.ones(len(mine))])
        found.append(
            Spread(
                metric,
                mode,
                _around_zero(_quantiles(mixed, mass)),
                1,
                len(mine),
                system,
                backend,
                model,
            )
        )
    return found


def _around_zero(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """Quantiles whose outer ones are moved as far as an 80 % interval needs to hold the
    prediction itself."""
    low, high = max(quantiles[_LOW], 0.0), min(quantiles[_HIGH], 0.0)
    return tuple(
        round(one - low if place <= _LOW else one - high if place >= _HIGH else one, 3)
        for place, one in enumerate(quantiles)
    )


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
    return tuple(round(float(one), 3) for one in found)


def covered(left_out: Sequence[Observed]) -> dict[str, float]:
    """Share of runs within the 80 % interval made without their group, mean over groups."""
    found: dict[str, float] = {}
    for metric in METRICS:
        shares = []
        for group in sorted({one.group for one in left_out if metric in one.errors}):
            mine = [one for one in left_out if one.group == group and metric in one.errors]
            mode = mine[0].run.mode
            others = [
                one for one in left_out
                if one.group != group and metric in one.errors and one.run.mode == mode
            ]  # fmt: skip
            if others:
                quantiles = _spread(metric, mode, others, 0.0).quantiles
                low, high = quantiles[LEVELS.index(0.1)], quantiles[LEVELS.index(0.9)]
                shares.append(np.mean([low <= one.errors[metric] <= high for one in mine]))
        if shares:
            found[metric] = float(np.mean(shares))
    return found


def validation(left_out: Sequence[Observed]) -> dict[str, float]:
    """Mean and median over groups of the mean absolute relative error, predicted / measured;
    and the share of runs inside their 80 % interval."""
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
    for metric, share in covered(left_out).items():
        found[f"{metric}_inside"] = round(share, 4)
    return found
