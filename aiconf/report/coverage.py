"""What the measured tables cover: a representative point of a model on a system and engine."""

from __future__ import annotations

from typing import Any

from aiconf.engine.engine import Platform
from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.report.table import Column
from aiconf.search.estimate import Setting, estimate_point
from aiconf.search.explain import explain, origins
from aiconf.search.request import native
from aiconf.search.space import layouts, token_budgets
from aiconf.workload import Workload

COLUMNS = (
    Column("checkpoint", "checkpoint"), Column("precision", "weights"),
    Column("system", "system"), Column("backend", "engine"), Column("version", "tables"),
    Column("native", "native"), Column("gpus", "GPUs from", 0), Column("layout", "layout"),
    Column("measured_percent", "measured %", 0),
    Column("interpolated_percent", "interpolated %", 0),
    Column("fallback_percent", "fallback %", 0), Column("reason", "remark"),
)  # fmt: skip
_POINT = (4000, 1000)  # isl, osl: the traffic that most published measurements are near
_IN_FLIGHT = 32  # requests, or as many as fit
_MOST = 10  # powers of two up to which GPUs are tried


def coverage(spec: ModelSpec, platform: Platform) -> dict[str, Any]:
    """How the tables of ``platform`` cover ``spec``.

    The point is the fewest GPUs (a power of two) on which one request of 4000 + 1000 tokens
    fits, with the least pipelining and most tensor parallelism, and 32 requests in flight.

    Returns
    -------
    dict
        ``checkpoint``, ``precision``, ``system``, ``backend``, ``version`` of the tables (None:
        nothing was measured), ``native`` (the GPU multiplies in this precision), ``gpus`` and
        ``layout`` of the point (None: it fits on none), shares ``measured``, ``interpolated``,
        ``fallback`` of its time (0 to 1; ``*_percent`` the same), ``reason`` where there are none.
    """
    measured = platform.tables.reader.version(platform.system.name, platform.traits.name)
    work = Workload(min(_POINT[0], spec.max_context // 2), min(_POINT[1], spec.max_context // 4))
    found: dict[str, Any] = {
        "checkpoint": spec.checkpoint,
        "precision": spec.precision,
        "system": platform.system.name,
        "backend": platform.traits.name,
        "version": measured,
        "native": native(spec, platform),
        "gpus": None,
        "layout": None,
        "reason": "",
    }
    layout = smallest_layout(spec, platform, work)
    if layout is None:
        return found | _shares(None) | {"reason": f"fits on no {2**_MOST} GPUs"}
    found |= {"gpus": layout.gpus, "layout": str(layout)}
    try:
        request, point = estimate_point(_setting(spec, platform, work, layout))
    except UserError as error:
        return found | _shares(None) | {"reason": " ".join(str(error).split())}
    return found | _shares(origins(explain(request, point)))


def _shares(found: dict[str, float] | None) -> dict[str, float | None]:
    names = ("measured", "interpolated", "fallback")
    if found is None:
        return dict.fromkeys((*names, *(f"{name}_percent" for name in names)))
    return {**{n: found[n] for n in names}, **{f"{n}_percent": 100 * found[n] for n in names}}


def smallest_layout(spec: ModelSpec, platform: Platform, work: Workload) -> Parallel | None:
    """Layout of the fewest GPUs (a power of two) that hold the model and one request."""
    gpu = platform.system.gpu
    most = platform.traits.max_sequences(gpu.memory_bytes, gpu.sm)  # whose buffers are held
    for gpus in (2**power for power in range(_MOST + 1)):
        own = [p for p in layouts(platform, spec, gpus) if p.gpus == gpus]
        for parallel in sorted(own, key=lambda p: (p.pp, -p.tp, p.ep)):
            room = platform.capacity(
                spec, parallel, token_budget=token_budgets(platform)[0], max_sequences=most,
                kv_dtype=spec.quantization.kv, longest=work.isl + work.osl,
            )  # fmt: skip
            if room.sequences(work.isl, work.osl) >= 1:
                return parallel
    return None


def _setting(spec: ModelSpec, platform: Platform, work: Workload, layout: Parallel) -> Setting:
    return Setting(
        spec=spec, platform=platform, decode_platform=platform, workload=work,
        layout=str(layout), concurrency=_IN_FLIGHT, workers=1, prefill_layout=None,
        prefill_workers=1, prefill_batch=1, token_budget=token_budgets(platform)[0],
        kv_dtype=None,
    )  # fmt: skip
