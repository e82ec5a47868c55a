"""What a deployment with all its settings does: the inverse of ``search.plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aiconf.engine.engine import Platform
from aiconf.engine.told import told
from aiconf.errors import UserError
from aiconf.search.estimate import Setting, estimate_point
from aiconf.search.request import Request
from aiconf.search.search import Found
from aiconf.serving.plan import Plan, Role, Worker

Places = Mapping[Role, Platform]

_POINTS = 24  # of a sweep over requests in flight
_AS_GOOD = 0.995  # of the highest rate: below it the decode side starves


def predict(plan: Plan, places: Places, concurrency: int | None = None) -> tuple[Request, Found]:
    """Predict ``plan`` as it is set.

    Parameters
    ----------
    places
        Platform by role, whose engine has the defaults of its version.
    concurrency
        Requests in flight per worker (per decode worker when disaggregated); None: as many as
        the worker's own limit and its KV cache let run.

    Raises
    ------
    UserError
        The layout is illegal, the model does not fit, or a request is longer than is served.
    """
    first, last = _sides(plan)
    return _point(plan, _setting(plan, places, first, last), first, concurrency)


def swept(plan: Plan, places: Places) -> list[tuple[Request, Found]]:
    """Predict ``plan`` from one request in flight per worker to as many as it lets run.

    Raises
    ------
    UserError
        As ``predict``.
    """
    first, last = _sides(plan)
    setting = _setting(plan, places, first, last)
    full = _point(plan, setting, first, None)
    most = max(full[1].value("batch"), 1.0)
    sizes = np.unique(np.round(np.geomspace(1.0, most, _POINTS))).astype(int)
    return [_point(plan, setting, first, int(size)) for size in sizes[:-1]] + [full]


def _point(
    plan: Plan, setting: Setting, first: Worker, concurrency: int | None
) -> tuple[Request, Found]:
    wanted = replace(setting, concurrency=concurrency or setting.max_sequences or 1)
    if first.role == "prefill":
        return _batched(wanted, plan, first)
    if concurrency is not None:
        return estimate_point(wanted)
    held = int(estimate_point(wanted)[1].value("batch"))
    return estimate_point(replace(wanted, concurrency=max(held, 1)))


def _sides(plan: Plan) -> tuple[Worker, Worker]:
    """The workers that prefill and those that decode: the same ones when aggregated."""
    roles = {worker.role: worker for worker in plan.workers}
    if set(roles) == {"agg"}:
        return roles["agg"], roles["agg"]
    if set(roles) != {"prefill", "decode"} or len(plan.workers) != 2:
        names = ", ".join(sorted(worker.role for worker in plan.workers))
        raise UserError(f"a deployment of {names} cannot be predicted: one agg, or prefill and "
                        "decode")  # fmt: skip
    for name in ("kv_dtype", "kv_block_size"):
        values = [getattr(roles[role], name) for role in ("prefill", "decode")]
        if values[0] != values[1]:
            raise UserError(
                f"prefill has {name} {values[0]} and decode {values[1]}: their KV caches cannot "
                "be exchanged"
            )
    return roles["prefill"], roles["decode"]


def _setting(plan: Plan, places: Places, first: Worker, last: Worker) -> Setting:
    apart = first is not last
    before, after = _place(places, first), _place(places, last)
    return Setting(
        spec=plan.model,
        platform=before,
        decode_platform=after,
        workload=plan.workload,
        layout=str(last.parallel),
        concurrency=1,
        workers=last.replicas,
        prefill_layout=str(first.parallel) if apart else None,
        prefill_workers=first.replicas if apart else 1,
        prefill_batch=1,
        token_budget=None,
        kv_dtype=last.kv_dtype,
        max_sequences=last.max_sequences,
    )


def _place(places: Places, worker: Worker) -> Platform:
    dp = worker.parallel.dp
    return told(
        places[worker.role],
        dp=dp,
        sequences=max(-(-worker.max_sequences // dp), 1),
        token_budget=worker.token_budget,
        block=worker.kv_block_size,
        fraction=worker.memory_fraction,
        graphs=worker.graph_sizes,
    )


def _batched(setting: Setting, plan: Plan, first: Worker) -> tuple[Request, Found]:
    """Prompts at once per prefill rank: the fewest that keep up with the decode side.

    An engine joins prompts that wait for it; the more it joins the longer each takes.
    """
    layout = first.parallel
    limit = max(first.max_sequences // (layout.dp * layout.pp), 1)
    most = max(min(first.token_budget // plan.workload.new_tokens, limit), 1)
    sizes = sorted({min(2**power, most) for power in range(most.bit_length() + 1)})
    points = [estimate_point(replace(setting, prefill_batch=size)) for size in sizes]
    best = max(found.value("request_rate") for _, found in points)
    return next(
        point for point in points if point[1].value("request_rate") >= _AS_GOOD * best
    )
