"""The pods of a deployment: container, volumes, claims, and where they may be put."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.deploy import trtllm
from aiconf.deploy.api import GPU, Component
from aiconf.deploy.launch import Launch, Nodes
from aiconf.deploy.options import Options
from aiconf.resources import data_dir, read_yaml
from aiconf.serving.plan import Worker

CACHE_FOLDER = "/model-cache"
PRODUCT = "nvidia.com/gpu.product"  # label of nodes, by NVIDIA GPU feature discovery
# Host memory of an engine beside KV cache, in GB per GPU: one process per GPU with its libraries,
# CUDA context and pinned buffers. A rule of thumb, not a measurement.
_ENGINE_GB = 16
_Mounted = tuple[dict[str, Any], dict[str, Any]]  # a pod's volume, and where it is mounted


@dataclass(frozen=True)
class Part:
    """One kind of worker, as it is launched."""

    worker: Worker
    component: str
    nodes: Nodes
    launch: Launch


def frontend(image: str, options: Options) -> Component:
    """Return the HTTP server; it needs token and cache too, since it reads the tokenizer."""
    container: dict[str, Any] = {"name": "main", "image": image}
    env = {"DYN_ROUTER_MODE": "kv"} if options.router == "kv" else {}
    container |= _environment(options, env)
    pod = _mounted({"containers": [container]}, _cache_volumes(options))
    return Component("frontend", "frontend", 1, pod)


def component(part: Part, image: str, options: Options, name: str, placed: bool) -> Component:
    """Return the workers of ``part``; ``placed``: only on nodes of their GPU system."""
    pod: dict[str, Any] = {}
    product = gpu_products().get(part.worker.system.name)
    if placed and product:
        pod["affinity"] = _affinity(product)
    pod["containers"] = [_container(part, image, options)]
    pod = _mounted(pod, _engine_volumes(part, name) + _cache_volumes(options))
    if across_nvlink(part):
        pod["resourceClaims"] = [{"name": "nvlink", "resourceClaimTemplateName": f"{name}-nvlink"}]
    return Component(
        name=part.component,
        kind=part.component,
        replicas=part.worker.replicas,
        pod=pod,
        nodes=part.nodes.count,
        why=_why(part, options),
    )


@cache
def gpu_products() -> dict[str, str]:
    """Return the product label of each GPU system's nodes."""
    path: Path = data_dir("templates") / "gpu_products.yaml"
    return {str(system): str(label) for system, label in read_yaml(path).items()}


def across_nvlink(part: Part) -> bool:
    """Whether the worker spans nodes inside one NVLink domain (NVL72), which needs a claim."""
    system = part.worker.system
    return part.nodes.count > 1 and system.nvlink_domain > system.gpus_per_node


def _affinity(product: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": PRODUCT, "operator": "In", "values": [product]}]}
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _container(part: Part, image: str, options: Options) -> dict[str, Any]:
    gpus = str(part.nodes.gpus_per_pod)
    resources: dict[str, Any] = {"limits": {GPU: gpus}}
    requests = _requests(part, options)
    if requests:
        resources["requests"] = requests
    if across_nvlink(part):
        resources["claims"] = [{"name": "nvlink"}]
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "command": ["python3", "-m", part.launch.module],
        "args": [word for setting in part.launch.settings for word in setting.arguments()],
        **_environment(options, part.launch.env),
        "resources": resources,
    }
    if options.rdma_resource:
        resources["limits"][options.rdma_resource] = gpus
        # Registering memory with the network card needs locked pages.
        container["securityContext"] = {"capabilities": {"add": ["IPC_LOCK"]}}
    return container


def _requests(part: Part, options: Options) -> dict[str, str]:
    """Return what a pod's node must have for its further tiers; Gi, of which a GB is a bit less."""
    host, disk = options.tiers(part.worker.role)
    found = {}
    if host is not None:
        found["memory"] = f"{math.ceil(host) + _ENGINE_GB * part.nodes.gpus_per_pod}Gi"
    if disk is not None:
        found["ephemeral-storage"] = f"{math.ceil(disk)}Gi"
    return found


def _environment(options: Options, env: Mapping[str, str]) -> dict[str, Any]:
    cache_folder = {"HF_HOME": CACHE_FOLDER} if options.model_cache else {}
    names = {**cache_folder, **env}
    found: dict[str, Any] = {"envFrom": [{"secretRef": {"name": options.token_secret}}]}
    if names:
        found["env"] = [{"name": name, "value": value} for name, value in names.items()]
    return found


def _engine_volumes(part: Part, name: str) -> list[_Mounted]:
    if not part.launch.mounted:
        return []
    volume = {"name": "engine", "configMap": {"name": f"{name}-engine"}}
    mount = {"name": "engine", "mountPath": trtllm.CONFIG_FOLDER, "readOnly": True}
    return [(volume, mount)]


def _cache_volumes(options: Options) -> list[_Mounted]:
    if not options.model_cache:
        return []
    claim = {"claimName": options.model_cache}
    volume = {"name": "model-cache", "persistentVolumeClaim": claim}
    return [(volume, {"name": "model-cache", "mountPath": CACHE_FOLDER})]


def _mounted(pod: dict[str, Any], volumes: list[_Mounted]) -> dict[str, Any]:
    """Return ``pod`` with volumes, mounted in its only container."""
    if not volumes:
        return pod
    container = pod["containers"][0] | {"volumeMounts": [mount for _, mount in volumes]}
    return pod | {"containers": [container], "volumes": [volume for volume, _ in volumes]}


def _why(part: Part, options: Options) -> dict[tuple[str | int, ...], str]:
    worker = part.worker
    host, disk = options.tiers(worker.role)
    why: dict[tuple[str | int, ...], str] = {
        ("replicas",): f"chosen by the search; {worker.parallel.gpus} GPUs each",
        ("gpus",): f"per pod: {part.nodes.count} x {part.nodes.gpus_per_pod} = {worker.parallel}",
        ("affinity",): f"only nodes of {worker.system.name}, which the prediction is for; "
        f"see yours with: kubectl get nodes -L {PRODUCT}",
    }
    if host is not None:
        why[("memory",)] = (
            f"{host:g} GB of KV cache, and {_ENGINE_GB} per GPU for the engine itself (a rule of "
            "thumb: look at yours)"
        )
    if disk is not None:
        why[("ephemeral-storage",)] = f"{disk:g} GB of KV cache in the container's /tmp (KVBM)"
    word = 0
    for setting in part.launch.settings:
        if setting.why:
            why["args", word] = setting.why
        word += len(setting.arguments())
    return why
