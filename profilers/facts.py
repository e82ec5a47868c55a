"""What a session measured with: device, driver, libraries, commit, date. Stored with its rows."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiconf import __version__
from profilers.device import Device
from profilers.timing import Method

# Whose versions decide what a kernel is; those that are installed are stored.
LIBRARIES = (
    "torch", "triton", "vllm", "sglang", "sglang-kernel", "sgl-kernel", "flashinfer-python",
    "tensorrt-llm", "deep-gemm", "flash-attn", "nvidia-cublas", "nvidia-nccl-cu13",
    "nvidia-nccl-cu12", "nixl",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the installed ones of ``LIBRARIES``."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Git commit of this checkout, with ``-dirty`` where it was changed; "" for a wheel."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty"],
            cwd=root, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def session(device: Device, method: Method, seed: int, driver: dict[str, str]) -> dict[str, Any]:
    """Everything about this session that a reader of the tables may ask for."""
    import torch

    from profilers.ceilings import ceilings

    reached = (device.bandwidth, dict(device.flops))
    if device.datasheet:
        reached = ceilings(device.torch)

    return {
        "device": asdict(device) | {"flops": dict(device.flops)},
        "ceilings": {"bytes_per_s": reached[0], "flops": reached[1]},  # seen here, not peaks
        "driver": driver,
        "cuda": torch.version.cuda or "",
        "libraries": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "aiconf": __version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "method": asdict(method),
    }
