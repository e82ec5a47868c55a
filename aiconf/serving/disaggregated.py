"""Prefill and decode on separate workers: queue before prefill, KV transfer, rate matching."""

from __future__ import annotations

import numpy as np

from aiconf.serving.point import Array
from aiconf.system.spec import System

# A queue is not stable at utilisation 1, and near it the mean says nothing: prefill workers
# are never planned fuller than this.
MAX_UTILISATION = 0.95


def prefill_wait(load: Array, seconds: Array | float, workers: Array) -> Array:
    """Mean wait before prefill, in seconds.

    Kingman's formula with deterministic service and Poisson arrivals dealt round-robin to
    ``workers``, so that each sees Erlang arrivals: c_a^2 = 1 / workers, c_s^2 = 0
    (Kingman 1961; W = rho / (1 - rho) (c_a^2 + c_s^2) / 2 S).
    """
    return load / (1.0 - load) * seconds / (2.0 * workers)


def prefill_workers_needed(
    demand: Array, rate: Array | float, seconds: Array | float, slack: Array
) -> Array:
    """Fewest prefill workers for ``demand`` requests/s with a mean wait of at most ``slack``.

    From ``prefill_wait`` <= slack with load = demand / (x rate):
    2 slack rate x^2 - 2 slack demand x - demand seconds >= 0. Where even an empty queue misses
    the target, a wait of half a prefill is accepted, so that the nearest miss can be shown.
    """
    allowed = np.minimum(np.maximum(slack, 0.5 * seconds), 1e9)
    a, b, c = 2.0 * allowed * rate, 2.0 * allowed * demand, demand * seconds
    needed = (b + np.sqrt(b * b + 4.0 * a * c)) / (2.0 * a)
    needed = np.maximum(needed, demand / (rate * MAX_UTILISATION))
    return np.maximum(np.ceil(needed - 1e-9), 1.0)


def transfer_seconds(before: System, after: System, moved: Array, *, near: bool) -> Array:
    """Time to push one prompt's KV cache from the prefill to the decode GPUs.

    moved: bytes over the busiest GPU's link; every GPU of a worker sends its shard at once.
    near: both sides share one NVLink domain; else each GPU has its own network adapter, and the
    slower side sets the pace.
    """
    if near:
        return moved / before.nvlink_bandwidth + before.nvlink_latency
    rate = min(before.network_bandwidth, after.network_bandwidth)
    return moved / rate + max(before.network_latency, after.network_latency)
