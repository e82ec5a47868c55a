"""What a GPU system is: figures of one GPU and of the links that join them (SI base units)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU. Rates are dense datasheet peaks; what kernels achieve is in perf_db."""

    name: str
    sm: int  # compute capability x 10: 90 Hopper, 100 Blackwell, 103 Blackwell Ultra
    memory_bytes: float  # as the driver reports it, not the marketing figure
    memory_bandwidth: float  # byte/s
    flops: Mapping[str, float]  # FLOP/s by precision: bf16, fp8, int8, fp4, float32
    multiprocessors: int
    power_watt: float
    cost_usd_per_hour: float


@dataclass(frozen=True)
class System:
    """A kind of cluster: GPUs, nodes, and the NVLink domain that may span nodes (NVL72)."""

    name: str
    gpu: Gpu
    gpus_per_node: int
    nvlink_domain: int  # GPUs that reach each other over NVLink: 8 on HGX, 72 on NVL72
    nvlink_bandwidth: float  # byte/s per GPU, one direction
    nvlink_latency: float  # s, one message between two GPUs of the domain
    network_bandwidth: float  # byte/s per GPU, one direction, outside the NVLink domain
    network_latency: float  # s
    host_bandwidth: float  # byte/s per GPU, one direction, GPU to host memory (PCIe or C2C)
    reserved_bytes: float  # per GPU: CUDA context, NCCL and allocator, outside any engine's budget
    sources: Mapping[str, str]  # figure -> where it was read
    nvlink_twin: str = ""  # system with the same NVLink whose communication tables fill gaps
    device_name: str = ""  # what the driver calls the GPU; "": not known
    cpu: str = ""  # generation of the host's processors; "": not known
