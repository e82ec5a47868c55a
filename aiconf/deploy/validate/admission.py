"""What Dynamo's admission webhook refuses beyond the structure.

After deploy/operator/internal/webhook/validation of github.com/ai-dynamo/dynamo (August 2026).
Left out: rules about changes of a running deployment, and what only the cluster knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph import Component, Graph
from aiconf.deploy.validate.images import image
from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.notation import Release
from aiconf.deploy.validate.problem import Problem, spelled

_ANNOTATIONS = {
    "nvidia.com/vllm-distributed-executor-backend": ("mp", "ray"),
    "nvidia.com/grove-update-strategy": ("RollingRecreate", "OnDelete"),
    "nvidia.com/dynamo-kube-discovery-mode": ("pod", "container"),
    "nvidia.com/workload-provider": ("component", "grove"),
}
_POWER = "dynamo.nvidia.com/gpu-power-limit"
_VERSIONED: Release = (1, 4)  # the operator reads the runtime's version off the image since then
_Rule = Iterator[tuple[str, str, str]]  # path below the component, what, fix


def problems(graph: Graph, at: Release, at_is_stated: bool) -> Iterator[Problem]:
    """Yield what the webhook of release ``at`` would refuse.

    Parameters
    ----------
    at_is_stated
        The user said which release runs. Without that, what only newer operators refuse is a
        warning.
    """
    spec = graph.document.body.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    if not graph.components:
        yield Problem(graph.source, "spec", "no component", "at least one")
    yield from _annotations(graph)
    grove = _has_grove(graph)
    if spec.get("priorityClassName") and not grove:
        yield Problem(graph.source, "spec.priorityClassName", "only Grove has it", "remove it")
    for component in graph.components:
        for rules in (_epp, _sidecar, _memory_service, _power, _elastic, _alpha):
            for path, what, fix in rules(component):
                yield Problem(graph.source, _below(component, path), what, fix)
        if "minAvailable" in component.body and not grove:
            yield Problem(
                graph.source, _below(component, "minAvailable"), "only Grove has it", "remove it"
            )
        if at >= _VERSIONED:
            yield from _image(graph, component, at_is_stated)
    yield from _topology(graph, spec)
    yield from _restart(graph, spec)


def request_problems(document: Document, at: Release, at_is_stated: bool) -> Iterator[Problem]:
    """Yield what the webhook would refuse of a DynamoGraphDeploymentRequest."""
    spec = document.body.get("spec")
    if not isinstance(spec, dict) or document.api != "v1beta1":
        return
    if spec.get("searchStrategy") == "thorough" and spec.get("backend", "auto") == "auto":
        what = "searchStrategy thorough needs one engine"
        yield Problem(document.source, "spec.backend", what, "vllm, sglang or trtllm")
    named = spec.get("image")
    if at >= _VERSIONED and isinstance(named, str) and not spec.get("runtimeVersionOverride"):
        found = image(named)
        if found.release is None:
            level = "error" if at_is_stated and not found.is_placeholder else "warning"
            yield Problem(
                document.source, "spec.image", *_unversioned(named),
                "error" if level == "error" else "warning",
            )  # fmt: skip


def _below(component: Component, path: str) -> str:
    return spelled(component.where) + (f".{path}" if path else "")


def _has_grove(graph: Graph) -> bool:
    provider = graph.annotations.get("nvidia.com/workload-provider")
    if provider is not None:
        return provider == "grove"
    return graph.annotations.get("nvidia.com/enable-grove", "").lower() != "false"


def _annotations(graph: Graph) -> Iterator[Problem]:
    for key, known in _ANNOTATIONS.items():
        value = graph.annotations.get(key)
        folded = value.lower() if value and "executor" in key else value
        if value is not None and folded not in known:
            yield Problem(
                graph.source, f"metadata.annotations[{key}]",
                f"'{value}' is none of {', '.join(known)}", known[0],
            )  # fmt: skip
    for component in graph.components:
        failover = _enabled(_experimental(component).get("failover"))
        inside = failover is not None and _mode(failover) == "intrapod"
        mode = graph.annotations.get("nvidia.com/dynamo-kube-discovery-mode")
        if inside and mode != "container":
            yield Problem(
                graph.source, "metadata.annotations[nvidia.com/dynamo-kube-discovery-mode]",
                f"failover inside the pod of '{component.name}' needs it", "container",
            )  # fmt: skip


def _experimental(component: Component) -> Mapping[str, Any]:
    """v1alpha1 keeps beside the other fields what v1beta1 calls experimental."""
    nested = component.body.get("experimental")
    return nested if isinstance(nested, dict) else component.body


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _epp(component: Component) -> _Rule:
    if component.role != "epp":
        return
    if component.nodes > 1:
        yield "multinode", "an endpoint picker runs on one node", "remove it"
    if component.replicas != 1:
        yield "replicas", f"{component.replicas} endpoint pickers", "1"
    if "eppConfig" not in component.body:
        yield "eppConfig", "missing: an endpoint picker needs it", "configMapRef or config"


def _containers(component: Component) -> list[str]:
    pod = component.body.get("extraPodSpec") or _mapping(component.body.get("podTemplate")).get(
        "spec"
    )
    listed = _mapping(pod).get("containers")
    return [str(_mapping(one).get("name")) for one in listed] if isinstance(listed, list) else []


def _sidecar(component: Component) -> _Rule:
    named = component.body.get("frontendSidecar")
    if isinstance(named, str) and named not in _containers(component):
        yield "frontendSidecar", f"no container '{named}' in podTemplate", "its container's name"
    if isinstance(named, dict) and "sidecar-frontend" in _containers(component):
        yield "frontendSidecar", "a container sidecar-frontend exists already", "rename that"


def _memory_service(component: Component) -> _Rule:
    experimental = _experimental(component)
    prefix = "experimental." if "experimental" in component.body else ""
    service = _enabled(experimental.get("gpuMemoryService"))
    failover = _enabled(experimental.get("failover"))
    if service is not None:
        if component.role not in ("worker", "prefill", "decode"):
            yield f"{prefix}gpuMemoryService", "only workers have GPU memory to serve", "remove it"
        if not component.gpus_per_pod:
            yield f"{prefix}gpuMemoryService", "the pod has no GPU", "nvidia.com/gpu: at least 1"
        names = service.get("extraClientContainers")
        for name in names if isinstance(names, list) else ():
            if name not in _containers(component):
                path = f"{prefix}gpuMemoryService.extraClientContainers"
                yield path, f"no container '{name}' in the pod", "a container's name"
    if failover is None:
        return
    if service is None:
        yield f"{prefix}failover", "failover needs gpuMemoryService", "add it, in the same mode"
    elif _mode(failover) != _mode(service):
        yield f"{prefix}failover.mode", "another mode than gpuMemoryService", "the same mode"


def _enabled(value: Any) -> Mapping[str, Any] | None:
    """Return settings that are given, and not switched off as v1alpha1 can."""
    return value if isinstance(value, dict) and value.get("enabled", True) else None


def _mode(value: Mapping[str, Any]) -> str:
    return str(value.get("mode", "IntraPod")).lower()


def _power(component: Component) -> _Rule:
    template = _mapping(component.body.get("podTemplate"))
    limit = _mapping(_mapping(template.get("metadata")).get("annotations")).get(_POWER)
    if isinstance(limit, str) and (whole(limit) or 0) <= 0:
        path = f"podTemplate.metadata.annotations[{_POWER}]"
        yield path, f"'{limit}' is no number of watts", "a whole number over 0"


def _elastic(component: Component) -> _Rule:
    words = " ".join(component.args).replace("=", " ")
    ray = "--data-parallel-backend ray" in words or "-dpb ray" in words
    if "--enable-elastic-ep" in words and ray and not component.command:
        yield "", "elastic EP over Ray needs an explicit command", "command: [python3, -m, ...]"


def _alpha(component: Component) -> _Rule:
    """Rules of fields that only v1alpha1 has."""
    mounts = component.body.get("volumeMounts")
    for index, mount in enumerate(mounts if isinstance(mounts, list) else ()):
        given = _mapping(mount)
        if not given.get("useAsCompilationCache") and not given.get("mountPoint"):
            yield f"volumeMounts[{index}].mountPoint", "missing", "where the volume appears"
    ingress = _mapping(component.body.get("ingress"))
    if ingress.get("enabled") and not ingress.get("host"):
        yield "ingress.host", "missing: the ingress is enabled", "a host name"
    config = component.body.get("eppConfig")
    both = isinstance(config, dict) and ("configMapRef" in config) == ("config" in config)
    if "componentType" in component.body and both:
        yield "eppConfig", "exactly one of configMapRef and config is needed", ""


def _image(graph: Graph, component: Component, at_is_stated: bool) -> Iterator[Problem]:
    path = spelled((*component.container, "image"))
    if component.image is None:
        what = f"component '{component.name}' has no image in its main container"
        yield Problem(graph.source, path, what, "repository:X.Y.Z")
        return
    if component.body.get("runtimeVersionOverride"):
        return
    found = image(component.image)
    if found.is_placeholder:
        what = f"'{component.image}' has a placeholder"
        yield Problem(graph.source, path, what, "fill it in", "warning")
    elif found.release is None:
        what, fix = _unversioned(component.image)
        yield Problem(graph.source, path, what, fix, "error" if at_is_stated else "warning")


def _unversioned(name: str) -> tuple[str, str]:
    what = f"operators since 1.4 cannot read a version off '{name}'"
    return what, "a tag such as 1.6.1, or runtimeVersionOverride"


def _topology(graph: Graph, spec: Mapping[str, Any]) -> Iterator[Problem]:
    constrained = [one for one in graph.components if "topologyConstraint" in one.body]
    whole = spec.get("topologyConstraint")
    path = "spec.topologyConstraint"
    if constrained and whole is None:
        what = f"missing: component '{constrained[0].name}' has one"
        yield Problem(graph.source, path, what, "clusterTopologyName")
    elif isinstance(whole, dict) and not whole.get("packDomain") and not constrained:
        yield Problem(graph.source, f"{path}.packDomain", "missing: no component has one", "rack")


def _restart(graph: Graph, spec: Mapping[str, Any]) -> Iterator[Problem]:
    strategy = _mapping(_mapping(spec.get("restart")).get("strategy"))
    order = strategy.get("order")
    if not isinstance(order, list) or not order:
        return
    path = "spec.restart.strategy.order"
    names = [component.name for component in graph.components]
    if strategy.get("type") == "Parallel":
        yield Problem(graph.source, path, "a parallel restart has no order", "remove it")
    elif sorted(map(str, order)) != sorted(names):
        yield Problem(graph.source, path, "not each component once", ", ".join(names))
