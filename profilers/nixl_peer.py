"""Two ends of NIXL transfers: memory that is registered, and the process that holds the far end.

Both ends hold a pool of two halves: the first is filled with the same seeded bytes on both, the
second takes what arrives. So an end can tell from its own memory what it must have received, and
the far end stays passive: NIXL reads and writes its memory without it.

    python -m profilers.nixl_peer dram|vram GPU BYTES

allocates a pool, prints one line with what the other end needs, and lives as long as its input.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MARK = "nixl-pool "  # begins the line that is meant; libraries may print others
PLUGIN = "UCX"
_SEED = 0
_TYPES = {"dram": "DRAM", "vram": "VRAM"}  # nixl 1.5.1, nixl_agent.nixl_mems
READY_SECONDS = 120.0  # to import torch, open the GPU and load UCX


@dataclass(frozen=True)
class Pool:
    """Registered memory of one agent: ``bytes`` in two halves. memory: dram or vram."""

    agent: Any
    memory: str
    gpu: int
    data: Tensor  # uint8, flat

    @classmethod
    def of(cls, agent: Any, memory: str, gpu: int, size: int) -> Pool:
        """Allocate, fill the first half with seeded bytes, and register."""
        import torch

        half = np.random.default_rng(_SEED).integers(0, 256, size // 2, dtype=np.uint8)
        device = f"cuda:{gpu}" if memory == "vram" else "cpu"
        data = torch.zeros(size, dtype=torch.uint8, device=device)
        data[: size // 2].copy_(torch.from_numpy(half))
        settle(data)
        pool = cls(agent, memory, gpu if memory == "vram" else 0, data)
        place = (pool.address, size, pool.gpu, "")
        agent.register_memory([place], _TYPES[memory], backends=[PLUGIN])
        return pool

    @cached_property
    def address(self) -> int:
        """Of the first byte."""
        return int(self.data.data_ptr())

    def facts(self) -> dict[str, Any]:
        """What the other end needs to reach it."""
        return {
            "metadata": base64.b64encode(self.agent.get_agent_metadata()).decode(),
            "memory": self.memory, "gpu": self.gpu, "address": self.address,
            "bytes": self.data.numel(),
        }  # fmt: skip


def settle(data: Tensor) -> None:
    """Wait until what was queued on a GPU's memory is done: NIXL does not wait for streams."""
    if data.is_cuda:
        import torch

        torch.cuda.synchronize(data.device)


def blocks(agent: Any, name: str, facts: dict[str, Any], half: int, block_bytes: int) -> Any:
    """Prepare all blocks of one half of a pool; ``name``: of the far agent, "" for one's own."""
    size = facts["bytes"] // 2
    count = size // block_bytes
    start = facts["address"] + half * size + np.arange(count, dtype=np.uint64) * block_bytes
    table = np.stack([start, np.full(count, block_bytes), np.full(count, facts["gpu"])], axis=1)
    return agent.prep_xfer_dlist(
        name or "NIXL_INIT_AGENT", table.astype(np.uint64), _TYPES[facts["memory"]], [PLUGIN]
    )


def agent_named(name: str) -> Any:
    """Return a NIXL agent with UCX, whose own thread makes progress."""
    os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")
    from nixl._api import nixl_agent, nixl_agent_config

    return nixl_agent(name, nixl_agent_config(backends=[PLUGIN]))


@dataclass
class Peer:
    """A process that holds a pool."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]

    @classmethod
    def start(cls, memory: str, gpu: int, size: int) -> Peer:
        """Start it and wait for its pool; ``RuntimeError`` with its last line where it fails."""
        process = subprocess.Popen(
            [sys.executable, "-m", "profilers.nixl_peer", memory, str(gpu), str(size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,  # Ctrl-C is for the one that measures; it ends this one
        )  # fmt: skip
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            if line.startswith(MARK):
                return cls(process, json.loads(line.removeprefix(MARK)))
            said = line.strip() or said
        process.wait()
        raise RuntimeError(f"the far end of the transfer did not start: {said}")

    def end(self) -> None:
        """Close its input, which ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(memory: str, gpu: str, size: str) -> None:
    """Hold a pool until the input ends."""
    agent = agent_named(f"pool-{os.getpid()}")
    pool = Pool.of(agent, memory, int(gpu), int(size))
    sys.stdout.write(f"{MARK}{json.dumps(pool.facts())}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
