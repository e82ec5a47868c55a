"""Probability that a configuration meets the targets, and intervals of what it will do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.batch import Batch
from aiconf.engine.calibration import Spread
from aiconf.engine.drafting import Step
from aiconf.engine.interval import below, bounds, spread_of
from aiconf.perf.origin import Origin
from aiconf.search.candidates import Array, Index
from aiconf.search.workers import Variant
from aiconf.workload import Sla, Workload

if TYPE_CHECKING:
    from aiconf.search.search import Side

_DECODES = 16.0  # sequences beside each other for which the share of fallback is taken
METRICS = ("ttft", "tpot", "output")


def probabilities(side: Side, work: Workload, sla: Sla) -> Array:
    """Probability that each candidate meets every target; NaN where nothing is known of it.

    The errors of TTFT and TPOT are taken as independent; a target on the whole request goes by
    the spread of TPOT, which most of it is, so that the harder of the two decides.
    """
    found = side.candidates
    tpot = np.nan_to_num(found.tpot)
    total = found.ttft + (work.osl - 1) * tpot
    chance = np.ones(len(found))
    for mine, spreads in _alike(side, work):
        if spreads["ttft"] is None or spreads["tpot"] is None:
            chance[mine] = np.nan
            continue
        own = below(spreads["ttft"], found.ttft[mine], sla.ttft)
        slow = below(spreads["tpot"], np.maximum(tpot[mine], 1e-12), sla.tpot)
        chance[mine] = own * np.minimum(slow, below(spreads["tpot"], total[mine], sla.latency))
    return chance


def intervals(side: Side, work: Workload) -> dict[str, tuple[Array, Array]]:
    """Factors on ttft, tpot and output of each candidate that bound an 80 % interval.

    NaN where the calibration says nothing.
    """
    count = len(side.candidates)
    ends = {name: (np.full(count, np.nan), np.full(count, np.nan)) for name in METRICS}
    for mine, spreads in _alike(side, work):
        for name, spread in spreads.items():
            factors = bounds(spread)
            if factors is not None:
                ends[name][0][mine], ends[name][1][mine] = factors
    return ends


def _alike(
    side: Side, work: Workload
) -> Iterator[tuple[NDArray[np.bool_], dict[str, Spread | None]]]:
    """Candidates that share their spreads: of one model, with about as much fallback."""
    found = side.candidates
    if not len(found):
        return
    models = np.array([variant.spec.shape for variant in side.variants])[found.variant]
    share = _shares(side.variants, found.variant, work)
    if side.mode == "disagg":
        share = (share + _shares(side.prefill_variants, found.prefill_variant, work)) / 2.0
    platform = side.variants[int(found.variant[0])].platform
    steps = np.array(sorted({one.fallback for one in platform.calibration.spreads} | {0.0}))
    level = np.searchsorted(steps, share, side="right") - 1
    for model in np.unique(models):
        for place in np.unique(level[models == model]):
            known = {
                name: spread_of(
                    platform.calibration, name, side.mode, system=platform.system.name,
                    backend=side.backend, model=str(model), fallback=float(steps[place]),
                )
                for name in METRICS
            }  # fmt: skip
            yield (models == model) & (level == place), known


def _shares(variants: list[Variant], place: Index, work: Workload) -> Array:
    """Share of fallback of each candidate's variant."""
    used, back = np.unique(place, return_inverse=True)
    shares = [_fallback(variants[i].step, work.isl, work.osl) for i in used]
    found: Array = np.array(shares)[back.reshape(-1)]
    return found


@lru_cache(maxsize=4096)
def _fallback(step: Step, isl: int, osl: int) -> float:
    """Share of a request's time that is a fallback: its prompt alone, its output beside others."""
    context = isl + osl / 2.0
    tokens = float(min(isl, 8192))
    prompt = step.time(Batch.of(prefill_tokens=tokens))
    decode = step.time(Batch.of(decode=_DECODES, context=context))
    weights = np.array([isl / tokens, (osl - 1) / _DECODES])
    total = np.array([prompt.seconds[0], decode.seconds[0]]) @ weights
    missing = np.array([one.by_origin[Origin.FALLBACK, 0] for one in (prompt, decode)])
    return float(missing @ weights / max(total, 1e-12))
