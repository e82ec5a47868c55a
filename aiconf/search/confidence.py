"""Probability that a configuration meets the targets, and intervals of what it will do."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.calibration import Spread
from aiconf.engine.interval import below, bounds, spread_of
from aiconf.engine.step import StepModel
from aiconf.perf.origin import Origin
from aiconf.search.candidates import Array
from aiconf.search.workers import Variant
from aiconf.workload import Sla, Workload

if TYPE_CHECKING:
    from aiconf.search.search import Side

_DECODES = 16.0  # sequences beside each other for which the share of fallback is taken
METRICS = ("ttft", "tpot", "output")


def probabilities(side: Side, work: Workload, sla: Sla) -> Array:
    """Probability that each candidate meets every target.

    The errors of TTFT and TPOT are taken as independent; a target on the whole request goes by
    the spread of TPOT, which most of it is.
    """
    found = side.candidates
    tpot = np.nan_to_num(found.tpot)
    total = found.ttft + (work.osl - 1) * tpot
    chance = np.ones(len(found))
    for key in _kinds(side):
        mine = _where(side, key)
        spreads = {name: _spread(side, work, key, name) for name in METRICS}
        own = below(spreads["ttft"], found.ttft[mine], sla.ttft)
        own = own * below(spreads["tpot"], np.maximum(tpot[mine], 1e-12), sla.tpot)
        chance[mine] = own * below(spreads["tpot"], total[mine], sla.latency)
    return chance


def intervals(side: Side, work: Workload, place: int) -> dict[str, tuple[float, float] | None]:
    """Factors on ttft, tpot and output of one candidate that bound an 80 % interval."""
    found = side.candidates
    key = int(found.variant[place]), int(found.prefill_variant[place])
    return {name: bounds(_spread(side, work, key, name)) for name in METRICS}


Key = tuple[int, int]  # variant and prefill variant (-1: none)


def _kinds(side: Side) -> set[Key]:
    found = side.candidates
    pairs = zip(found.variant.tolist(), found.prefill_variant.tolist(), strict=True)
    return set(pairs)


def _where(side: Side, key: Key) -> Array:
    found = side.candidates
    mine: Array = (found.variant == key[0]) & (found.prefill_variant == key[1])
    return mine


def _spread(side: Side, work: Workload, key: Key, metric: str) -> Spread | None:
    variant = side.variants[key[0]]
    parts = [variant] if key[1] < 0 else [variant, side.prefill_variants[key[1]]]
    shares = [_fallback(_step(part), work.isl, work.osl) for part in parts]
    platform = variant.platform
    return spread_of(
        platform.calibration, metric, side.mode, system=platform.system.name,
        backend=side.backend, model=variant.spec.name, fallback=sum(shares) / len(shares),
    )  # fmt: skip


def _step(variant: Variant) -> StepModel:
    return variant.platform.step(variant.spec, variant.parallel, variant.kv_dtype)


@lru_cache(maxsize=4096)
def _fallback(step: StepModel, isl: int, osl: int) -> float:
    """Share of a request's time that is a fallback: its prompt alone, its output beside others."""
    context = isl + osl / 2.0
    tokens = float(min(isl, 8192))
    prompt = step.time(Batch.of(prefill_tokens=tokens))
    decode = step.time(Batch.of(decode=_DECODES, context=context))
    weights = np.array([isl / tokens, (osl - 1) / _DECODES])
    total = np.array([prompt.seconds[0], decode.seconds[0]]) @ weights
    missing = np.array([one.by_origin[Origin.FALLBACK, 0] for one in (prompt, decode)])
    return float(missing @ weights / max(total, 1e-12))
