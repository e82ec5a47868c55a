"""Connectors that move vLLM's KV cache: which each version has, and what they cannot do.

Names after vllm/distributed/kv_transfer/kv_connector/factory.py in the wheels of vLLM 0.16.0 to
0.31.0. Any other class is loaded from ``kv_connector_module_path``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched
from aiconf.deploy.versions import engines
from aiconf.errors import nearest

_ALWAYS = (
    "ExampleConnector", "LMCacheConnectorV1", "LMCacheMPConnector", "NixlConnector",
    "MultiConnector", "MoRIIOConnector", "OffloadingConnector", "DecodeBenchConnector",
    "MooncakeConnector",
)  # fmt: skip
# First version of each later name among the wheels read, and the first without an older one.
_SINCE = {
    "ExampleHiddenStatesConnector": (0, 19), "FlexKVConnectorV1": (0, 19),
    "SimpleCPUOffloadConnector": (0, 19), "HF3FSKVConnector": (0, 20),
    "MooncakeStoreConnector": (0, 23), "NixlPullConnector": (0, 26),
    "NixlPushConnector": (0, 26), "HiSparseConnector": (0, 31),
}  # fmt: skip
_UNTIL = {"P2pNcclConnector": (0, 26)}
_NIXL = {"NixlConnector": "NixlPullConnector"}  # the first is another name of the second
_PIPELINE = (0, 26)  # nixl/base_worker.py refuses a consumer with pipeline stages since then
_CONFIG = "--kv-transfer-config"


def known(version: str) -> tuple[str, ...]:
    """Return the connectors that vLLM ``version`` has by name."""
    at = _numbers(version)
    later = [name for name, since in _SINCE.items() if at >= since]
    return (*_ALWAYS, *later, *(name for name, until in _UNTIL.items() if at < until))


def config(one: Launched) -> Mapping[str, Any] | None:
    """Return the JSON of --kv-transfer-config; None where it is not given or not known."""
    try:
        found = json.loads(one.line.text(_CONFIG) or "null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_given(one: Launched) -> bool:
    """Whether a connector is given in any way, also by a flag for one key of the JSON."""
    return any(key.startswith(_CONFIG) for key in one.line.settings)


def _parts(stated: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the connectors that move cache: those inside of one that holds several."""
    waiting = [stated]
    while waiting:
        one = waiting.pop()
        extra = one.get("kv_connector_extra_config")
        listed = extra.get("connectors") if isinstance(extra, dict) else None
        inside = [o for o in listed if isinstance(o, dict)] if isinstance(listed, list) else []
        waiting += inside
        if not inside:
            yield one


def _names(stated: Mapping[str, Any]) -> set[str]:
    named = {str(one.get("kv_connector")) for one in _parts(stated)}
    return {_NIXL.get(name, name) for name in named}


def problems(workers: Sequence[Launched]) -> Iterator[Problem]:
    """Yield what is wrong with the connectors of the vLLM workers of a graph."""
    mine = [one for one in workers if one.is_plain_engine and one.engine == "vllm"]
    prefills = [one for one in mine if one.component.role == "prefill"]
    for one in mine:
        stated = config(one)
        if stated is not None:
            for part in (stated, *_parts(stated)):
                yield from _unknown(one, part)
            yield from _pipeline(one, stated)
        if one.component.role == "decode":
            yield from _against(prefills, one, stated)


def _unknown(one: Launched, stated: Mapping[str, Any]) -> Iterator[Problem]:
    name = stated.get("kv_connector")
    version = engines()[one.release]["vllm"]
    if not isinstance(name, str) or name in known(version) or "{" in name or "$" in name:
        return
    if stated.get("kv_connector_module_path"):
        return
    near = nearest(name, known(version), limit=1)
    told = f"vLLM {version} has no connector '{name}' and no kv_connector_module_path is given"
    yield Problem(
        one.graph.source, _args(one), told, near[0] if near else ", ".join(known(version)),
        "error" if one.exact else "warning",
    )  # fmt: skip


def _pipeline(one: Launched, stated: Mapping[str, Any]) -> Iterator[Problem]:
    """Pipeline stages hold layers of their own, which the pulling side does not look for."""
    stages = one.number("--pipeline-parallel-size") or 1
    version = engines()[one.release]["vllm"]
    role = one.component.role
    names = _names(stated)
    if stages == 1 or not names & {"NixlPullConnector", "NixlPushConnector"}:
        return
    if role == "decode":
        refuses = stated.get("kv_role") == "kv_consumer" and _numbers(version) >= _PIPELINE
        what = "it does not start" if refuses else "vLLM does not support it"
        told = f"{stages} pipeline stages in a decode worker with NIXL: {what}"
        yield Problem(
            one.graph.source, _args(one), told, "--pipeline-parallel-size 1, more tensor parallel"
        )
    elif role == "prefill" and "NixlPullConnector" in names:
        told = f"{stages} pipeline stages in a prefill worker with NixlConnector: decode workers "
        yield Problem(
            one.graph.source, _args(one), told + "read the cache of the first stage only",
            "--pipeline-parallel-size 1, more tensor parallel",
        )  # fmt: skip


def _against(
    prefills: Sequence[Launched], decode: Launched, stated: Mapping[str, Any] | None
) -> Iterator[Problem]:
    for prefill in prefills:
        theirs = config(prefill)
        if theirs is None:
            continue
        told = f"prefill '{prefill.component.name}' has connector {theirs.get('kv_connector')}, "
        told += f"decode '{decode.component.name}' "
        if stated is None and not is_given(decode):
            fix = f"{_CONFIG} with kv_connector {theirs.get('kv_connector')}"
            yield Problem(decode.graph.source, _args(decode), told + "has none", fix)
        elif stated is not None and not _names(theirs) & _names(stated):
            if any(
                list(_unknown(one, part)) for one, part in ((prefill, theirs), (decode, stated))
            ):
                continue  # said there, with the name that is meant
            fix = f"the same kv_connector in both: {theirs.get('kv_connector')}"
            told += str(stated.get("kv_connector"))
            yield Problem(decode.graph.source, _args(decode), told, fix)


def _args(one: Launched) -> str:
    return spelled((*one.component.container, "args"))


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
