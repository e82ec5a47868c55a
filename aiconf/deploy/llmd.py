"""Values for llm-d's Helm chart: the same vLLM workers behind llm-d's gateway in place of Dynamo's.

Fields as in github.com/llm-d-incubation/llm-d-modelservice, charts/llm-d-modelservice/values.yaml.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from aiconf.deploy.api import GPU
from aiconf.deploy.dgd import Deployment
from aiconf.deploy.launch import literal, served_model
from aiconf.deploy.pods import CACHE_FOLDER, PRODUCT, Part, gpu_products
from aiconf.deploy.schema import Model
from aiconf.model.memory import checkpoint_bytes

_IMAGE = "vllm/vllm-openai"  # vLLM's own container on Docker Hub; tags are v and the version
_SERVICE, _BEHIND_PROXY = 8000, 8200  # ports of the chart: of the service, and behind its proxy
_SETTINGS_OF_DYNAMO = ("model", "served-model-name", "kv-events-config")


class Artifacts(Model):
    """The model: its name for clients, where it comes from, and the size of its volume."""

    name: str
    uri: str
    size: str
    authSecretName: str
    mountPath: str


class Proxy(Model):
    """The proxy beside decode workers that fetches prompts from prefill workers."""

    enabled: bool
    targetPort: int = _BEHIND_PROXY


class Routing(Model):
    """Ports."""

    servicePort: int = _SERVICE
    proxy: Proxy


class Parallelism(Model):
    """What the chart computes GPUs from."""

    tensor: int
    data: int
    dataLocal: int
    workers: Literal[1] = 1


class Container(Model):
    """One engine."""

    name: Literal["vllm"] = "vllm"
    image: str
    modelCommand: Literal["custom"] = "custom"
    command: list[str]
    args: list[str]
    resources: dict[str, dict[str, str]]
    mountModelVolume: Literal[True] = True


class AcceleratorTypes(Model):
    """Nodes that will do."""

    labelKey: str
    labelValues: list[str]


class Workers(Model):
    """Workers of one role; ``create`` false: none."""

    create: bool
    replicas: int = 0
    parallelism: Parallelism | None = None
    acceleratorTypes: AcceleratorTypes | None = None
    containers: list[Container] | None = None


class Values(Model):
    """The values file."""

    modelArtifacts: Artifacts
    multinode: Literal[False] = False
    routing: Routing
    decode: Workers
    prefill: Workers


def why_not(deployment: Deployment) -> str | None:
    """Return why no values can be written, or None."""
    if deployment.plan.backend != "vllm":
        return f"llm-d's chart starts vLLM, not {deployment.plan.backend}"
    if any(part.nodes.count > 1 for part in deployment.parts):
        return "llm-d's chart computes ranks over nodes only inside scripts of your own"
    if served_model(deployment.plan) != deployment.plan.model.checkpoint:
        return "llm-d's chart loads models by their Hugging Face id or from a volume"
    return None


def values(deployment: Deployment) -> dict[str, Any]:
    """Return the values of a deployment that ``why_not`` has nothing against."""
    plan = deployment.plan
    size = math.ceil(1.2 * checkpoint_bytes(plan.model) / 2**30) + 1
    parts = {part.worker.role: part for part in deployment.parts}
    serving = parts.get("agg") or parts["decode"]
    found = Values(
        modelArtifacts=Artifacts(
            name=served_model(plan),
            uri=f"hf://{plan.model.checkpoint}",
            size=f"{size}Gi",
            authSecretName=deployment.options.token_secret,
            mountPath=CACHE_FOLDER,
        ),
        routing=Routing(proxy=Proxy(enabled=plan.disaggregated)),
        decode=_workers(deployment, serving, _BEHIND_PROXY if plan.disaggregated else _SERVICE),
        prefill=_workers(deployment, parts["prefill"], _SERVICE)
        if plan.disaggregated
        else Workers(create=False),
    )
    return found.document()


def _workers(deployment: Deployment, part: Part, port: int) -> Workers:
    layout, system = part.worker.parallel, part.worker.system.name
    product = gpu_products().get(system)
    apart = len({one.worker.system.name for one in deployment.parts}) > 1
    args = [literal(deployment.plan.model.checkpoint), "--port", str(port)]
    args += ["--served-model-name", literal(served_model(deployment.plan))]
    for setting in part.launch.engine:
        if setting.flag not in _SETTINGS_OF_DYNAMO:
            args += setting.arguments()
    return Workers(
        create=True,
        replicas=part.worker.replicas,
        parallelism=Parallelism(tensor=layout.tp * layout.pp, data=layout.dp, dataLocal=layout.dp),
        acceleratorTypes=AcceleratorTypes(labelKey=PRODUCT, labelValues=[product])
        if apart and product
        else None,
        containers=[
            Container(
                image=f"{_IMAGE}:v{deployment.runtime.engine_version}",
                command=["vllm", "serve"],
                args=args,
                resources={"limits": {GPU: str(part.nodes.gpus_per_pod)}},
            )
        ],
    )
