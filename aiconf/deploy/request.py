"""A DynamoGraphDeploymentRequest: the same question, put to Dynamo's own profiler."""

from __future__ import annotations

import math
from typing import Any

from aiconf.deploy.dgd import Deployment
from aiconf.deploy.launch import served_model
from aiconf.deploy.pods import CACHE_FOLDER
from aiconf.deploy.schema_beside import DeploymentRequest
from aiconf.deploy.versions import component_image
from aiconf.units import to_ms
from aiconf.workload import Sla

# GPU names that the request takes, by system; others are left to the operator's discovery.
_SKUS = {"h100_sxm": "h100_sxm", "h200_sxm": "h200_sxm", "b200_sxm": "b200_sxm"} | {
    "gb200": "gb200_sxm"
}


def deployment_request(deployment: Deployment) -> dict[str, Any]:
    """Return the request; it is not applied by itself, so that the answers can be compared."""
    plan, options = deployment.plan, deployment.options
    systems = {worker.system.name: worker.system for worker in plan.workers}
    first = plan.workers[0].system
    cache = {"pvcName": options.model_cache, "pvcMountPath": CACHE_FOLDER}
    spec = {
        "model": served_model(plan),
        "backend": plan.backend,
        "image": component_image("frontend", deployment.runtime.dynamo),
        "hardware": {
            "gpuSku": _SKUS.get(first.name) if len(systems) == 1 else None,
            "totalGpus": plan.gpus,
            "numGpusPerNode": first.gpus_per_node,
        },
        "workload": {
            "isl": plan.workload.isl,
            "osl": plan.workload.osl,
            "concurrency": plan.concurrency,
        },
        "sla": _targets(options.targets),
        "modelCache": cache if options.model_cache else None,
    }
    name = f"{deployment.name}-request"
    request = DeploymentRequest.model_validate({"metadata": {"name": name}, "spec": spec})
    return request.document()


def _targets(sla: Sla) -> dict[str, float] | None:
    """Return the targets in ms; that of whole requests is an alternative to the others."""
    wanted = {"ttft": sla.ttft, "itl": sla.tpot}
    if not any(map(math.isfinite, wanted.values())):
        wanted = {"e2eLatency": sla.latency}
    found = {
        name: round(float(to_ms(time)), 6) for name, time in wanted.items() if math.isfinite(time)
    }
    return found or None
