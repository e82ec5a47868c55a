"""A plan as Dynamo documents: DynamoGraphDeployment v1beta1 and what it refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from aiconf.deploy import schema, sglang, trtllm, vllm
from aiconf.deploy.launch import Launch, Nodes, served_model, spread
from aiconf.deploy.render import Path, render
from aiconf.deploy.versions import Runtime, runtime
from aiconf.errors import UserError
from aiconf.serving.plan import Plan, Worker

_LAUNCH = {"vllm": vllm.launch, "sglang": sglang.launch, "trtllm": trtllm.launch}
_COMPONENT = {"agg": "worker", "prefill": "prefill", "decode": "decode"}
_NAME_LIMIT = schema.COMBINED_NAME_LIMIT - len("frontend") - schema.ROLE_SUFFIX
# Safe inside the scripts that the operator wraps around multi-node commands.
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_CACHE_FOLDER = "/model-cache"
_Mounted = tuple[dict[str, Any], dict[str, Any]]  # a pod's volume, and where it is mounted


@dataclass(frozen=True)
class Options:
    """Choices of a deployment that do not change its performance.

    name: of the deployment; made from the model when None. dynamo: release, newest when None.
    token_secret: Kubernetes secret with ``HF_TOKEN``. model_cache: persistent volume claim
    that keeps downloaded weights. rdma_resource: the cluster's resource name of its network
    cards (``rdma/ib``), one per GPU; without it pods reach each other over plain TCP.
    """

    name: str | None = None
    dynamo: str | None = None
    token_secret: str = "hf-token-secret"
    model_cache: str | None = None
    rdma_resource: str | None = None


@dataclass(frozen=True)
class Part:
    """One kind of worker, as it is launched."""

    worker: Worker
    component: str
    nodes: Nodes
    launch: Launch


@dataclass(frozen=True)
class Deployment:
    """Everything that is written out."""

    plan: Plan
    name: str
    runtime: Runtime
    options: Options
    parts: tuple[Part, ...]
    graph: schema.GraphDeployment
    config_map: schema.ConfigMap | None
    domain: schema.ComputeDomain | None
    comments: dict[Path, str] = field(default_factory=dict)  # of the graph
    notes: tuple[str, ...] = ()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Plain documents in the order to apply them."""
        models = (self.domain, self.config_map, self.graph)
        return [model.document() for model in models if model is not None]


def deployment_name(text: str) -> str:
    """Return ``text`` as a name that Kubernetes and Grove accept (RFC 1123, short enough)."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_NAME_LIMIT].strip("-")
    return slug or "aiconf"


def build(plan: Plan, options: Options | None = None) -> Deployment:
    """Return the deployment of ``plan``.

    Raises
    ------
    UserError
        The backend or Dynamo release is unknown, or the engine cannot run the plan.
    """
    options = options or Options()
    engine = runtime(plan.backend, options.dynamo)
    name = deployment_name(options.name or plan.model.name)
    parts = tuple(_part(plan, worker, name) for worker in plan.workers)
    _check(plan, parts)
    domain = _domain(name, parts)
    components = [
        _frontend(engine, options),
        *(_component(part, engine, options, name) for part in parts),
    ]
    spec = {"backendFramework": plan.backend, "components": components}
    return Deployment(
        plan=plan,
        name=name,
        runtime=engine,
        options=options,
        parts=parts,
        graph=_graph(name, spec),
        config_map=_config_map(name, parts),
        domain=domain,
        comments=_comments(parts),
        notes=tuple(_notes(plan, engine, options, name, parts)),
    )


def _part(plan: Plan, worker: Worker, name: str) -> Part:
    component = _COMPONENT[worker.role]
    launch = _LAUNCH[plan.backend](plan, worker, f"{name}-{component}")
    return Part(worker, component, spread(worker), launch)


def _check(plan: Plan, parts: tuple[Part, ...]) -> None:
    if not parts:
        raise UserError("the plan has no workers: nothing to deploy")
    roles = sorted(part.worker.role for part in parts)
    if roles not in (["agg"], ["decode", "prefill"]):
        raise UserError(
            f"cannot deploy workers {', '.join(roles)}: one agg, or one prefill and one decode"
        )
    for name in (plan.model.checkpoint, served_model(plan)):
        if not name or name.startswith("-") or not name.isprintable():
            raise UserError(f"model {name!r} cannot be passed to an engine; use an id or a path")
        if any(part.nodes.count > 1 for part in parts) and not _SHELL_SAFE.fullmatch(name):
            raise UserError(
                f"model '{name}' cannot be served over several nodes, where Dynamo passes it "
                "through a shell: use a name of letters, digits and _@%+=:,./-"
            )
    for key in ("kv_dtype", "kv_block_size", "max_model_len"):
        if len({getattr(part.worker, key) for part in parts}) > 1:
            raise UserError(f"prefill and decode workers differ in {key}: they must share KV cache")


def _graph(name: str, spec: dict[str, Any]) -> schema.GraphDeployment:
    from pydantic import ValidationError

    try:
        return schema.GraphDeployment.model_validate({"metadata": {"name": name}, "spec": spec})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UserError(
            f"Kubernetes would refuse {first['input']!r} at {where}: {first['msg']}"
        ) from error


def _frontend(engine: Runtime, options: Options) -> dict[str, Any]:
    """The HTTP server; it needs token and cache too, since it reads the tokenizer."""
    container: dict[str, Any] = {"name": "main", "image": engine.image}
    container |= _model_access(options)
    pod = _mounted({"containers": [container]}, _cache_volumes(options))
    return {"name": "frontend", "type": "frontend", "replicas": 1, "podTemplate": {"spec": pod}}


def _model_access(options: Options) -> dict[str, Any]:
    access: dict[str, Any] = {"envFrom": [{"secretRef": {"name": options.token_secret}}]}
    if options.model_cache:
        access["env"] = [{"name": "HF_HOME", "value": _CACHE_FOLDER}]
    return access


def _component(part: Part, engine: Runtime, options: Options, name: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "name": part.component,
        "type": part.component,
        "replicas": part.worker.replicas,
    }
    if part.nodes.count > 1:
        component["multinode"] = {"nodeCount": part.nodes.count}
    pod = {"containers": [_container(part, engine, options)]}
    pod = _mounted(pod, _engine_volumes(part, name) + _cache_volumes(options))
    if _across_nvlink(part):
        pod["resourceClaims"] = [{"name": "nvlink", "resourceClaimTemplateName": f"{name}-nvlink"}]
    return component | {"podTemplate": {"spec": pod}}


def _container(part: Part, engine: Runtime, options: Options) -> dict[str, Any]:
    gpus = str(part.nodes.gpus_per_pod)
    resources: dict[str, Any] = {"limits": {"nvidia.com/gpu": gpus}}
    if _across_nvlink(part):
        resources["claims"] = [{"name": "nvlink"}]
    container: dict[str, Any] = {
        "name": "main",
        "image": engine.image,
        "command": ["python3", "-m", part.launch.module],
        "args": [word for setting in part.launch.settings for word in setting.arguments()],
        **_model_access(options),
        "resources": resources,
    }
    if options.rdma_resource:
        resources["limits"][options.rdma_resource] = gpus
        # Registering memory with the network card needs locked pages.
        container["securityContext"] = {"capabilities": {"add": ["IPC_LOCK"]}}
    return container


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
    return [(volume, {"name": "model-cache", "mountPath": _CACHE_FOLDER})]


def _mounted(pod: dict[str, Any], volumes: list[_Mounted]) -> dict[str, Any]:
    """Return ``pod`` with volumes, mounted in its only container."""
    if not volumes:
        return pod
    container = pod["containers"][0] | {"volumeMounts": [mount for _, mount in volumes]}
    return pod | {"containers": [container], "volumes": [volume for volume, _ in volumes]}


def _across_nvlink(part: Part) -> bool:
    """Whether the worker spans nodes inside one NVLink domain (NVL72), which needs a claim."""
    return part.nodes.count > 1 and part.worker.system.nvlink_domain > (
        part.worker.system.gpus_per_node
    )


def _domain(name: str, parts: tuple[Part, ...]) -> schema.ComputeDomain | None:
    if not any(_across_nvlink(part) for part in parts):
        return None
    template = schema.NamedReference(name=f"{name}-nvlink")
    return schema.ComputeDomain(
        metadata=schema.Metadata(name=f"{name}-nvlink"),
        spec=schema.ComputeDomainSpec(channel=schema.ClaimTemplate(resourceClaimTemplate=template)),
    )


def _config_map(name: str, parts: tuple[Part, ...]) -> schema.ConfigMap | None:
    files = {
        trtllm.config_file(part.worker): render(part.launch.config, part.launch.config_why)
        for part in parts
        if part.launch.mounted
    }
    if not files:
        return None
    return schema.ConfigMap(metadata=schema.Metadata(name=f"{name}-engine"), data=files)


def _comments(parts: tuple[Part, ...]) -> dict[Path, str]:
    comments: dict[Path, str] = {}
    for index, part in enumerate(parts, start=1):  # 0 is the frontend
        worker, base = part.worker, ("spec", "components", index)
        comments[(*base, "replicas")] = f"chosen by the search; {worker.parallel.gpus} GPUs each"
        container = (*base, "podTemplate", "spec", "containers", 0)
        comments[(*container, "resources", "limits", "nvidia.com/gpu")] = (
            f"per pod: {part.nodes.count} x {part.nodes.gpus_per_pod} = {worker.parallel}"
        )
        word = 0
        for setting in part.launch.settings:
            if setting.why:
                comments[(*container, "args", word)] = setting.why
            word += len(setting.arguments())
    return comments


def _notes(
    plan: Plan, engine: Runtime, options: Options, name: str, parts: tuple[Part, ...]
) -> list[str]:
    notes = []
    if options.name and options.name != name:
        notes.append(f"The name was corrected to {name}, which Kubernetes accepts.")
    if plan.backend_version != engine.engine_version:
        notes.append(
            f"The prediction rests on {plan.backend} {plan.backend_version}; "
            f"the image holds {engine.engine_version}: speeds may differ."
        )
    systems = sorted({part.worker.system.name for part in parts})
    if len(systems) > 1:
        notes.append(
            f"Workers expect different GPU systems ({', '.join(systems)}): add a nodeSelector "
            "for your cluster to each component."
        )
    network = plan.disaggregated or any(part.nodes.count > 1 for part in parts)
    if network and not options.rdma_resource:
        notes.append(
            "Pods talk over the network, and the prediction assumes RDMA: add your cluster's "
            "resource (for example rdma/ib) to the limits of each worker, one per GPU."
        )
    if served_model(plan) != plan.model.checkpoint:
        notes.append(
            f"The model was read from the path {plan.model.checkpoint}: it must exist under this "
            "path inside the containers."
        )
    return notes
