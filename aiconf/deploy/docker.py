"""A deployment as shell scripts, one per node, that start its containers with Docker."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any

from aiconf.deploy import trtllm
from aiconf.deploy.dgd import Deployment, launch_of, site_of
from aiconf.deploy.nodes import Node, Placed, placement
from aiconf.deploy.pods import CACHE_FOLDER, Part

_PORTS_APART = 100  # between workers of one node: more than the ranks that count from a port
_MASTER_PORT = 29500  # first rank of an engine over several nodes
_DATA_PORT = 13445  # first attention rank of vLLM over several nodes
_SYSTEM_PORT, _SIDE_PORT, _SGLANG_PORT = 9090, 20097, 30000


@dataclass(frozen=True)
class Expand:
    """A word that the shell completes: ``text`` is written inside double quotes."""

    text: str


Word = str | Expand


def why_not(deployment: Deployment) -> str | None:
    """Return why no scripts can be written, or None."""
    several = any(part.nodes.count > 1 for part in deployment.parts)
    if deployment.plan.backend == "trtllm" and several:
        return "TensorRT-LLM over several nodes needs an MPI launcher between its containers"
    return None


def over_network(deployment: Deployment) -> bool:
    """Whether workers send each other KV blocks or parts of a step, which RDMA should carry."""
    several = any(part.nodes.count > 1 for part in deployment.parts)
    return deployment.plan.disaggregated or several


def calls(deployment: Deployment) -> list[str]:
    """Return how each node's script is called: the addresses that it needs, and the token."""
    nodes = placement(deployment.parts)
    lines = []
    for node in nodes:
        heads = ["HEAD=ADDRESS_OF_NODE_0"] if len(nodes) > 1 else []
        heads += [f"NODE_{one}=ADDRESS_OF_NODE_{one}" for one in _leaders(node)]
        lines.append(" ".join([*heads, "HF_TOKEN=YOUR_TOKEN", f"./launch_node_{node.index}.sh"]))
    return lines


def scripts(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return what each node's script says, by file name (see ``launch_node.sh.j2``)."""
    nodes = placement(deployment.parts)
    return {f"launch_node_{node.index}.sh": _script(deployment, node, nodes) for node in nodes}


def _script(deployment: Deployment, node: Node, nodes: list[Node]) -> dict[str, Any]:
    return {
        "deployment": deployment,
        "node": node,
        "count": len(nodes),
        "leaders": _leaders(node),
        "mounted": any(one.part.launch.mounted for one in node.placed),
        "network": over_network(deployment),
        "image": deployment.runtime.image,
        "frontend": _frontend(deployment) if node.index == 0 else None,
        "workers": [_quoted(_worker(deployment, one)) for one in node.placed],
    }


def _leaders(node: Node) -> list[int]:
    """Nodes other than the first whose address the ranks on ``node`` need."""
    wide = [one for one in node.placed if one.part.nodes.count > 1]
    return sorted({one.leader for one in wide if one.leader})


def _frontend(deployment: Deployment) -> str:
    mode = {"DYN_ROUTER_MODE": "kv"} if deployment.options.router == "kv" else {}
    words: list[Word] = [*_run(deployment, "frontend", mode), deployment.runtime.image]
    return _quoted([*words, "python3", "-m", "dynamo.frontend", "--http-port", "8000"])


def _worker(deployment: Deployment, placed: Placed) -> list[Word]:
    plan, part = deployment.plan, placed.part
    site = site_of(part.worker, deployment.name, deployment.runtime, deployment.options)
    several = f"-{placed.replica}" if part.worker.replicas > 1 else ""
    ports = placed.slot * _PORTS_APART
    launch = launch_of(plan, part.worker, replace(site, replica=several, ports=ports))
    env = {
        "DYN_SYSTEM_PORT": str(_SYSTEM_PORT + placed.slot),
        **(
            {"VLLM_NIXL_SIDE_CHANNEL_PORT": str(_SIDE_PORT + ports)}
            if plan.backend == "vllm"
            else {}
        ),
        **launch.env,
    }
    words: list[Word] = _run(deployment, f"{part.component}-{placed.replica}", env)
    words += ["--gpus", f'"device={",".join(map(str, placed.gpus))}"']
    if over_network(deployment):
        words.append(Expand("${rdma[@]}"))
    if launch.mounted:
        inside = f"{trtllm.CONFIG_FOLDER}/{trtllm.config_file(part.worker)}"
        words += ["--volume", Expand(f"$here/engine_{part.component}.yaml:{inside}:ro")]
    words += [deployment.runtime.image, "python3", "-m", launch.module]
    # Kubernetes would turn $$( back into $(; nothing does here.
    for setting in launch.settings:
        words += [word.replace("$$(", "$(") for word in setting.arguments()]
    return words + _ranks(part, placed, plan.backend, ports)


def _run(deployment: Deployment, name: str, env: dict[str, str]) -> list[Word]:
    words: list[Word] = ["docker", "run", "--detach", "--name", f"{deployment.name}-{name}"]
    words += ["--label", f"aiconf={deployment.name}"]
    words += ["--network", "host", "--ipc", "host", "--ulimit", "memlock=-1"]
    words += ["--env", "HF_TOKEN", "--env", f"HF_HOME={CACHE_FOLDER}"]
    words += ["--volume", Expand(f"$cache:{CACHE_FOLDER}")]
    checkpoint = deployment.plan.model.checkpoint
    if checkpoint.startswith("/"):
        words += ["--volume", f"{checkpoint}:{checkpoint}:ro"]
    words += ["--env", Expand("ETCD_ENDPOINTS=http://$head:2379")]
    words += ["--env", Expand("NATS_SERVER=nats://$head:4222")]
    for key, value in env.items():
        words += ["--env", f"{key}={value}"]
    return words


def _ranks(part: Part, placed: Placed, backend: str, ports: int) -> list[Word]:
    """Return the words with which a rank finds the others, as Dynamo's operator adds them."""
    nodes, layout = part.nodes, part.worker.parallel
    port = ["--port", str(_SGLANG_PORT + ports)] if backend == "sglang" and ports else []
    words: list[Word] = [*port]
    if nodes.count == 1:
        return words
    leader = Expand("$head" if placed.leader == 0 else f"$node_{placed.leader}")
    rank = ["--nnodes", str(nodes.count), "--node-rank", str(placed.rank)]
    if backend == "sglang":
        return [*words, "--dist-init-addr", Expand(f"{leader.text}:{_MASTER_PORT + ports}"), *rank]
    if layout.tp * layout.pp > nodes.gpus_per_pod:
        words += ["--distributed-executor-backend", "mp", *rank, "--master-addr", leader]
        words += ["--master-port", str(_MASTER_PORT + ports)]
        return [*words, "--headless"] if placed.rank else words
    local = nodes.gpus_per_pod // (layout.tp * layout.pp)
    words += ["--data-parallel-hybrid-lb", "--data-parallel-size-local", str(local)]
    words += ["--data-parallel-start-rank", str(placed.rank * local)]
    return [*words, "--data-parallel-address", leader, "--data-parallel-rpc-port", str(_DATA_PORT)]


def _quoted(words: list[Word]) -> str:
    """Return a command of one option per line, each word safe for the shell."""
    lines: list[list[str]] = [[]]
    for word in words:
        text = f'"{word.text}"' if isinstance(word, Expand) else shlex.quote(word)
        if text.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(text)
    return " \\\n  ".join(" ".join(line) for line in lines)
