import numpy as np
import pytest

from aiconf.perf.memory import memory_seconds
from aiconf.perf.origin import Origin
from aiconf.system import load_system

BYTES = np.array([1e2, 1e5, 1e7, 1e10])


def test_without_tables_bytes_move_at_the_memory_bandwidth(hand_made):
    time, origin = memory_seconds(hand_made({}), BYTES)
    assert time == pytest.approx(BYTES / load_system("h200_sxm").gpu.memory_bandwidth)
    assert (origin == Origin.FALLBACK).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", ["h200_sxm", "gb200", "b300_sxm"])
def test_embedded_kernels_have_a_floor_and_never_fall(embedded, system, backend):
    tables = embedded(system, backend)
    time, origin = memory_seconds(tables, BYTES)
    assert (time > 0).all()
    assert (np.diff(time) >= 0).all()
    assert Origin.MEASURED not in origin  # another kernel stands in, so never "measured"
    light = BYTES / tables.system.gpu.memory_bandwidth
    assert (time[2:] > 0.8 * light[2:]).all()
