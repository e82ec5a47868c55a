"""Ports: two things in one pod cannot listen on the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched

# What the operator has every pod listen on (deploy/operator/internal/consts of Dynamo).
_SYSTEM = ("DYN_SYSTEM_PORT", 9090)
_NIXL = ("the operator's NIXL port", 19090)
_HTTP = ("DYN_HTTP_PORT", 8000)
_FLAGS = (
    "--disaggregation-bootstrap-port", "--http-port", "--data-parallel-rpc-port",
    "--grpc-port", "--kserve-grpc-port",
)  # fmt: skip


def problems(one: Launched) -> Iterator[Problem]:
    """Yield the ports that two servers of a pod share, and those that are none."""
    taken: dict[int, str] = {}
    for name, port in _listening(one):
        where = spelled((*one.component.container, "args"))
        if not 0 < port < 65536:
            yield Problem(one.graph.source, where, f"{name}: {port} is no port", "1 to 65535")
        elif port in taken and taken[port] != name:
            told = f"{taken[port]} and {name} both listen on port {port}"
            yield Problem(one.graph.source, where, told, "give one of them another port")
        taken.setdefault(port, name)


def _listening(one: Launched) -> Iterator[tuple[str, int]]:
    env = one.component.env
    frontend = one.component.role == "frontend"
    fixed = (_HTTP,) if frontend else (_SYSTEM, _NIXL)
    for name, port in fixed:
        stated = whole(env.get(name, ""))
        if not (frontend and one.line.has("--http-port")):
            yield name, port if stated is None else stated
    if (side := whole(env.get("VLLM_NIXL_SIDE_CHANNEL_PORT", ""))) is not None:
        yield "VLLM_NIXL_SIDE_CHANNEL_PORT", side
    for flag in _FLAGS:
        if (stated_port := one.line.number(flag)) is not None:
            yield flag, stated_port
    if (events := _events(one.line.text("--kv-events-config"))) is not None:
        yield "--kv-events-config", events


def _events(text: str | None) -> int | None:
    """Return the port of ``tcp://*:20080``, where a worker publishes events of its KV cache."""
    try:
        config = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    endpoint = config.get("endpoint") if isinstance(config, dict) else None
    match = re.search(r":(\d{1,6})$", endpoint) if isinstance(endpoint, str) else None
    return int(match.group(1)) if match else None
