"""How sure a prediction is: intervals and probabilities from a calibration's spreads.

A spread is the distribution of ln(measured / predicted) of runs like the one that is predicted:
of its own group (system, backend, model, mode) where that was measured, else of groups that
were left out of the fit, the wider one where much of the time is a fallback.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.engine.calibration import LEVELS, Calibration, Spread

Array = NDArray[np.float64]

_LOW, _HIGH = LEVELS.index(0.1), LEVELS.index(0.9)


def spread_of(
    calibration: Calibration,
    metric: str,
    mode: str,
    *,
    system: str,
    backend: str,
    model: str,
    fallback: float = 0.0,
) -> Spread | None:
    """Return the spread for a prediction; None where the calibration holds none for its mode.

    metric: ttft, tpot or output. mode: agg or disagg. fallback: share of the time, 0 to 1.
    """
    found: Spread | None = None
    for one in _of_mode(calibration, metric, mode):
        if (one.system, one.backend, one.model) == (system, backend, model):
            return one
        if not one.system and one.fallback <= fallback:
            found = one  # in the order of their least fallback
    return found


def _of_mode(calibration: Calibration, metric: str, mode: str) -> Sequence[Spread]:
    own = [one for one in calibration.spreads if one.metric == metric and one.mode == mode]
    return sorted(own, key=lambda one: one.fallback)


def bounds(spread: Spread | None) -> tuple[float, float] | None:
    """Return the factors on a prediction between which 80 % of measured values lie."""
    if spread is None:
        return None
    return float(np.exp(spread.quantiles[_LOW])), float(np.exp(spread.quantiles[_HIGH]))


def quantile(spread: Spread | None, level: float) -> float:
    """Return the factor on a prediction that a share ``level`` of measured values stays below."""
    if spread is None:
        return 1.0
    return float(np.exp(np.interp(level, LEVELS, spread.quantiles)))


def below(spread: Spread | None, predicted: ArrayLike, limit: float) -> Array:
    """Return the probability that the measured value is at most ``limit``.

    Between the quantiles it is interpolated, beyond them it falls exponentially at the slope of
    the last two. Without a spread the prediction itself decides.
    """
    values = np.asarray(predicted, dtype=np.float64)
    if np.isinf(limit):
        return np.ones(values.shape)
    if spread is None:
        return (values <= limit).astype(np.float64)
    with np.errstate(divide="ignore"):
        place = np.log(limit / values)
    points = np.asarray(spread.quantiles)
    found = np.interp(place, points, LEVELS)
    left, right = _slope(points[1] - points[0]), _slope(points[-1] - points[-2])
    found = np.where(
        place < points[0], LEVELS[0] * np.exp(np.minimum(place - points[0], 0.0) / left), found
    )
    tail = (1.0 - LEVELS[-1]) * np.exp(np.minimum(points[-1] - place, 0.0) / right)
    return np.where(place > points[-1], 1.0 - tail, found)


def _slope(width: float) -> float:
    """Scale of an exponential tail that halves over ``width`` (from 10 % to 5 %)."""
    return max(float(width), 1e-6) / float(np.log(2.0))
