"""One description of a deployment, rendered to either API version of DynamoGraphDeployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiconf.deploy import schema, schema_v1alpha1
from aiconf.deploy.render import Path
from aiconf.deploy.versions import Api
from aiconf.errors import UserError

GPU = "nvidia.com/gpu"
Graph = schema.GraphDeployment | schema_v1alpha1.GraphDeployment


@dataclass(frozen=True)
class Component:
    """One kind of process, whatever the API version calls it.

    kind: frontend, worker, prefill, decode, planner. nodes: pods of one replica. pod: of each
    node; its first container is the one that Dynamo calls ``main``. why: reason of a value by
    where it is: ``("replicas",)``, ``("gpus",)``, ``("memory",)``,
    ``("ephemeral-storage",)``, ``("affinity",)``, ``("args", index)``.
    """

    name: str
    kind: str
    replicas: int
    pod: Mapping[str, Any]
    nodes: int = 1
    why: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A deployment: its components and what holds for all of them."""

    name: str
    backend: str
    components: tuple[Component, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


def render_graph(about: Description, api: Api) -> tuple[Graph, dict[Path, str]]:
    """Return the document of ``about`` and the reasons of its values by their path in it.

    Raises
    ------
    UserError
        A name or value that Kubernetes would refuse.
    """
    from pydantic import ValidationError

    metadata: dict[str, Any] = {"name": about.name}
    if about.annotations:
        metadata["annotations"] = dict(about.annotations)
    try:
        build = {"v1beta1": _beta, "v1alpha1": _alpha}[api]
        return build(about, metadata)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UserError(
            f"Kubernetes would refuse {first['input']!r} at {where}: {first['msg']}"
        ) from error


def _beta(about: Description, metadata: dict[str, Any]) -> tuple[Graph, dict[Path, str]]:
    components: list[dict[str, Any]] = []
    comments: dict[Path, str] = {}
    for index, one in enumerate(about.components):
        component: dict[str, Any] = {"name": one.name, "type": one.kind, "replicas": one.replicas}
        if one.nodes > 1:
            component["multinode"] = {"nodeCount": one.nodes}
        components.append(component | {"podTemplate": {"spec": one.pod}})
        comments |= _placed(one, ("spec", "components", index), _beta_place)
    spec = {"backendFramework": about.backend, "components": components}
    graph = schema.GraphDeployment.model_validate({"metadata": metadata, "spec": spec})
    return graph, comments


def _beta_place(where: Path) -> Path:
    pod: Path = ("podTemplate", "spec")
    container = (*pod, "containers", 0)
    if where == ("gpus",):
        return (*container, "resources", "limits", GPU)
    if where[0] in ("memory", "ephemeral-storage"):
        return (*container, "resources", "requests", *where)
    if where[0] == "args":
        return (*container, *where)
    return (*pod, *where) if where[0] == "affinity" else where


def _alpha(about: Description, metadata: dict[str, Any]) -> tuple[Graph, dict[Path, str]]:
    services: dict[str, Any] = {}
    comments: dict[Path, str] = {}
    for one in about.components:
        services[one.name] = _service(one)
        comments |= _placed(one, ("spec", "services", one.name), _alpha_place)
    spec = {"backendFramework": about.backend, "services": services}
    graph = schema_v1alpha1.GraphDeployment.model_validate({"metadata": metadata, "spec": spec})
    return graph, comments


def _service(one: Component) -> dict[str, Any]:
    """Return a component as v1alpha1 has it: resources and environment outside the container."""
    split = one.kind in ("prefill", "decode")
    service: dict[str, Any] = {"componentType": "worker" if split else one.kind}
    if split:
        service["subComponentType"] = one.kind
    service["replicas"] = one.replicas
    if one.nodes > 1:
        service["multinode"] = {"nodeCount": one.nodes}
    pod = dict(one.pod)
    main = dict(pod.pop("containers")[0])
    main.pop("name")
    resources = main.pop("resources", None)
    if resources:
        custom = dict(resources["limits"])
        limits = {"gpu": custom.pop(GPU, None), "custom": custom or None}
        service["resources"] = {**resources, "limits": limits}
        if "requests" in resources:
            others = dict(resources["requests"])
            memory = others.pop("memory")
            service["resources"]["requests"] = {"memory": memory, "custom": others or None}
    if "env" in main:
        service["envs"] = main.pop("env")
    for source in main.pop("envFrom", ()):
        service["envFromSecret"] = source["secretRef"]["name"]
    return service | {"extraPodSpec": {**pod, "mainContainer": main}}


def _alpha_place(where: Path) -> Path:
    if where == ("gpus",):
        return ("resources", "limits", "gpu")
    if where == ("memory",):
        return ("resources", "requests", "memory")
    if where == ("ephemeral-storage",):
        return ("resources", "requests", "custom", "ephemeral-storage")
    if where[0] == "args":
        return ("extraPodSpec", "mainContainer", *where)
    return ("extraPodSpec", *where) if where[0] == "affinity" else where


def _placed(one: Component, base: Path, place: Callable[[Path], Path]) -> dict[Path, str]:
    return {(*base, *place(where)): why for where, why in one.why.items()}
