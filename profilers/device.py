"""The machine that is measured: what it is, which system of ``systems/`` it is, its peaks."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiconf.errors import UserError, nearest
from aiconf.system.catalog import load_system, system_names
from aiconf.system.spec import System
from profilers.watch import require_idle


@dataclass(frozen=True)
class Device:
    """One GPU, or the CPU for tests and dry runs.

    memory_bytes: what can be used, so what is free where the device is at hand.
    datasheet: ``flops`` and ``bandwidth`` are peaks of ``systems/*.yaml``, which no kernel can
    beat; else they were measured here and serve for estimates only.
    here: whether it is in this machine; a plan may be for another.
    """

    kind: str  # cuda or cpu
    name: str  # as the driver says it
    system: str  # folder of the tables
    sm: int  # compute capability x 10; 0: no CUDA device
    memory_bytes: float
    cache_bytes: float  # last-level cache; 0: not known
    flops: Mapping[str, float]  # FLOP/s by precision
    bandwidth: float  # bytes/s
    datasheet: bool
    index: int = 0
    uuid: str = ""
    host_bandwidth: float = 0.0  # bytes/s, one direction; 0: not known
    nvlink_bandwidth: float = 0.0
    network_bandwidth: float = 0.0
    gpus_per_node: int = 0  # 0: not known
    nvlink_domain: int = 0
    here: bool = True

    @property
    def torch(self) -> str:
        """As torch spells it."""
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


def planned(system: str) -> Device:
    """Return a device of a known system, as plans need it on a machine that has none."""
    return of_system(load_system(system))


def of_system(system: System) -> Device:
    """Return a device of ``system`` that is not at hand."""
    return _of_system(system, system.device_name or system.name, here=False)


def _of_system(system: System, name: str, **seen: object) -> Device:
    gpu = system.gpu
    facts = {
        "kind": "cuda", "name": name, "system": system.name, "sm": gpu.sm,
        "memory_bytes": gpu.memory_bytes, "cache_bytes": 0.0, "flops": gpu.flops,
        "bandwidth": gpu.memory_bandwidth, "datasheet": True,
        "host_bandwidth": system.host_bandwidth, "nvlink_bandwidth": system.nvlink_bandwidth,
        "network_bandwidth": system.network_bandwidth, "gpus_per_node": system.gpus_per_node,
        "nvlink_domain": system.nvlink_domain,
    }  # fmt: skip
    return Device(**(facts | seen))  # type: ignore[arg-type]


def detect(kind: str, system: str = "", index: int = 0, *, idle: bool = False) -> Device:
    """Return the device of this machine.

    kind: ``cuda`` or ``cpu``. system: what the GPU is meant to be; a file where none is known.
    idle: refuse a GPU that others use.
    Peaks of a device that no system describes are measured, which takes a second.

    Raises
    ------
    UserError
        torch is missing, there is no GPU, it is busy, or ``system`` is another than the one found.
    """
    if kind == "cpu":
        return _cpu(system)
    torch = require_torch()
    if not torch.cuda.is_available():
        raise UserError(
            "no GPU: torch sees no CUDA device here; plan with --system NAME, "
            "or rehearse with --device cpu"
        )
    seen = torch.cuda.get_device_properties(index)
    found = system_of(seen.name, system)
    uuid = f"GPU-{str(getattr(seen, 'uuid', '')).removeprefix('GPU-')}"
    if idle:  # before this process has a context: in a container it shows under another number
        require_idle(uuid, index)
    facts = {
        "sm": 10 * seen.major + seen.minor,
        "memory_bytes": float(torch.cuda.mem_get_info(index)[0]),
        "cache_bytes": float(getattr(seen, "L2_cache_size", 0)),
        "index": index,
        "uuid": uuid,
    }
    if found:
        if found.gpu.sm != facts["sm"]:
            raise UserError(
                f"this GPU is a {seen.name} of sm {facts['sm']}; {found.name} has {found.gpu.sm}"
            )
        return _of_system(found, seen.name, **facts)
    from profilers.ceilings import ceilings

    bandwidth, flops = ceilings(f"cuda:{index}")
    return Device(
        kind="cuda", name=seen.name, system=_folded(seen.name), flops=flops, bandwidth=bandwidth,
        datasheet=False, gpus_per_node=torch.cuda.device_count(), **facts,
    )  # fmt: skip


def _cpu(system: str) -> Device:
    from profilers.ceilings import ceilings

    if system not in ("", "cpu"):
        raise UserError(f"--device cpu writes tables of the system cpu, not of {system}")
    require_torch()
    bandwidth, flops = ceilings("cpu")
    name = platform.processor() or platform.machine()
    return Device("cpu", name, "cpu", 0, _host_memory(), 0.0, flops, bandwidth, datasheet=False)


def _host_memory() -> float:
    """Bytes of memory of this machine; a GiB where the system does not say."""
    import os

    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float(1 << 30)


def system_of(name: str, asked: str = "") -> System | None:
    """Return the system whose GPU the driver calls ``name``; None: no file describes it.

    Names must be the same to the letter: an H100 NVL or PCIe is no H100 SXM, whose peaks would
    refuse good points and let bad ones pass. asked: the system that the user says it is, which
    may be a file of their own; one without a ``device_name`` is taken at its word.

    Raises
    ------
    UserError
        The GPU is another than ``asked``.
    """
    every = [load_system(each) for each in system_names()]
    known = next((system for system in every if system.device_name == name), None)
    if not asked:
        return known
    wanted = load_system(asked)
    if wanted.device_name == name or (not known and not wanted.device_name):
        return wanted
    if known:
        raise UserError(f"this GPU is a {name} ({known.name}), not {wanted.name}")
    raise UserError(
        f"this GPU is a {name}, not the {wanted.device_name} of {wanted.name}: {described(name)}"
    )


def described(name: str) -> str:
    """What to do about a GPU that no system describes, with the system that is nearest."""
    every = {each.device_name: each.name for each in map(load_system, system_names())}
    alike = [one for one in every if {*one.split()[1:2]} & {*name.split()}]  # H100 as in H100 NVL
    near = nearest(name, alike or every, limit=1)
    start = f"take systems/{every[near[0]]}.yaml ({near[0]}) as a pattern and " if near else ""
    return f"{start}describe it in a file with this device_name, then --system FILE.yaml"


def _folded(name: str) -> str:
    """A folder name for a GPU that no system describes."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def require_torch() -> Any:
    """Import torch; ``UserError`` that says how to get it where it is missing."""
    try:
        import torch
    except ImportError:
        raise UserError(
            "profiling needs PyTorch: pip install 'aiconf[profile]', or use the engine's container"
        ) from None
    return torch
