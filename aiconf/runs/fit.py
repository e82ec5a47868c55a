"""Robust regression of the calibration's parameters on measured runs.

The replay is evaluated at the current parameters and once more for each kind of parameter,
moved for all engines at once (a run depends on the parameters of its own engine only). On this
linearisation the parameters minimise

    sum over observations of weight x rho(residual / noise) + sum of (log / prior)^2,

residual = ln(predicted / measured), rho = ln(1 + square) (Cauchy), so that runs with a cause that
the model does not know cannot pull. The weights
of a group (hardware, model, backend, mode) sum to that of a few runs, however many it has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import least_squares

from aiconf.engine.batch import Array
from aiconf.engine.calibration import UNCALIBRATED
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
ROWS = 6  # of a group that are replayed for the fit

Progress = Callable[[str], None]
Group = tuple[str, str, str, str]  # system, backend, model, mode


@dataclass(frozen=True)
class Fit:
    """Logs of the parameters over their start, and the linearisation they were found on.

    residual, slope: ln(predicted / measured) of each observation at ``logs``, in units of its
    noise, and its derivative. weight, groups: of each observation. variance: of each log, from
    the scatter between groups.
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
    """Return the group whose runs share their causes of error; checkpoints of equal shape are one
    model."""
    deployment = run.deployment
    model = model_of(deployment.model, deployment.precision).shape
    return deployment.system, deployment.backend, model, run.mode


def distinct(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Leave out runs that are another one over again: files list some under two names."""
    known: dict[object, MeasuredRun] = {}
    for run in runs:
        load, seen = run.traffic, run.metrics
        key = (group_of(run), load, seen.tpot_mean, seen.ttft, seen.output_rate)
        known.setdefault(key, run)
    return list(known.values())


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
    """At most ``rows`` runs of each group and precision, with and without drafts, drawn without
    replacement."""
    groups: dict[object, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        how = run.deployment.precision, run.deployment.speculation is None
        groups[group_of(run), how].append(run)
    random = np.random.default_rng(seed)
    found = []
    for members in groups.values():
        place = random.permutation(len(members))[:rows]
        found += [members[i] for i in sorted(place)]
    return found


def fit(
    runs: Sequence[MeasuredRun], *, seed: int = 0, rows: int = ROWS, progress: Progress = print
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
    return Fit(known, logs, _variance(known, at, slope, weight, groups), at, slope, weight, groups)


def _variance(
    known: tuple[Parameter, ...], residual: Array, slope: Array, weight: Array, groups: list[Group]
) -> Array:
    """Variance of each log: the sandwich estimate with groups as clusters (Huber 1967).

    Never less than what the priors and the noise alone would leave.
    """
    robust = weight / (1.0 + residual**2)
    inverse = np.linalg.inv(
        (slope * robust[:, None]).T @ slope + np.diag([1.0 / one.kind.prior**2 for one in known])
    )
    middle = np.zeros_like(inverse)
    names = np.array(["|".join(group) for group in groups])
    for name in np.unique(names):
        mine = names == name
        score = (slope[mine] * (robust * residual)[mine, None]).sum(axis=0)
        middle += np.outer(score, score)
    found: Array = np.maximum(np.diag(inverse @ middle @ inverse), np.diag(inverse))
    return found


def _moved(known: tuple[Parameter, ...], fact: str | None) -> Array:
    return np.array([float(one.kind.fact == fact) for one in known])


def _observed(
    work: tuple[list[MeasuredRun], tuple[Parameter, ...], Array],
) -> list[dict[str, float] | str]:
    """Residuals of runs with the parameters at some logs, or why a run cannot be predicted."""
    runs, known, logs = work
    cache: dict[object, dict[str, float] | str] = {}
    found = []
    for run in runs:
        key = (run.deployment, run.traffic, run.metrics)
        if key not in cache:
            try:
                found_at = predict(at(run.deployment, known, logs), run.traffic, UNCALIBRATED)
                cache[key] = residuals(run, found_at)
            except UserError as error:
                cache[key] = str(error)
        found.append(cache[key])
    return found


def at(deployment: Deployment, known: tuple[Parameter, ...], logs: Array) -> Deployment:
    """Return the deployment with the parameters of its engine at ``logs``."""
    system = load_system(deployment.system)
    facts: Changes = facts_at(known, logs, deployment.backend, system)
    return replace(deployment, changes=(*facts, *deployment.changes))


def _linearised(
    known: tuple[Parameter, ...],
    runs: Sequence[MeasuredRun],
    results: Sequence[Sequence[dict[str, float] | str]],
) -> tuple[Array, Array, Array, list[Group]]:
    """Residual, slope and weight of each observation, with its group."""
    base, moved = results[0], results[1:]
    values, slopes = [], []
    metrics: list[tuple[Group, str]] = []
    systems = [load_system(run.deployment.system) for run in runs]
    for i, run in enumerate(runs):
        first = base[i]
        others = [result[i] for result in moved]
        if isinstance(first, str) or any(isinstance(one, str) for one in others):
            continue
        for metric, scale in _NOISE.items():
            if metric not in first:
                continue
            quotient = [
                (one[metric] - first[metric]) / _STEP
                for one in others if not isinstance(one, str)
            ]  # fmt: skip
            by_fact = dict(zip((kind.fact for kind in KINDS), quotient, strict=True))
            mine = [one.of(run.deployment.backend, systems[i]) for one in known]
            values.append(first[metric] / scale)
            slopes.append(
                [by_fact[one.kind.fact] * own / scale for one, own in zip(known, mine, strict=True)]
            )
            metrics.append((group_of(run), metric))
    if not values:
        reason = next((one for one in base if isinstance(one, str)), "none states TPOT or TTFT")
        raise UserError(f"no measured run can be fitted to: {reason}")
    sizes = Counter(metrics)
    weight = np.array([min(_EFFECTIVE_ROWS / sizes[one], 1.0) for one in metrics])
    return np.array(values), np.array(slopes), weight, [group for group, _ in metrics]


def _solve(known: tuple[Parameter, ...], offset: Array, slope: Array, weight: Array) -> Array:
    """Logs that minimise the robust sum on ``offset + slope @ logs`` with their priors."""
    prior = np.array([one.kind.prior for one in known])
    found = least_squares(
        partial(_terms, offset, slope, prior), np.zeros(len(known)),
        jac=partial(_jacobian, slope, prior), loss=partial(_loss, weight),
    )  # fmt: skip
    logs: Array = found.x
    return logs


def _terms(offset: Array, slope: Array, prior: Array, logs: Array) -> Array:
    return np.concatenate([offset + slope @ logs, logs / prior])


def _jacobian(slope: Array, prior: Array, _logs: Array) -> Array:
    return np.concatenate([slope, np.diag(1.0 / prior)])


def _loss(weight: Array, squares: Array) -> Array:
    """Weighted Cauchy for observations, squares for the priors behind them (rho, rho', rho'')."""
    count = len(weight)
    slope = 1.0 / (1.0 + squares[:count])
    robust = np.array([np.log1p(squares[:count]), slope, -(slope**2)]) * weight
    rest = len(squares) - count
    plain = np.array([squares[count:], np.ones(rest), np.zeros(rest)])
    return np.concatenate([robust, plain], axis=1)
