"""GPUs: those that a worker's layout needs against those that its pods have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched

_INJECTED = {
    "vllm": ("--nnodes", "--node-rank", "--master-addr", "--headless"),
    "sglang": ("--dist-init-addr", "--nnodes", "--node-rank"),
}


@dataclass(frozen=True)
class Ranks:
    """Ranks of a worker, and how they were counted."""

    gpus: int
    told: str


_LAYOUT = {
    "vllm": (
        "--tensor-parallel-size", "--pipeline-parallel-size", "--prefill-context-parallel-size",
        "--data-parallel-size",
    ),
    "sglang": ("--tp-size", "--pp-size", "--dp-size", "--ep-size"),
    "trtllm": ("--tensor-parallel-size", "--pipeline-parallel-size", "--context-parallel-size"),
}  # fmt: skip


def ranks(one: Launched) -> Ranks | None:
    """Return the GPUs that a worker needs; None where the manifest does not say."""
    if not one.is_plain_engine or one.hides_config or one.line.hidden(*_LAYOUT[one.engine or ""]):
        return None
    counts = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}[one.engine or ""](one)
    gpus = 1
    for size in counts.values():
        gpus *= size
    told = " x ".join(f"{name} {size}" for name, size in counts.items() if size > 1)
    return Ranks(gpus, told or "one GPU")


def _vllm(one: Launched) -> dict[str, int]:
    return {
        "tensor": one.number("--tensor-parallel-size") or 1,
        "pipeline": one.number("--pipeline-parallel-size") or 1,
        "prefill context": one.number("--prefill-context-parallel-size") or 1,
        "data": one.number("--data-parallel-size") or 1,
    }


def _sglang(one: Launched) -> dict[str, int]:
    """With attention DP, the data-parallel ranks are inside the tensor-parallel ones."""
    flag = "--enable-dp-attention"
    inside = one.line.has(flag) or one.written(flag)
    return {
        "tensor": one.number("--tp-size") or 1,
        "pipeline": one.number("--pp-size") or 1,
        "data": 1 if inside else one.number("--dp-size") or 1,
    }


def _trtllm(one: Launched) -> dict[str, int]:
    """Experts and attention DP use the tensor-parallel ranks."""
    return {
        "tensor": one.number("--tensor-parallel-size", "tensor_parallel_size") or 1,
        "pipeline": one.number("--pipeline-parallel-size", "pipeline_parallel_size") or 1,
        "context": one.number("--context-parallel-size", "context_parallel_size") or 1,
    }


def problems(one: Launched) -> Iterator[Problem]:
    """Yield where the GPUs of a worker's pods are not those of its layout."""
    component, needed = one.component, ranks(one)
    source, where = one.graph.source, spelled(component.where)
    yield from _unchecked(one)
    yield from _divisions(one)
    if component.nodes > 1:
        yield from _injected(one)
    if needed is None or component.gpus_per_pod in (None, 0) or one.line.has("--enable-elastic-ep"):
        return
    per_pod, nodes = component.gpus_per_pod or 0, component.nodes
    have = per_pod * nodes
    if have == needed.gpus or nodes < 1:  # no number of nodes: said with the structure
        return
    told = f"{nodes} pods of {per_pod}" if nodes > 1 else f"a pod of {per_pod}"
    what = f"the layout needs {needed.gpus} GPUs ({needed.told}), and there are {have} ({told})"
    if have < needed.gpus or nodes > 1:
        fix = "the GPU limit counts per pod, which is per node: "
        share, rest = divmod(needed.gpus, nodes)
        fix += f"{share} per pod" if not rest else f"{needed.gpus} do not divide by {nodes} nodes"
        yield Problem(source, where, what, fix)
    else:
        fix = f"ask for {needed.gpus}, or use them: GPUs that no rank uses stay idle"
        yield Problem(source, where, what, fix, "warning")


def _unchecked(one: Launched) -> Iterator[Problem]:
    """Say what could not be checked since the manifest does not state it."""
    if not one.is_engine:
        return
    if not one.is_complete:
        told = ", ".join(sorted(set(one.line.open))[:3])[:80] or "its script"
        what = f"{told}: may be any flags, so that GPUs, sizes and what workers share are unchecked"
    elif hidden := one.line.hidden(*_LAYOUT[one.engine or ""]):
        what = f"{', '.join(hidden)}: not known here, so that the GPUs are unchecked"
    else:
        return
    where = spelled((*one.component.container, "args"))
    yield Problem(one.graph.source, where, what, "state it in the manifest", "warning")


def _injected(one: Launched) -> Iterator[Problem]:
    """Over several nodes the operator adds flags to the command, and wraps it in a script."""
    where = spelled((*one.component.container, "args"))
    for flag in _INJECTED.get(one.engine or "", ()):
        if one.line.has(flag):
            yield Problem(
                one.graph.source, where, f"{flag}: the operator sets it on each node", "remove it",
                "warning",
            )  # fmt: skip
    if one.engine == "trtllm" and any("'" in word for word in one.component.args):
        yield Problem(
            one.graph.source, where,
            "a single quote ends the script that the operator wraps around a multi-node command",
            "put what is quoted into a file of a ConfigMap", "warning",
        )  # fmt: skip


def _divisions(one: Launched) -> Iterator[Problem]:
    if one.engine != "sglang" or ranks(one) is None:
        return
    tensor = _sglang(one)["tensor"]
    inside = _sglang(one)["data"] == 1 and one.number("--dp-size")
    for name, size in (("--dp-size", inside), ("--ep-size", one.number("--ep-size"))):
        if size and tensor % size:
            yield Problem(
                one.graph.source, spelled(one.component.where),
                f"{name} {size} does not divide --tp-size {tensor}", f"a divisor of {tensor}",
            )  # fmt: skip
