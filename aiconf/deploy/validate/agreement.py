"""What a graph says in several places, and must say alike: engine, model, release, roles, GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from aiconf.deploy.validate import connectors
from aiconf.deploy.validate.graph import Component, Graph
from aiconf.deploy.validate.images import unreleased
from aiconf.deploy.validate.parallelism import ranks
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched
from aiconf.errors import nearest

# Packages that `python -m dynamo.NAME` starts, of the ai-dynamo wheels 1.0.2 to 1.6.1.
_MODULES = (
    "vllm", "sglang", "trtllm", "tokenspeed", "triton", "mocker", "frontend", "router", "planner",
    "profiler", "replay", "global_planner", "global_router", "thunderagent_router",
    "squeeze_evolve", "kv_dc_relay", "kv_state_agent",
)  # fmt: skip
_IMAGES = {"vllm": "vllm", "sglang": "sglang", "tensorrtllm": "trtllm"}
_IMAGE = re.compile(r"(vllm|sglang|tensorrtllm)-runtime\b")
_MODEL = ("--model", "--model-path")
_SAME = {"model": _MODEL, "name": ("--served-model-name",)}
_ROLE_FLAGS = ("--disaggregation-mode", "--is-prefill-worker", "--is-decode-worker")
_GPU_KEYS = ("gpu", "nvidia.com/", "gpu.", "amd.com/", "habana.ai/")


def problems(graph: Graph, workers: Sequence[Launched]) -> Iterator[Problem]:
    """Yield where a graph contradicts itself, or lacks what another part of it needs."""
    plain = [one for one in workers if one.is_plain_engine]
    for one in workers:
        yield from _module(one)
        yield from _engine(one)
        if one.is_plain_engine:
            yield from _gpu(one)
            yield from _mode(one, plain)
    yield from _models(plain)
    yield from _releases(plain)
    yield from _images(graph)
    yield from _halves(graph, plain)


def _module(one: Launched) -> Iterator[Problem]:
    package, _, name = one.module.partition(".")
    name = name.partition(".")[0]
    if package != "dynamo" or not name or name in _MODULES or "$" in name:
        return
    near = nearest(name, _MODULES, limit=1)
    where = spelled((*one.component.container, "command"))
    told = f"Dynamo has no module {one.module}"
    fix = f"dynamo.{near[0]}" if near else ""
    yield Problem(one.graph.source, where, told, fix, "error" if one.exact else "warning")


def _engine(one: Launched) -> Iterator[Problem]:
    """An image holds one engine; the operator refuses another framework than the command's."""
    if one.engine is None:
        return
    match = _IMAGE.match(one.image.name.rpartition("/")[2]) if one.image else None
    if match and _IMAGES[match.group(1)] != one.engine:
        name = next(image for image, engine in _IMAGES.items() if engine == one.engine)
        where = spelled((*one.component.container, "image"))
        told = f"{match.group()} does not hold the engine of {one.module}"
        yield Problem(one.graph.source, where, told, f"{name}-runtime")
    spec = one.graph.document.body.get("spec")
    stated = spec.get("backendFramework") if isinstance(spec, dict) else None
    if stated in _IMAGES.values() and stated != one.engine:
        told = f"{stated}, and '{one.component.name}' starts {one.module}"
        yield Problem(one.graph.source, "spec.backendFramework", told, one.engine)


def _gpu(one: Launched) -> Iterator[Problem]:
    component = one.component
    if component.gpus_per_pod or _has_devices(component):
        return
    if one.line.text("--device") == "cpu" or "cpu" in (one.image.name if one.image else ""):
        return
    where = (*component.container, "resources", "limits")
    told = f"'{component.name}' runs {one.module} and has no GPU"
    needed = ranks(one)
    share = -(-needed.gpus // component.nodes) if needed else 1
    yield Problem(one.graph.source, spelled(where), told, f'nvidia.com/gpu: "{share}"')


def _has_devices(component: Component) -> bool:
    """Whether GPUs come in a way other than a count: claims, slices, a number still open."""
    body: Any = component.body
    if any("gpuMemoryService" in part for part in (body, _mapping(body.get("experimental")))):
        return True
    pod = _mapping(body.get("extraPodSpec"))
    pod = pod or _mapping(_mapping(body.get("podTemplate")).get("spec"))
    containers = [_mapping(pod.get("mainContainer"))]
    listed = pod.get("containers")
    containers += [_mapping(one) for one in listed] if isinstance(listed, list) else []
    for resources in (_mapping(part.get("resources")) for part in (body, *containers)):
        limits = _mapping(resources.get("limits"))
        for key, value in {**limits, **_mapping(limits.get("custom"))}.items():
            if str(key).startswith(_GPU_KEYS) and str(value) not in ("0", ""):
                return True
        if resources.get("claims"):
            return True
    return bool(pod.get("resourceClaims"))


def _mode(one: Launched, plain: Sequence[Launched]) -> Iterator[Problem]:
    """The component's type only places a pod; its engine is told its role by a flag.

    A decode worker alone is an aggregated worker by another name.
    """
    role = one.component.role
    told = _is_told(one) or one.line.has(*_ROLE_FLAGS)
    if role not in ("prefill", "decode") or told or one.hides_config:
        return
    if role == "decode" and not any(w.component.role == "prefill" for w in plain):
        return
    level = "error"
    if one.engine == "vllm" and role == "decode":
        # vLLM's aggregated workers decode, too, what a prefill worker sends, but a consumer cannot
        # take a whole request.
        level = "warning"
        if (connectors.config(one) or {}).get("kv_role") != "kv_consumer":
            return
    yield Problem(
        one.graph.source, spelled((*one.component.container, "args")),
        f"a component of type {role}, and its engine is not told so",
        f"--disaggregation-mode {role}", "error" if level == "error" else "warning",
    )  # fmt: skip


def _is_told(one: Launched) -> bool:
    env = any(key.endswith("_DISAGGREGATION_MODE") for key in one.component.env)
    # Flags that the release no longer has are said where the command line is read.
    flags = [flag for flag in _ROLE_FLAGS if any(parser.get(flag) for parser in one.parsers)]
    return env or one.line.has(*flags) or bool(one.written("--disaggregation-mode"))


def _models(plain: Sequence[Launched]) -> Iterator[Problem]:
    """Prefill and decode share a cache, which only one model can read, and one name."""
    prefills = [one for one in plain if one.component.role == "prefill"]
    decodes = [one for one in plain if one.component.role == "decode"]
    for decode, (meaning, flags) in product(decodes, _SAME.items()):
        mine = decode.line.text(*flags)
        theirs = [name for one in prefills if (name := one.line.text(*flags))]
        if mine and theirs and mine not in theirs:
            where = spelled((*decode.component.container, "args"))
            told = f"decode '{decode.component.name}' has {meaning} {mine}, prefill "
            told += f"'{prefills[0].component.name}' {theirs[0]}"
            yield Problem(decode.graph.source, where, told, f"{flags[0]} {theirs[0]}")
    served: dict[str, Launched] = {}
    for one in plain:
        name = one.line.text("--served-model-name")
        if name is None or one in prefills or one in decodes:
            continue
        first = served.setdefault(name, one)
        model, other = one.line.text(*_MODEL), first.line.text(*_MODEL)
        if model and other and model != other:
            where = spelled((*one.component.container, "args"))
            told = f"'{one.component.name}' has model {model}, '{first.component.name}' {other}, "
            told += f"both under the name {name}"
            yield Problem(one.graph.source, where, told, "one model, or names of their own")


def _releases(plain: Sequence[Launched]) -> Iterator[Problem]:
    stated = [one for one in plain if one.image and one.image.release]
    for one in stated[1:]:
        first, mine = stated[0].image, one.image
        if first and mine and first.release != mine.release:
            told = f"Dynamo {mine.release}, and '{stated[0].component.name}' has {first.release}"
            where = spelled((*one.component.container, "image"))
            yield Problem(one.graph.source, where, told, f"one release: {first.release}", "warning")


def _images(graph: Graph) -> Iterator[Problem]:
    for component in graph.components:
        found = unreleased(component.image or "")
        if found and not component.body.get("runtimeVersionOverride"):
            where = spelled((*component.container, "image"))
            told = f"no known release of Dynamo is {found[0]}"
            yield Problem(graph.source, where, told, found[1], "warning")


def _halves(graph: Graph, plain: Sequence[Launched]) -> Iterator[Problem]:
    """Half a pair may be meant: pools behind a router of their own are graphs of one kind."""
    if any(
        one.process and one.process.module.endswith("router") for one in graph.components
    ) or any("global" in one.name for one in graph.components):
        return
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        mine = [one for one in plain if one.component.role == role and _is_told(one)]
        if mine and not any(one.role in (other, "worker") for one in graph.components):
            where = spelled(mine[0].component.where)
            told = f"a {role} worker, and no {other} worker in the graph"
            yield Problem(graph.source, where, told, f"add a component of type {other}", "warning")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
