"""KV blocks moved between memories with NIXL, as engines move them from prefill to decode.

Blocks lie scattered in a pool on both sides, one descriptor each, as engines describe them: one
block of one layer, K and V apart or together (vllm 0.24.0, nixl/base_worker.py: descriptors of
``block_len`` bytes prepared once, ``make_prepped_xfer`` with the indices of a request, then
``transfer``). The time is from ``make_prepped_xfer`` to the state DONE, by the clock of the host
that asks. The far end is another process of this machine, or the last rank of a torchrun that
spans nodes.
"""

from __future__ import annotations

import atexit
import base64
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from profilers import team
from profilers.availability import needs
from profilers.nixl_peer import Peer, Pool, agent_named, blocks, settle
from profilers.operator import Inputs, Kernel, Key, Line, Operator, Work
from profilers.timing import Method, Samples, host_seconds

if TYPE_CHECKING:
    from profilers.device import Device
    from profilers.source import Source

# Bytes of one descriptor: tokens of a block x KV heads on a GPU x head size x bytes of a number.
_BLOCK_BYTES = (
    16 * 8 * 128 * 2,  # K of 8 heads in bf16
    64 * 576 * 2,  # latent and rotary part of MLA in bf16
    16 * 1 * 128 * 2,  # K of one head: 8 KV heads over 8 GPUs
    64 * 2 * 8 * 128 * 2,  # K and V of 8 heads, pages of 64
    16 * 1 * 128 * 1,  # K of one head in fp8
    32 * 16 * 2 * 8 * 128 * 2,  # 32 layers that lie in one block
)
_QUICK = 3  # of them
_BLOCKS = tuple(1 << power for power in range(15))
_RAILS = 2  # what NIXL sets where the environment does not (nixl 1.5.1, UCX plugin: MAX_RMA_RAILS)
_POOL = {"cuda": 4 << 30, "cpu": 256 << 20}  # bytes of each end, half of them readable


def lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Reads and writes between GPUs and hosts, on one node and between two."""
    sizes = _BLOCK_BYTES[:_QUICK] if quick else _BLOCK_BYTES
    memories = [("dram", "dram")]
    if device.kind == "cuda":
        memories = [("vram", "vram"), ("vram", "dram"), ("dram", "vram")]
    across = team.launched() > team.per_node()
    paths = ("network",) if across else ("node", "local") if device.kind == "cuda" else ("local",)
    return tuple(
        Line(
            {"op": op, "from": start, "to": end, "path": path, "block_bytes": size},
            tuple(count for count in _BLOCKS if count * size <= _POOL[device.kind] // 4),
        )
        for size in sizes
        for path in paths
        for start, end in memories
        for op in ("read", "write")
    )


def _unsupported(_device: Device, key: Key) -> str:
    """Two GPUs are needed for a path between two; torch is loaded where anything will run."""
    if key["path"] == "node" and "torch" in sys.modules:
        import torch

        if torch.cuda.device_count() < 2:
            return "there is one GPU"
    return ""


def _missing(device: Device) -> str:
    if team.launched() > 1 and team.launched() == team.per_node():
        return "on one node it starts its own second process: run it without torchrun"
    absent = needs("nixl")(device)
    return "" if absent == "it needs a GPU" else absent


def work(key: Key) -> Work:
    """Every byte is read once and written once."""
    moved = float(key["blocks"] * key["block_bytes"])
    return Work("", 0.0, moved, moved)


def least(device: Device, key: Key) -> float:
    """Least seconds over the link between the two ends, by the datasheet; 0: none is known.

    A GPU's way to the host is no bound: ``systems/`` states what a copy reached there.
    """
    gpus = key["from"] == key["to"] == "vram"
    rate = 0.0
    if key["path"] == "node" and gpus:
        rate = device.nvlink_bandwidth
    elif key["path"] == "network":
        rate = device.network_bandwidth * rails()
        if gpus and device.nvlink_domain > device.gpus_per_node:  # a rack may go over NVLink
            rate = max(rate, device.nvlink_bandwidth)
    return float(key["blocks"] * key["block_bytes"] / rate) if rate else 0.0


def rails() -> int:
    """Network cards that UCX may spread one transfer over."""
    told = os.environ.get("UCX_MAX_RMA_RAILS", "")
    return int(told) if told.isdigit() and int(told) else _RAILS


def draw(key: Key, source: Source) -> Inputs:
    """Which blocks of the halves move: scattered, each at most once."""
    count = _POOL[source.device.partition(":")[0]] // 2 // key["block_bytes"]
    generator = np.random.default_rng(source.generator.initial_seed())
    start, end = (generator.permutation(count)[: key["blocks"]] for _ in range(2))
    return {"from": start.astype(np.int32), "to": end.astype(np.int32)}


@dataclass(frozen=True)
class Link:
    """One agent's own pool and the pool of the far one. name: the far agent's."""

    agent: Any
    pool: Pool
    far: dict[str, Any]
    name: str

    def sides(self, op: str, block_bytes: int) -> tuple[Any, Any]:
        """Prepared blocks (own, far): readable half on the side that sends."""
        return _sides(self, op, block_bytes)

    def move(self, op: str, sides: tuple[Any, Any], own: Any, far: Any) -> None:
        """Move blocks and wait until they are there; ``RuntimeError`` where NIXL fails."""
        handle = self.agent.make_prepped_xfer(op.upper(), sides[0], own, sides[1], far)
        state = self.agent.transfer(handle)
        while state == "PROC":
            state = self.agent.check_xfer_state(handle)
        self.agent.release_xfer_handle(handle)
        if state != "DONE":
            raise RuntimeError(f"NIXL ended a transfer in the state {state}")

    def __hash__(self) -> int:
        return id(self)


@cache
def _sides(link: Link, op: str, block_bytes: int) -> tuple[Any, Any]:
    own, far = (1, 0) if op == "read" else (0, 1)
    return (
        blocks(link.agent, "", link.pool.facts(), own, block_bytes),
        blocks(link.agent, link.name, link.far, far, block_bytes),
    )


@cache
def _agent() -> Any:
    return agent_named(f"asks-{team.local_rank()}-{time.time_ns()}")


@cache
def _pool(memory: str, gpu: int, size: int) -> Pool:
    return Pool.of(_agent(), memory, gpu, size)


@cache
def _peer(memory: str, gpu: int, size: int) -> Peer:
    peer = Peer.start(memory, gpu, size)
    atexit.register(peer.end)
    return peer


@cache
def _link(path: str, own: str, far: str, gpu: int, size: int) -> Link | None:
    """The two ends; None on a rank that only holds one, or none."""
    if path != "network":
        facts = _peer(far, gpu + (path == "node"), size).facts
    else:
        ranks = team.ranks()
        last = ranks.rank == ranks.size - 1
        facts = ranks.gather(_pool(far, gpu, size).facts() if last else None)[-1]
        if ranks.rank:
            return None
    pool = _pool(own, gpu, size)
    name = _agent().add_remote_agent(base64.b64decode(facts["metadata"]))
    return Link(_agent(), pool, facts, name.decode() if isinstance(name, bytes) else name)


@dataclass(frozen=True)
class Transfer:
    """One transfer of a key; its output is itself, which the check looks into."""

    key: Key
    link: Link | None
    own: Any
    far: Any

    def __call__(self) -> Any:
        """Move the blocks once."""
        if self.link:
            op = self.key["op"]
            sides = self.link.sides(op, self.key["block_bytes"])
            self.link.move(op, sides, self.own, self.far)
        return self

    def spoil(self) -> None:
        """Overwrite where the blocks arrive."""
        if self.link and self.key["op"] == "read":
            _clear(self.link.pool)
        elif self.link:
            sides = self.link.sides("write", self.key["block_bytes"])
            self.link.move("write", sides, np.roll(self.own, 1), self.far)

    def wrong(self) -> float:
        """Share of the bytes that did not arrive, after reading them back where they were sent."""
        if self.link is None:
            return 0.0
        size, pool = self.key["block_bytes"], self.link.pool
        if self.key["op"] == "read":
            arrived, sent = self.own, self.far
        else:
            arrived, sent = self.own, self.own
            _clear(pool)
            back = (
                blocks(self.link.agent, "", pool.facts(), 1, size),
                blocks(self.link.agent, self.link.name, self.link.far, 1, size),
            )
            self.link.move("read", back, arrived, self.far)
        got, wanted = (_blocks(pool, half, size)[index]
                       for half, index in ((1, arrived), (0, sent)))  # fmt: skip
        return float((got != wanted).double().mean())


def _half(pool: Pool, half: int) -> Any:
    size = pool.data.numel() // 2
    return pool.data[half * size : (half + 1) * size]


def _clear(pool: Pool) -> None:
    _half(pool, 1).fill_(0)
    settle(pool.data)


def _blocks(pool: Pool, half: int, size: int) -> Any:
    flat = _half(pool, half)
    return flat[: len(flat) // size * size].view(-1, size)


def prepare(key: Key, inputs: Inputs) -> Any:
    """Both ends registered and described, as an engine does at its start."""
    import torch

    kind = "cuda" if "vram" in (key["from"], key["to"]) else "cpu"
    gpu = torch.cuda.current_device() if kind == "cuda" else 0
    reads = key["op"] == "read"
    own, far = (key["to"], key["from"]) if reads else (key["from"], key["to"])
    link = _link(key["path"], own, far, gpu, _POOL[kind])
    order = ("to", "from") if reads else ("from", "to")
    return Transfer(key, link, inputs[order[0]], inputs[order[1]])


def error(_key: Key, _inputs: Inputs, output: Any) -> float:
    """Share of the bytes that are not what was sent, on all ranks."""
    wrong = output.wrong()
    return float(team.ranks().share(wrong)) if team.launched() > 1 else float(wrong)


def timer(calls: Sequence[Any], _graph: bool, method: Method) -> Samples:
    """Time transfers by the clock of the host that asks; the others hear what it measured."""
    taken: list[float] = []
    begin = end = time.monotonic()
    if calls[0].link:
        taken = host_seconds(calls, method)
        end = time.monotonic()
        calls[0].spoil()
        calls[0]()
    if team.launched() > 1:
        taken = team.ranks().share(taken)
    return Samples(np.array(taken), calls[0], (begin, end))


OPERATORS = (
    Operator(
        "nixl", "transfer", "blocks", lines, work, draw, error, lambda _key: 0.0,
        (Kernel("UCX", "nixl", _missing, _unsupported, prepare, graph=False, timer=timer),),
        least=least,
    ),
)  # fmt: skip
