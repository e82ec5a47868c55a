"""One view of every DynamoGraphDeployment: v1alpha1 ``services`` and v1beta1 ``components``.

The view never fails: what a document states wrongly is left out here and found by the checks of
structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.shell import Process, process

Role = Literal["frontend", "worker", "prefill", "decode", "planner", "epp", "other"]
Where = tuple[str | int, ...]  # a path inside a document

GPU = "nvidia.com/gpu"
KIND = "DynamoGraphDeployment"
_ROLES: tuple[Role, ...] = ("frontend", "worker", "prefill", "decode", "planner", "epp")
_FRAMEWORKS = ("vllm", "sglang", "trtllm")


@dataclass(frozen=True)
class Component:
    """One kind of process of a graph, and the pods it runs in.

    nodes: pods of one replica; gpus_per_pod: None where the manifest does not say.
    process: the Python module of the container and its words; None when the image's own or the
    operator's command runs, or a script that cannot be read. files: texts of ConfigMaps by the
    path where the container sees them. env: variables with a stated value.
    where: the component in its document; container: its main container.
    """

    name: str
    role: Role
    replicas: int
    nodes: int
    gpus_per_pod: int | None
    image: str | None
    command: tuple[str, ...]
    args: tuple[str, ...]
    process: Process | None
    env: Mapping[str, str]
    files: Mapping[str, str]
    body: Mapping[str, Any]
    where: Where
    container: Where

    @property
    def is_worker(self) -> bool:
        """Whether it runs an engine: a worker of any role, or what starts an engine's module."""
        module = self.process.module if self.process else ""
        return self.role in ("worker", "prefill", "decode") or framework_of(module) is not None

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words given to the module."""
        return self.process.words if self.process else ()


@dataclass(frozen=True)
class Graph:
    """A deployment: its name, API version, engine and components."""

    name: str
    api: str
    framework: str | None
    components: tuple[Component, ...]
    document: Document
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Return the file it was read from."""
        return self.document.source


def framework_of(module: str) -> str | None:
    """Return the engine that a module such as ``dynamo.vllm`` runs."""
    name = module.removeprefix("dynamo.").partition(".")[0]
    return name if module.startswith("dynamo.") and name in _FRAMEWORKS else None


def graphs(documents: Sequence[Document]) -> list[Graph]:
    """Return the graphs among ``documents``; ConfigMaps among them give their mounted files.

    Those of a graph's own file count first, those of other files where the name is no other's.
    """
    maps: dict[str, dict[str, Mapping[str, str]]] = {}
    for one in documents:
        if one.kind == "ConfigMap":
            maps.setdefault(one.name, {})[one.source] = _texts(one.body.get("data"))
    found = []
    for one in documents:
        if one.kind == KIND:
            seen = {
                name: by_source.get(one.source) or next(iter(by_source.values()))
                for name, by_source in maps.items()
                if one.source in by_source or len(by_source) == 1
            }
            found.append(graph(one, seen))
    return found


def graph(document: Document, config_maps: Mapping[str, Mapping[str, str]] | None = None) -> Graph:
    """Return the view of a DynamoGraphDeployment.

    Parameters
    ----------
    config_maps
        Texts of ConfigMaps by name and key.
    """
    spec = _mapping(document.body.get("spec"))
    maps = config_maps or {}
    shared = _env(spec.get("env"), maps) | _env(spec.get("envs"), maps)
    components = tuple(
        _component(name, body, where, shared, maps) for name, body, where in _bodies(spec)
    )
    stated = spec.get("backendFramework")
    modules = [framework_of(one.process.module) for one in components if one.process]
    found = [name for name in (stated, *modules) if name in _FRAMEWORKS]
    metadata = _mapping(document.body.get("metadata"))
    return Graph(
        name=document.name,
        api=document.api,
        framework=found[0] if found else None,
        components=components,
        document=document,
        annotations=_texts(metadata.get("annotations")) | _texts(spec.get("annotations")),
    )


def _bodies(spec: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any], Where]]:
    for index, body in enumerate(_list(spec.get("components"))):
        if isinstance(body, dict):
            yield str(body.get("name", "")), body, ("spec", "components", index)
    for name, body in _mapping(spec.get("services")).items():
        if isinstance(body, dict):
            yield str(name), body, ("spec", "services", str(name))


def _component(
    name: str,
    body: Mapping[str, Any],
    where: Where,
    shared: Mapping[str, str],
    config_maps: Mapping[str, Mapping[str, str]],
) -> Component:
    pod, container, place = _pod(body, where)
    env = {
        **shared,
        **_env_from(container.get("envFrom"), config_maps),
        **_env(body.get("envs"), config_maps),
        **_env(container.get("env"), config_maps),
    }
    command = _words(container.get("command"))
    args = _words(container.get("args"))
    started = process(command, args, env)
    return Component(
        name=name,
        role=_role(body, started.words if started else ()),
        replicas=_count(body.get("replicas"), 1),
        nodes=_count(_mapping(body.get("multinode")).get("nodeCount"), 1),
        gpus_per_pod=_gpus(body, container),
        image=container["image"] if isinstance(container.get("image"), str) else None,
        command=command,
        args=args,
        process=started,
        env=env,
        files=_files(pod, container, config_maps),
        body=body,
        where=where,
        container=place,
    )


def _pod(
    body: Mapping[str, Any], where: Where
) -> tuple[Mapping[str, Any], Mapping[str, Any], Where]:
    """Return the pod's spec, its main container, and where that is."""
    if "extraPodSpec" in body:
        pod = _mapping(body["extraPodSpec"])
        place: Where = (*where, "extraPodSpec", "mainContainer")
        return pod, _mapping(pod.get("mainContainer")), place
    pod = _mapping(_mapping(body.get("podTemplate")).get("spec"))
    base: Where = (*where, "podTemplate", "spec", "containers")
    for index, container in enumerate(_list(pod.get("containers"))):
        if isinstance(container, dict) and container.get("name") == "main":
            return pod, container, (*base, index)
    return pod, {}, where


def _role(body: Mapping[str, Any], words: Sequence[str]) -> Role:
    """v1alpha1 has free strings, and ``subComponentType`` beside ``worker``.

    A plain worker is what its engine is told to be: many manifests say it only there.
    """
    role: Role = "other"
    for stated in (body.get("subComponentType"), body.get("type"), body.get("componentType")):
        if stated in _ROLES:
            role = _ROLES[_ROLES.index(stated)]
            break
    if role not in ("worker", "other"):
        return role
    told = " ".join(words).replace("=", " ")
    match = re.search(
        r"--disaggregation-mode (prefill|decode)\b|--is-(prefill|decode)-worker", told
    )
    if match is None:
        return role
    return "prefill" if "prefill" in match.groups() else "decode"


def _gpus(body: Mapping[str, Any], container: Mapping[str, Any]) -> int | None:
    """Return the GPUs of one pod; other makers' (``gpu.intel.com/xe``) count as GPUs too."""
    for resources in (_mapping(body.get("resources")), _mapping(container.get("resources"))):
        for kind in ("limits", "requests"):
            amounts = _mapping(resources.get(kind))
            for key, value in {**amounts, **_mapping(amounts.get("custom"))}.items():
                if key in ("gpu", GPU) or str(key).startswith(("gpu.", "amd.com/gpu")):
                    count = _count(value, -1)
                    if count >= 0:
                        return count
    return None


def _files(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    config_maps: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    texts: dict[str, dict[str, str]] = {}
    for volume in _list(pod.get("volumes")):
        source = _mapping(_mapping(volume).get("configMap"))
        known = config_maps.get(str(source.get("name")), {})
        items = [_mapping(item) for item in _list(source.get("items"))]
        renamed = {str(i.get("path")): known.get(str(i.get("key")), "") for i in items}
        texts[str(_mapping(volume).get("name"))] = renamed if items else dict(known)
    found = {}
    for mount in map(_mapping, _list(container.get("volumeMounts"))):
        folder, inside = str(mount.get("mountPath", "")), mount.get("subPath")
        for file, text in texts.get(str(mount.get("name")), {}).items():
            if inside is None:
                found[str(PurePosixPath(folder) / file)] = text
            elif file == inside:
                found[str(PurePosixPath(folder))] = text
    return found


def _env(value: Any, config_maps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    found = {}
    for one in map(_mapping, _list(value)):
        key = _mapping(_mapping(one.get("valueFrom")).get("configMapKeyRef"))
        text = one.get("value", config_maps.get(str(key.get("name")), {}).get(str(key.get("key"))))
        if "name" in one and isinstance(text, str):
            found[str(one["name"])] = text
    return found


def _env_from(value: Any, config_maps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in map(_mapping, _list(value)):
        name = str(_mapping(one.get("configMapRef")).get("name"))
        prefix = str(one.get("prefix", ""))
        found |= {prefix + key: text for key, text in config_maps.get(name, {}).items()}
    return found


def _texts(value: Any) -> dict[str, str]:
    return {str(k): v for k, v in _mapping(value).items() if isinstance(v, str)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in _list(value) if isinstance(one, (str, int, float)))


def _count(value: Any, default: int) -> int:
    try:
        return default if isinstance(value, bool) or value is None else int(value)
    except (TypeError, ValueError, OverflowError):  # the last of .inf
        return default


__all__ = ["GPU", "KIND", "Component", "Graph", "Role", "Where", "framework_of", "graph", "graphs"]
