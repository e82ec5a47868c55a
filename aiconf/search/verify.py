"""Finalists of a search, replayed request by request.

The search ranks by closed forms of the steady state; a replay of its winners shows what they
average over: queues behind other prompts, and the tails. Lengths vary by a tenth around the
asked ones, so that requests do not march in step; the first waves, and the last one, during
which the deployment runs empty, are not counted.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from aiconf.search.request import Request
from aiconf.search.search import Found
from aiconf.search.workers import Variant
from aiconf.simulate.deployment import Engine, aggregated, disaggregated, engine
from aiconf.simulate.requests import Load, Replay
from aiconf.simulate.results import Summary, summarize

_SPREAD = 0.1  # of the lengths, to both sides
_WAVES = 5  # requests of each user; the first two and the last one are not counted
_WANTED_USERS = 250  # of a replay: a larger deployment is replayed by one of its equal parts
_MOST_USERS = 800  # of a part, beyond which a replay would take longer than the search


def replayed(request: Request, found: Found, seed: int = 0) -> Summary | None:
    """Replay one candidate at its concurrency; None where the replay cannot.

    It does not know prefix reuse, nor requests that wait for room in the cache of a deployment
    that was asked for more than it holds; and thousands of users take it too long.
    """
    work = request.workload
    if work.prefix or work.osl == 1 or _users(found) > _MOST_USERS:
        return None
    load = _load(request, _users(found), seed)
    after = _engine(request, found.variant, found.value("token_budget"), load)
    before_variant = found.prefill_variant
    if before_variant is None:
        if found.value("batch") * found.value("workers") < found.value("concurrency"):
            return None
        beside = found.value("concurrency") / found.value("workers") - 1.0
        replay = aggregated(after, load, beside=beside, seed=seed)
        return summarize(_steady(replay, load), request.sla)
    before = _engine(request, before_variant, found.value("prefill_token_budget"), load)
    parts = _parts(found)
    counts = (int(found.value(name)) // parts for name in ("prefill_workers", "workers"))
    prefill, decode = counts
    replay = disaggregated(before, prefill, after, decode, load, seed=seed)
    return summarize(_steady(replay, load), request.sla)


def _steady(replay: Replay, load: Load) -> Replay:
    """The replay without its last wave."""
    kept = slice(0, len(load) - min(load.users, len(load) // 5))
    return replace(
        replay, sent=replay.sent[kept], first=replay.first[kept], last=replay.last[kept],
        output=replay.output[kept], prompt=replay.prompt[kept], started=replay.started[kept],
    )  # fmt: skip


def _parts(found: Found) -> int:
    """Equal parts of a deployment that serve alike, so that one stands for all."""
    if found.prefill_variant is None:
        return int(found.value("workers")) * found.variant.parallel.pp
    users, workers = found.value("concurrency"), int(found.value("workers"))
    equal = math.gcd(int(found.value("prefill_workers")), workers)
    wanted = math.ceil(users / _WANTED_USERS)
    return next(parts for parts in range(min(wanted, equal), 0, -1) if equal % parts == 0)


def _users(found: Found) -> int:
    return max(1, round(found.value("concurrency") / _parts(found)))


def _load(request: Request, users: int, seed: int) -> Load:
    random, work = np.random.default_rng(seed), request.workload
    count = max(_WAVES * users, 60)
    text, output = (
        random.integers(max(1, round(mean * (1 - _SPREAD))), round(mean * (1 + _SPREAD)) + 1, count)
        for mean in (work.text, work.osl)
    )
    prompt = text + (work.isl - work.text)
    warm = min(2 * users, count // 2)
    return Load(prompt, output, None, users, warmup=warm, images=work.images)


def _engine(request: Request, variant: Variant, budget: float, load: Load) -> Engine:
    shared = variant.platform.traits.scheduler.budget_shared_by_dp
    ranks = variant.parallel.dp if shared else 1
    return engine(
        variant.platform, variant.spec, variant.parallel, isl=int(load.prompt.max()),
        osl=int(load.output.max()), token_budget=int(budget) * ranks, kv_dtype=variant.kv_dtype,
        fractions=(None, 1.0),
    )  # fmt: skip
