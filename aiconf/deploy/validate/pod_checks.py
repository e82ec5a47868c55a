"""What Kubernetes refuses of a pod beyond its structure, which shows only when pods are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiconf.deploy.validate.graph import GPU, Component, Graph, Where
from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.problem import Problem, spelled

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ENV = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")  # no name that begins with a digit


def problems(graph: Graph) -> Iterator[Problem]:
    """Yield what Kubernetes would refuse of the pods of a graph."""
    spec = graph.document.body.get("spec")
    pvcs = _names(spec.get("pvcs")) if isinstance(spec, dict) else set()
    for component in graph.components:
        for where, what, fix in _pod(component, pvcs):
            yield Problem(graph.source, spelled(where), what, fix)


def _pod(component: Component, pvcs: set[str]) -> Iterator[tuple[Where, str, str]]:
    template = _mapping(component.body.get("podTemplate"))
    alpha = "extraPodSpec" in component.body
    pod = _mapping(component.body.get("extraPodSpec") if alpha else template.get("spec"))
    steps = ("extraPodSpec",) if alpha else ("podTemplate", "spec")
    base: Where = (*component.where, *steps)
    volumes, claims = _names(pod.get("volumes")), _names(pod.get("resourceClaims"))
    for where, container in _containers(pod, base):
        name = container.get("name")
        # The operator names the main container itself.
        if "mainContainer" not in where and isinstance(name, str) and not _LABEL.fullmatch(name):
            yield (
                (*where, "name"),
                f"'{name}' is no container name",
                "lower-case letters, - and digits",
            )
        for index, mount in enumerate(_maps(container.get("volumeMounts"))):
            if isinstance(mount.get("name"), str) and mount["name"] not in volumes | pvcs:
                what = f"mounts volume '{mount['name']}', which the pod does not have"
                yield (*where, "volumeMounts", index), what, "add it to the pod's volumes"
        resources = _mapping(container.get("resources"))
        for index, claim in enumerate(_maps(resources.get("claims"))):
            if isinstance(claim.get("name"), str) and claim["name"] not in claims:
                what = f"uses claim '{claim['name']}', which the pod does not have"
                yield (*where, "resources", "claims", index), what, "add it to resourceClaims"
        for index, env in enumerate(_maps(container.get("env"))):
            if isinstance(env.get("name"), str) and not _ENV.fullmatch(env["name"]):
                what = f"'{env['name']}' is no name of an environment variable"
                yield (*where, "env", index), what, "letters, digits and _"
        yield from _gpus(resources, where)
    if alpha:
        for index, mount in enumerate(_maps(component.body.get("volumeMounts"))):
            if isinstance(mount.get("name"), str) and mount["name"] not in pvcs:
                what = f"mounts '{mount['name']}', which is none of spec.pvcs"
                yield (*component.where, "volumeMounts", index), what, "add it to spec.pvcs"


def _gpus(resources: Mapping[str, Any], where: Where) -> Iterator[tuple[Where, str, str]]:
    """GPUs cannot be shared out beyond a limit, so that request and limit are one number."""
    requested = _mapping(resources.get("requests")).get(GPU)
    limit = _mapping(resources.get("limits")).get(GPU)
    if requested is not None and limit is None:
        yield (
            (*where, "resources"),
            f"requests {GPU} without a limit",
            f"limits: {{{GPU}: {requested}}}",
        )
    elif requested is not None and str(requested) != str(limit):
        yield (
            (*where, "resources"),
            f"requests {requested} of {GPU}, limits {limit}",
            "the same number",
        )
    count = whole(str(limit))
    if limit is not None and (count is None or count < 0) and "$" not in str(limit):
        yield (*where, "resources", "limits"), f"'{limit}' GPUs", "a whole number"


def _containers(pod: Mapping[str, Any], base: Where) -> Iterator[tuple[Where, Mapping[str, Any]]]:
    for key in ("containers", "initContainers"):
        for index, container in enumerate(_maps(pod.get(key))):
            yield (*base, key, index), container
    if "mainContainer" in pod:
        yield (*base, "mainContainer"), _mapping(pod["mainContainer"])


def _names(value: Any) -> set[str]:
    return {str(one.get("name")) for one in _maps(value)}


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [_mapping(one) for one in value] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
