"""Dynamo's SLA planner for a deployment: its configuration, and the profile it starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiconf.deploy.planner_config import PlannerConfig, planner_config
from aiconf.deploy.planner_profile import decode_profile, files, prefill_profile, texts
from aiconf.engine.engine import Platform
from aiconf.serving.plan import Plan, Role
from aiconf.units import to_ms
from aiconf.workload import Sla

FOLDER = "/etc/aiconf/planner"  # where the planner's pod sees configuration and profile
CONFIG = "planner_config.json"
NEWEST = "1.6.1"  # release whose names of fields are written unless another is named
PROFILE = "planner_profile"  # folder of the profile beside the manifest


@dataclass(frozen=True)
class Planner:
    """What a deployment with a planner has more.

    texts: files of the ConfigMap that the planner's pod mounts at ``FOLDER``. files: the profile
    as the folder that Dynamo's profiler writes, by path; ``dynamo.mocker --planner-profile-data``
    reads it too. notes: what a user should know.
    """

    config: PlannerConfig
    texts: Mapping[str, str]
    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def planner(
    plan: Plan, places: Mapping[Role, Platform], sla: Sla, max_gpus: int, dynamo: str = NEWEST
) -> Planner:
    """Return the planner that keeps ``plan`` at its targets.

    Parameters
    ----------
    places
        Platform by role: what the prediction of the plan rests on.
    sla
        Targets. Without both a TTFT and a TPOT, the planner scales by queues and KV cache use.
    max_gpus
        GPUs that all workers together may grow to.
    dynamo
        Release whose planner reads the configuration.

    Raises
    ------
    UserError
        The planner would refuse the configuration, or no profile can be made.
    """
    roles = {worker.role: worker for worker in plan.workers}
    first = roles.get("prefill") or roles["agg"]
    last = roles.get("decode") or roles["agg"]
    prefill = prefill_profile(plan, first, places[first.role])
    decode = decode_profile(plan, last, places[last.role])
    by_sla = math.isfinite(sla.ttft) and math.isfinite(sla.tpot)
    config = planner_config(
        backend=plan.backend,
        mode="disagg" if plan.disaggregated else "agg",
        optimization_target="sla" if by_sla else "throughput",
        ttft_ms=float(to_ms(sla.ttft)) if by_sla else None,
        itl_ms=float(to_ms(sla.tpot)) if by_sla else None,
        max_gpu_budget=max_gpus,
        prefill_engine_num_gpu=first.parallel.gpus if plan.disaggregated else None,
        decode_engine_num_gpu=last.parallel.gpus,
        enable_throughput_scaling=by_sla,
        profile_results_dir=FOLDER,
    )
    notes = [
        f"The planner may scale the workers up to {max_gpus} GPUs; its profile is predicted, not "
        "measured."
    ]
    if not by_sla:
        notes.append(
            "The planner scales by queues and KV cache use: scaling by SLA needs targets of both "
            "TTFT and TPOT."
        )
    return Planner(
        config=config,
        texts={CONFIG: config.text(dynamo), **texts(prefill, decode)},
        files={f"{PROFILE}/{path}": data for path, data in files(prefill, decode).items()},
        notes=tuple(notes),
    )
