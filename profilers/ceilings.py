"""What a device reaches at best: one large copy and one large product, on random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_REPEATS = 7
# Sizes that fill a GPU, and that a CPU does in well under a second.
_COPIED = {"cuda": 1 << 32, "cpu": 1 << 27}  # bytes
_SHARE = 8  # of a GPU's free memory at most: source and target, and room
_SIDE = {"cuda": 8192, "cpu": 1024}  # of the three dimensions of the product


def ceilings(device: str) -> tuple[float, dict[str, float]]:
    """Return bytes/s of a copy (read and written both counted) and FLOP/s of a bf16 product."""
    import torch

    kind = device.partition(":")[0]
    generator = torch.Generator(device=device)
    generator.manual_seed(0)

    def normal(*shape: int) -> Tensor:
        drawn = torch.empty(shape, device=device, dtype=torch.bfloat16)
        return drawn.normal_(generator=generator)

    copied = _COPIED[kind]
    if kind == "cuda":
        copied = min(copied, int(torch.cuda.mem_get_info(device)[0]) // _SHARE)

    def copy() -> Callable[[], object]:
        source = normal(copied // 2)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def product() -> Callable[[], object]:
        a, b = normal(_SIDE[kind], _SIDE[kind]), normal(_SIDE[kind], _SIDE[kind])
        return lambda: torch.mm(a, b)

    bandwidth = 2.0 * copied / _typical(copy(), kind)
    return bandwidth, {"bf16": 2.0 * _SIDE[kind] ** 3 / _typical(product(), kind)}


def _typical(call: Callable[[], object], kind: str) -> float:
    """Median seconds of a call after two to warm up."""
    import torch

    taken = []
    for _ in range(_REPEATS + 2):
        if kind == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if kind == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[2:]))
