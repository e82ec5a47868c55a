"""Speed of light: the shortest time the datasheet peaks of a GPU allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.system.spec import Gpu

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """How a precision stores weights and activations, and which tensor-core rate it runs at.

    Bytes per element follow from the formats: 8-bit floats 1; nvfp4 is 4 bits and one 8-bit
    scale per 16 (0.5625); mxfp4 4 bits and one 8-bit scale per 32; int4 4 bits and one bf16
    scale per 128; fp8_block one float32 scale per 128 x 128.
    """

    weight_bytes: float
    activation_bytes: float
    rate: str


FORMATS: dict[str, Format] = {
    "bf16": Format(2.0, 2.0, "bf16"),
    "fp8": Format(1.0, 1.0, "fp8"),
    "fp8_block": Format(1.0 + 4 / (128 * 128), 1.0 + 4 / 128, "fp8"),
    "int8": Format(1.0, 1.0, "int8"),
    "int4": Format(0.5 + 2 / 128, 2.0, "bf16"),
    "nvfp4": Format(0.5 + 1 / 16, 0.5 + 1 / 16, "fp4"),
    "mxfp4": Format(0.5 + 1 / 32, 2.0, "bf16"),
    "mxfp4_fp8": Format(0.5 + 1 / 32, 1.0 + 1 / 32, "fp8"),
}
CACHE_BYTES = {"bf16": 2.0, "fp8": 1.0}  # of one KV element


def peak(gpu: Gpu, rate: str) -> float:
    """FLOP/s of ``rate``, or of the next wider precision where the GPU lacks it."""
    wider = {"fp4": "fp8", "fp8": "bf16", "int8": "bf16"}
    while rate not in gpu.flops:
        rate = wider[rate]
    return gpu.flops[rate]


def roofline(gpu: Gpu, rate: str, flops: Array, moved: Array) -> Array:
    """Seconds for ``flops`` operations and ``moved`` bytes (Williams et al. 2009, roofline)."""
    return np.maximum(flops / peak(gpu, rate), moved / gpu.memory_bandwidth)
