"""The space: every parallel layout that a model, an engine and a number of GPUs allow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.engine import Platform
from aiconf.model.layout import layout_problem
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel

Array = NDArray[np.float64]


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


# The largest expert-parallel group that has been reported: decode of DeepSeek-V3 on 320 GPUs
# (DeepSeek-V3 technical report, section 3.4.2). Beyond it, workers are replicated.
_LARGEST_STAGE = 320


def _group_sizes(platform: Platform, most: int) -> Iterator[int]:
    """Ranks of one stage: powers of two, whole nodes, and whole NVLink domains."""
    system = platform.system
    domain = system.nvlink_domain
    sizes = {2**power for power in range(_LARGEST_STAGE.bit_length())}
    sizes |= {nodes * system.gpus_per_node for nodes in _divisors(domain // system.gpus_per_node)}
    sizes |= {domain * 2**power for power in range(4)}
    yield from sorted(size for size in sizes if size <= min(most, _LARGEST_STAGE))


def _runs(platform: Platform, spec: ModelSpec, parallel: Parallel) -> bool:
    """Whether the engine can run the layout and be deployed so."""
    traits = platform.traits
    allowed = traits.allows(parallel, moe=spec.is_moe) is None
    return allowed and traits.spreads(parallel, platform.system.gpus_per_node)


def layouts(platform: Platform, spec: ModelSpec, gpus: int) -> list[Parallel]:
    """Every legal layout of one worker on at most ``gpus`` GPUs, smallest first.

    TP stays inside an NVLink domain (across domains every layer would wait for the network);
    PP, DP and EP may span domains. PP is 1, 2, 4 or 8.
    """
    found = []
    domain = platform.system.nvlink_domain
    for stage in _group_sizes(platform, gpus):
        for pp in (1, 2, 4, 8):
            if stage * pp > gpus:
                break
            for tp in _divisors(stage):
                dp = stage // tp
                if tp > domain or (dp > 1 and not spec.is_moe):
                    continue
                for ep in _divisors(stage) if spec.is_moe else [1]:
                    parallel = Parallel(tp, pp, dp, ep)
                    if not _runs(platform, spec, parallel):
                        continue
                    if layout_problem(spec, parallel) is None:
                        found.append(parallel)
    return sorted(set(found), key=lambda p: (p.gpus, p))


@lru_cache(maxsize=256)
def prompt_counts(most: int) -> Array:
    """Prompts at once that are tried, up to ``most``: five, evenly spaced on a log scale."""
    counts: Array = np.unique(np.round(np.geomspace(1.0, most, 5)))
    counts.flags.writeable = False
    return counts


# All up to 64, then 24 per octave.
_BATCHES: Array = np.unique(
    np.concatenate([np.arange(1.0, 65.0), np.round(2.0 ** np.arange(6.0, 24.0, 1 / 24))])
)


def concurrencies(most: float) -> Array:
    """Requests in flight per attention rank that are tried, the whole of ``most`` among them."""
    last = float(np.floor(most))
    below = _BATCHES[: int(np.searchsorted(_BATCHES, last))]
    return np.append(below, last) if last >= 1 else np.zeros(0)


def token_budgets(platform: Platform, dp: int = 1) -> list[int]:
    """Token budgets of a rank that are tried: the engine's default, a quarter and twice of it."""
    default = platform.token_budget(dp)
    return [default // 4, default, default * 2]
