"""Products of float32, with and without tensor cores."""

import numpy as np
import pytest

from aiconf.perf.float32 import float32_seconds
from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.origin import Origin


def test_up_to_the_size_that_fills_the_gpu_the_time_is_that_of_one_block(embedded):
    found, origin = float32_seconds(embedded("b200_sxm", "vllm"), 256, 3072, [17, 64, 256], "simt")
    # MiniMax-M2.5 on B200 gained 17 to 20 us per layer over TF32, which takes about 5.
    assert found == pytest.approx([23e-6] * 3, rel=0.15)
    assert (origin == Origin.FALLBACK).all()


def test_a_prompt_is_bound_by_arithmetic(embedded):
    place = embedded("b200_sxm", "vllm")
    found, _ = float32_seconds(place, 256, 3072, [8192], "simt")
    light = 2 * 8192 * 256 * 3072 / place.system.gpu.flops["float32"]
    assert light < found[0] < 3 * light


def test_tensor_cores_are_faster_and_slower_than_bf16(embedded):
    place, rows = embedded("h200_sxm", "vllm"), np.array([32.0, 8192.0])
    simt, _ = float32_seconds(place, 256, 3072, rows, "simt")
    tf32, _ = float32_seconds(place, 256, 3072, rows, "tf32")
    bf16, _ = gemm_seconds(place, "bf16", 256, 3072, rows)
    assert (tf32 < simt).all()
    assert tf32[0] > 0.9 * bf16[0]  # within the table's noise where latency counts
    assert tf32[1] > 1.5 * bf16[1]
