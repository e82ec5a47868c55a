"""When requests arrive in an open loop."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError, unknown

Array = NDArray[np.float64]
Process = Literal["poisson", "gamma", "constant"]
PROCESSES: tuple[Process, ...] = get_args(Process)


def arrivals(
    random: np.random.Generator,
    count: int,
    rate: float,
    process: Process = "poisson",
    cv: float = 1.0,
) -> Array:
    """Seconds at which ``count`` requests arrive, ``rate`` per second on average, from 0 on.

    process: ``poisson``; ``gamma``: gaps of coefficient of variation ``cv`` (above 1 in bursts,
    below 1 evenly; vllm bench serve calls 1 / cv^2 the burstiness); ``constant``: equal gaps.

    Raises
    ------
    UserError
        For an unknown process, a rate that is not positive, or an impossible ``cv``.
    """
    if process not in PROCESSES:
        raise unknown("arrival process", process, list(PROCESSES))
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"a request rate must be a positive number per second, not {rate}")
    if process == "constant":
        return np.arange(count) / rate
    if process == "gamma":
        if not (math.isfinite(cv) and cv > 0):
            raise UserError(f"the variation of arrivals must be a positive number, not {cv}")
        gaps = random.gamma(1.0 / cv**2, cv**2 / rate, count)
    else:
        gaps = random.exponential(1.0 / rate, count)
    found: Array = np.cumsum(gaps) - gaps[0]
    return found


def together(count: int) -> Array:
    """All at once: a burst, a static batch, or work that is offline."""
    return np.zeros(count)
