"""Collectives as engines call them: torch.distributed, and engines' own all-reduces.

Confirmed in the wheels: vllm 0.24.0 distributed/device_communicators/custom_all_reduce.py
(``CustomAllreduce(group, device)``, ``capture``, ``should_custom_ar``, ``custom_all_reduce``) and
flashinfer_all_reduce.py; sglang 0.5.14 srt/distributed/device_communicators/custom_all_reduce.py
(``dispatch_custom_allreduce``); torch 2.11 ``torch.distributed._symmetric_memory``;
flashinfer-python 0.6.0 comm/allreduce.py (``allreduce_fusion``). Engines hand these a group that
is not NCCL's, for their handshakes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aiconf.system.catalog import load_system, system_names
from profilers import team
from profilers.availability import Missing, Unsupported, needs
from profilers.nccl_timing import timer
from profilers.operator import Inputs, Kernel, Key

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

_HIDDEN = 8192  # width of the matrix that fused all-reduces take a buffer for, where it divides


@dataclass
class Collective:
    """One collective on buffers of its own.

    x: what this rank puts in; held: where it lies when the collective starts (the output too,
    where it works in place). member: whether this rank takes part. context: what a capture into
    a CUDA graph happens within. least: seconds that the link alone takes; 0: not known.
    """

    x: Tensor
    held: Tensor
    run: Callable[[Tensor], Tensor]
    member: bool
    gpus: int
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    output: Tensor | None = None  # where it does not make a new one
    least: float = 0.0

    def __call__(self) -> Tensor:
        """Run it once; a rank outside of the group has nothing to do."""
        return self.run(self.held) if self.member else self.x

    def restore(self) -> None:
        """Lay the input back, where the collective works in place, and spoil the output."""
        if self.held is not self.x:
            self.held.copy_(self.x)
        if self.output is not None and self.output is not self.held:
            self.output.fill_(float("nan") if self.output.is_floating_point() else 85)


@cache
def _nvlink(name: str) -> float:
    """Bytes/s that a GPU of this name sends over NVLink, by its datasheet; 0: not known."""
    for system in map(load_system, system_names()):
        if system.device_name == name:
            return system.nvlink_bandwidth
    return 0.0


def link_seconds(key: Key, bandwidth: float) -> float:
    """Least seconds of a collective: every GPU sends all shards but its own, once.

    A ring all-reduce sends them twice; switches that add (NVLink SHARP) need once.
    """
    share = 1.0 if key["op"] == "send" else (key["gpus"] - 1) / key["gpus"]
    return float(key["bytes"] * share / bandwidth) if bandwidth else 0.0


def bounded(prepare: Callable[[Key, Inputs], Collective]) -> Callable[[Key, Inputs], Collective]:
    """Return ``prepare`` whose collectives know how fast the link could be."""

    def known(key: Key, inputs: Inputs) -> Collective:
        import torch

        found = prepare(key, inputs)
        if found.x.is_cuda:
            found.least = link_seconds(key, _nvlink(torch.cuda.get_device_name(found.x.device)))
        return found

    return known


def _member(gpus: int) -> bool:
    return team.ranks().rank < gpus


def torch_distributed(key: Key, inputs: Inputs) -> Collective:
    """``torch.distributed`` over the group's own backend: NCCL for GPUs, gloo for CPUs."""
    import torch
    import torch.distributed as dist

    x, gpus, op = inputs["x"], key["gpus"], key["op"]
    group = team.group(gpus, "nccl" if x.is_cuda else "gloo")
    member, rank = _member(gpus), team.ranks().rank
    if op == "all_reduce":
        held = x.clone()

        def reduce(tensor: Tensor) -> Tensor:
            dist.all_reduce(tensor, group=group)
            return tensor

        return Collective(x, held, reduce, member, gpus, output=held)
    count = {"all_gather": x.numel() * gpus, "reduce_scatter": x.numel() // gpus}
    output = torch.empty(count.get(op, x.numel()), dtype=x.dtype, device=x.device)
    if op == "send":
        output = x if rank == 0 else output

    def exchange(tensor: Tensor) -> Tensor:
        if op == "all_gather":
            dist.all_gather_into_tensor(output, tensor, group=group)
        elif op == "reduce_scatter":
            dist.reduce_scatter_tensor(output, tensor, group=group)
        elif op == "all_to_all":
            dist.all_to_all_single(output, tensor, group=group)
        elif rank == 0:
            dist.send(tensor, 1, group=group)
        else:
            dist.recv(output, 0, group=group)
        return output

    return Collective(x, x, exchange, member, gpus, output=None if output is x else output)


def _agreed(gpus: int, make: Callable[[], Any]) -> Any:
    """What ``make`` returns on each of the first ``gpus`` ranks; None on the others.

    All ranks must come here in the same order, so callers keep the result (``cache``).

    Raises
    ------
    RuntimeError
        On every rank, when it failed on one of them: else the others would wait for it.
    """
    made, problem = None, ""
    if _member(gpus):
        try:
            made = make()
        except Exception as error:  # a library may raise anything: every rank must hear of it
            problem = f"{type(error).__name__}: {error}"
    problems = [found for found in team.ranks().gather(problem) if found]
    if problems:
        raise RuntimeError(problems[0])
    return made


@cache
def _communicator(engine: str, gpus: int) -> Any:
    """An engine's communicator over the first ``gpus`` ranks; None on the others."""
    import torch

    handshakes = team.group(gpus, "gloo")
    team.group(gpus, "nccl")  # samples begin with it, on members only: all ranks make it here

    def make() -> Any:
        made = _makers()[engine](handshakes, torch.device("cuda", torch.cuda.current_device()))
        if made.disabled:
            raise RuntimeError(f"{engine} turned its all-reduce off here (see its log)")
        return made

    return _agreed(gpus, make)


def _makers() -> dict[str, Callable[[Any, Any], Any]]:
    return {"vllm": _vllm, "sglang": _sglang, "flashinfer": _flashinfer}


def _vllm(group: Any, device: Any) -> Any:
    from vllm.distributed.device_communicators.custom_all_reduce import CustomAllreduce

    return CustomAllreduce(group=group, device=device)


def _sglang(group: Any, device: Any) -> Any:
    from sglang.srt.distributed.device_communicators.custom_all_reduce import (
        dispatch_custom_allreduce,
    )

    return dispatch_custom_allreduce(group=group, device=device)(group=group, device=device)


def _flashinfer(group: Any, device: Any) -> Any:
    from vllm.distributed.device_communicators.flashinfer_all_reduce import FlashInferAllReduce

    return FlashInferAllReduce(group=group, device=device)


def engines_choice(engine: str) -> Callable[[Key, Inputs], Collective]:
    """Return the all-reduce of vLLM or SGLang: its own kernel, and NCCL above its size limit."""

    def prepare(key: Key, inputs: Inputs) -> Collective:
        x, gpus = inputs["x"], key["gpus"]
        own = _communicator(engine, gpus)
        if own is None or not own.should_custom_ar(x):
            return torch_distributed(key, inputs)
        return Collective(x, x, own.custom_all_reduce, True, gpus, own.capture)

    return prepare


@cache
def _fused(gpus: int, rows: int, width: int) -> Any:
    """FlashInfer's communicator with a workspace for matrices of this shape."""
    import torch

    own = _communicator("flashinfer", gpus)

    def make() -> Any:
        shape = torch.empty(rows, width, dtype=torch.bfloat16, device=own.device)
        if not own.should_use_fi_ar(shape):
            raise RuntimeError("larger than the workspace that vLLM gives FlashInfer's all-reduce")
        return own

    return _agreed(gpus, make)


def flashinfer(key: Key, inputs: Inputs) -> Collective:
    """FlashInfer's fused all-reduce without norm, in the workspace that vLLM gives it."""
    x, gpus = inputs["x"], key["gpus"]
    width = _HIDDEN if x.numel() % _HIDDEN == 0 else x.numel()
    rows = x.view(-1, width)
    own = _fused(gpus, *rows.shape)
    return Collective(x, x, lambda _: own.all_reduce(rows).view(-1), own is not None, gpus)


@cache
def _symmetric(gpus: int, count: int) -> Any:
    """A buffer of ``count`` bf16 that all members reach, and whether NVSwitch can add in it."""
    import torch
    import torch.distributed._symmetric_memory as symmetric

    group = team.group(gpus, "nccl")

    def make() -> Any:
        device = torch.device("cuda", torch.cuda.current_device())
        buffer = symmetric.empty(count, dtype=torch.bfloat16, device=device)
        handle = symmetric.rendezvous(buffer, group.group_name)
        return buffer, bool(handle.multicast_ptr)

    return _agreed(gpus, make)


def symmetric_memory(key: Key, inputs: Inputs) -> Collective:
    """All-reduce in symmetric memory, copies in and out included, as vLLM's ``symm_mem``."""
    import torch

    x, gpus = inputs["x"], key["gpus"]
    group = team.group(gpus, "nccl")
    shared_by: tuple[Any, bool] = _symmetric(gpus, _LARGEST_SYMMETRIC // 2) or (None, False)
    buffer, switch = shared_by
    output = torch.empty_like(x)

    def reduce(tensor: Tensor) -> Tensor:
        shared = buffer[: tensor.numel()]
        shared.copy_(tensor)
        ops = torch.ops.symm_mem
        add = ops.multimem_all_reduce_ if switch else ops.two_shot_all_reduce_
        add(shared, "sum", group.group_name)
        output.copy_(shared)
        return output

    return Collective(x, x, reduce, _member(gpus), gpus, output=output)


_LARGEST_SYMMETRIC = 64 << 20  # bytes; vllm 0.24.0, all_reduce_utils.py, for sm 90


def _over(kind: str, *modules: str) -> Missing:
    """Ranks of torchrun, on devices of one kind, with these libraries."""
    absent = needs(*modules)

    def missing(device: Device) -> str:
        if device.kind != kind:
            return "it needs GPUs" if kind == "cuda" else "a stand-in where there is no GPU"
        if team.launched() == 1:
            return "it needs ranks: start aiconf with torchrun"
        if not team.group_sizes(device):
            return team.unfilled(device)
        return absent(device) if modules else ""

    return missing


def _any(_device: Device, key: Key) -> str:
    return "" if key["dtype"] != "bf16" else "16 bits move alike: fp16 stands for bf16"


def _own(most: int = 1 << 62, gpus: tuple[int, ...] = ()) -> Unsupported:
    """All-reduces in bf16 up to ``most`` bytes inside one node."""

    def unsupported(_device: Device, key: Key) -> str:
        if key["op"] != "all_reduce" or key["dtype"] != "bf16":
            return "all-reduces bf16 only"
        if key["gpus"] > team.per_node() or (gpus and key["gpus"] not in gpus):
            return "not for so many GPUs"
        return "" if key["bytes"] <= most else "too large for its buffer"

    return unsupported


# Group sizes of both engines' kernels (``_SUPPORTED_WORLD_SIZES``).
_CUSTOM = (2, 4, 6, 8)


def _custom(engine: str, graph: bool) -> Kernel:
    name = "custom_graph" if graph else "custom_eager"
    return Kernel(
        name, engine, _over("cuda", engine), _own(gpus=_CUSTOM), bounded(engines_choice(engine)),
        graph=graph, timer=timer,
    )  # fmt: skip


KERNELS = (
    Kernel("nccl", "nccl", _over("cuda"), _any, bounded(torch_distributed), timer=timer),
    Kernel("nccl_eager", "nccl", _over("cuda"), _any, bounded(torch_distributed), graph=False,
           timer=timer),
    _custom("vllm", True),
    _custom("vllm", False),
    _custom("sglang", True),
    _custom("sglang", False),
    Kernel("symm_mem", "torch", _over("cuda"), _own(_LARGEST_SYMMETRIC, _CUSTOM),
           bounded(symmetric_memory), timer=timer),
    Kernel("allreduce_fusion", "flashinfer", _over("cuda", "vllm", "flashinfer"),
           _own(gpus=_CUSTOM), bounded(flashinfer), timer=timer),
    Kernel("gloo", "gloo", _over("cpu"), _any, torch_distributed, graph=False, timer=timer),
)  # fmt: skip
