"""Robust regression of the calibration's parameters on measured runs.

The replay is evaluated at the current parameters and once more for each kind of parameter,
moved for all engines at once (a run depends on the parameters of its own engine only). On this
linearisation the parameters minimise

    sum over groups of (1 / rows) sum of rho(residual / noise) + sum of (log / prior)^2,

residual = ln(predicted / measured), rho = ln(1 + square) (Cauchy), so that runs with a cause that
the model does not know cannot pull. Each group (hardware, model, backend, mode) weighs the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import least_squares

from aiconf.engine.batch import Array
from aiconf.engine.changes import Changes
from aiconf.errors import UserError
from aiconf.runs.measured import Deployment, MeasuredRun
from aiconf.runs.names import model_of
from aiconf.runs.parameters import KINDS, Parameter, facts_at, parameters
from aiconf.runs.predict import Prediction, predict
from aiconf.system import load_system

METRICS = ("tpot", "ttft", "output")
# What repeated runs and what is not modelled leave over: ln(predicted / measured) of a good group.
_NOISE = {"tpot": 0.1, "ttft": 0.3}
_EFFECTIVE_ROWS = 2.0  # of a group: its runs share one cause of error, more rows say little more
_STEP = 0.1  # of ln(parameter) in the difference quotient
_ROUNDS = 2

Progress = Callable[[str], None]
Group = tuple[str, str, str, str]  # system, backend, model, mode


@dataclass(frozen=True)
class Fit:
    """Logs of the parameters over their start, and the linearisation they were found on.

    residual, slope: ln(predicted / measured) of each observation at ``logs`` and its derivative.
    weight, groups: of each observation. variance: of each log.
    """

    known: tuple[Parameter, ...]
    logs: Array
    variance: Array
    residual: Array
    slope: Array
    weight: Array
    groups: list[Group]

    def without(self, group: Group) -> Array:
        """Logs of the parameters had ``group`` not been measured."""
        keep = np.array([one != group for one in self.groups])
        return _solve(
            self.known, self.residual[keep] - self.slope[keep] @ self.logs, self.slope[keep],
            self.weight[keep],
        )  # fmt: skip


def group_of(run: MeasuredRun) -> Group:
    """Return the group whose runs share their causes of error."""
    deployment = run.deployment
    model = model_of(deployment.model, deployment.precision).name
    return deployment.system, deployment.backend, model, run.mode


def residuals(run: MeasuredRun, found: Prediction) -> dict[str, float]:
    """ln(predicted / measured) of each metric that the run states."""
    metrics = run.metrics
    pairs = {
        "tpot": (found.tpot_mean, metrics.tpot_mean),
        "output": (found.output_rate, metrics.output_rate),
    }
    if metrics.ttft is not None:
        kind, measured = metrics.ttft
        pairs["ttft"] = (found.ttft_p50 if kind == "p50" else found.ttft_mean, measured)
    return {name: float(np.log(a / b)) for name, (a, b) in pairs.items() if a and b}


def sample(runs: Sequence[MeasuredRun], rows: int, seed: int) -> list[MeasuredRun]:
    """At most ``rows`` runs of each group and precision, drawn without replacement."""
    groups: dict[object, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        groups[group_of(run), run.deployment.precision].append(run)
    random = np.random.default_rng(seed)
    found = []
    for members in groups.values():
        place = random.permutation(len(members))[:rows]
        found += [members[i] for i in sorted(place)]
    return found


def fit(
    runs: Sequence[MeasuredRun], *, seed: int = 0, rows: int = 12, progress: Progress = print
) -> Fit:
    """Fit all parameters to ``runs``, of which at most ``rows`` of a group are replayed.

    Raises
    ------
    UserError
        When no run says enough to be predicted.
    """
    known = parameters()
    chosen = sample(runs, rows, seed)
    if not chosen:
        raise UserError("no measured run says enough to be fitted to")
    logs = np.zeros(len(known))
    with ProcessPoolExecutor() as pool:
        for turn in range(_ROUNDS):
            progress(f"round {turn + 1} of {_ROUNDS}: {len(chosen)} runs, {len(KINDS) + 1} replays")
            moves = [_moved(known, None), *(_moved(known, kind.fact) for kind in KINDS)]
            work = [(chosen, known, logs + _STEP * move) for move in moves]
            results = list(pool.map(_observed, work))
            residual, slope, weight, groups = _linearised(known, chosen, results)
            logs = _solve(known, residual - slope @ logs, slope, weight)
    at = residual + slope @ (logs - work[0][2])
    normal = (slope * weight[:, None]).T @ (slope * weight[:, None])
    normal += np.diag([1.0 / one.kind.prior**2 for one in known])
    variance = np.diag(np.linalg.inv(normal))
    return Fit(known, logs, variance, at, slope, weight, groups)


def _moved(known: tuple[Parameter, ...], fact: str | None) -> Array:
    return np.array([float(one.kind.fact == fact) for one in known])


def _observed(
    work: tuple[list[MeasuredRun], tuple[Parameter, ...], Array],
) -> list[dict[str, float] | None]:
    """Residuals of runs with the parameters at some logs; None where a run cannot be predicted."""
    runs, known, logs = work
    cache: dict[object, dict[str, float] | None] = {}
    found = []
    for run in runs:
        key = (run.deployment, run.traffic, run.metrics)
        if key not in cache:
            try:
                cache[key] = residuals(run, predict(at(run.deployment, known, logs), run.traffic))
            except UserError:
                cache[key] = None
        found.append(cache[key])
    return found


def at(deployment: Deployment, known: tuple[Parameter, ...], logs: Array) -> Deployment:
    """Return the deployment with the parameters of its engine at ``logs``."""
    sm = load_system(deployment.system).gpu.sm
    facts: Changes = facts_at(known, logs, deployment.backend, sm)
    return replace(deployment, changes=(*deployment.changes, *facts))


def _linearised(
    known: tuple[Parameter, ...],
    runs: Sequence[MeasuredRun],
    results: Sequence[Sequence[dict[str, float] | None]],
) -> tuple[Array, Array, Array, list[Group]]:
    """Residual, slope and weight of each observation, with its group."""
    base, moved = results[0], results[1:]
    values, slopes, noise, groups = [], [], [], []
    sms = [load_system(run.deployment.system).gpu.sm for run in runs]
    for i, run in enumerate(runs):
        first = base[i]
        others = [result[i] for result in moved]
        if first is None or any(one is None for one in others):
            continue
        for metric, scale in _NOISE.items():
            if metric not in first:
                continue
            quotient = [(one[metric] - first[metric]) / _STEP for one in others if one]
            by_fact = dict(zip((kind.fact for kind in KINDS), quotient, strict=True))
            mine = [one.of(run.deployment.backend, sms[i]) for one in known]
            values.append(first[metric])
            slopes.append(
                [by_fact[one.kind.fact] * own for one, own in zip(known, mine, strict=True)]
            )
            noise.append(scale)
            groups.append(group_of(run))
    sizes = {group: groups.count(group) for group in set(groups)}
    weight = np.array(
        [
            np.sqrt(min(_EFFECTIVE_ROWS / sizes[group], 1.0)) / scale
            for group, scale in zip(groups, noise, strict=True)
        ]
    )
    return np.array(values), np.array(slopes), weight, groups


def _solve(known: tuple[Parameter, ...], offset: Array, slope: Array, weight: Array) -> Array:
    """Logs that minimise the robust sum on ``offset + slope @ logs`` with their priors."""
    prior = np.array([one.kind.prior for one in known])
    found = least_squares(
        partial(_terms, offset, slope, weight, prior), np.zeros(len(known)),
        jac=partial(_jacobian, slope, weight, prior), loss=partial(_loss, len(offset)),
    )  # fmt: skip
    logs: Array = found.x
    return logs


def _terms(offset: Array, slope: Array, weight: Array, prior: Array, logs: Array) -> Array:
    return np.concatenate([(offset + slope @ logs) * weight, logs / prior])


def _jacobian(slope: Array, weight: Array, prior: Array, logs: Array) -> Array:
    return np.concatenate([slope * weight[:, None], np.diag(1.0 / prior)])


def _loss(observations: int, squares: Array) -> Array:
    """Cauchy for observations, squares for priors (rho, its first and second derivative)."""
    slope = 1.0 / (1.0 + squares)
    robust = np.array([np.log1p(squares), slope, -(slope**2)])
    plain = np.array([squares, np.ones(len(squares)), np.zeros(len(squares))])
    return np.where(np.arange(len(squares)) < observations, robust, plain)
