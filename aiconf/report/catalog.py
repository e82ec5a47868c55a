"""Lists of what is known: models and GPU systems, with their figures."""

from __future__ import annotations

from typing import Any

from aiconf.model.cache import kv_bytes_per_token, state_bytes
from aiconf.model.library import checkpoints, model_names
from aiconf.model.memory import (
    active_parameters,
    checkpoint_bytes,
    parameters,
)
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.report.table import Column
from aiconf.system.catalog import load_system, system_names
from aiconf.units import GIB

MODELS = (
    Column("name", "name"), Column("checkpoint", "checkpoint"), Column("weights", "weights"),
    Column("kv_dtype", "KV"), Column("parameters_billion", "params B", 1),
    Column("active_billion", "active B", 1), Column("layers", "layers", 0),
    Column("attention", "attention"), Column("experts", "experts", 0),
    Column("max_context", "context", 0), Column("size_gb", "GB", 1),
    Column("kv_kb_per_token", "KV kB/token", 1), Column("state_mb", "state MB", 1),
)  # fmt: skip
SYSTEMS = (
    Column("name", "name"), Column("gpu", "GPU"), Column("memory_gib", "GiB", 1),
    Column("memory_tb_per_s", "TB/s", 2), Column("bf16_tflops", "bf16 TFLOP/s", 0),
    Column("fp8_tflops", "fp8", 0), Column("fp4_tflops", "fp4", 0),
    Column("gpus_per_node", "GPUs/node", 0), Column("nvlink_domain", "NVLink domain", 0),
    Column("nvlink_gb_per_s", "NVLink GB/s", 0), Column("network_gb_per_s", "network GB/s", 0),
    Column("usd_per_hour", "$/h", 2), Column("engines", "measured engines"),
)  # fmt: skip


def model_records() -> list[dict[str, Any]]:
    """Every embedded checkpoint, by family; GB are 10^9 bytes, kB 10^3 bytes on one GPU.

    state_mb: what linear attention keeps per sequence, in 10^6 bytes; None without such layers.
    """
    return [_model(name, spec) for name in model_names() for spec in checkpoints(name)]


def _model(family: str, spec: ModelSpec) -> dict[str, Any]:
    kinds = dict.fromkeys(group.attention.kind for group in spec.layers if group.attention)
    windowed = any(attention.window for attention, _ in spec.softmax)
    experts = max((getattr(group.ffn, "experts", 0) for group in spec.layers), default=0)
    return {
        "name": family,
        "checkpoint": spec.checkpoint,
        "weights": spec.precision,
        "kv_dtype": spec.quantization.kv,
        "parameters_billion": parameters(spec) / 1e9,
        "active_billion": active_parameters(spec) / 1e9,
        "layers": spec.layer_count,
        "attention": "+".join(kinds) + (" windowed" if windowed else ""),
        "experts": experts or None,
        "max_context": spec.max_context,
        "size_gb": checkpoint_bytes(spec) / 1e9,
        "kv_kb_per_token": kv_bytes_per_token(spec, Parallel()) / 1e3,
        "state_mb": state_bytes(spec, Parallel()) / 1e6 or None,
    }


def system_records(measured: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    """Every GPU system; bandwidths are one direction of one GPU.

    ``measured``: engine version of the tables by (system, backend).
    """
    return [_system(name, measured) for name in system_names()]


def _system(name: str, measured: dict[tuple[str, str], str]) -> dict[str, Any]:
    system = load_system(name)
    gpu = system.gpu
    rates = {f"{kind}_tflops": gpu.flops.get(kind, 0.0) / 1e12 or None for kind in _RATES}
    engines = [f"{backend} {v}" for (owner, backend), v in measured.items() if owner == name]
    return {
        "name": name,
        "gpu": gpu.name,
        "memory_gib": gpu.memory_bytes / GIB,
        "memory_tb_per_s": gpu.memory_bandwidth / 1e12,
        **rates,
        "gpus_per_node": system.gpus_per_node,
        "nvlink_domain": system.nvlink_domain,
        "nvlink_gb_per_s": system.nvlink_bandwidth / 1e9,
        "network_gb_per_s": system.network_bandwidth / 1e9,
        "usd_per_hour": gpu.cost_usd_per_hour,
        "engines": ", ".join(engines),
    }


_RATES = ("bf16", "fp8", "fp4")
