from dataclasses import replace

import numpy as np
import pytest

from aiconf.perf.block import (
    block_decode_seconds,
    block_kernel,
    block_origin,
    block_prefill_seconds,
)
from aiconf.perf.mixing import mixing_seconds
from aiconf.perf.origin import Origin
from aiconf.perf.sparse import Sparse
from aiconf.system import load_system

GPU = load_system("h200_sxm").gpu
CSA = Sparse("csa", 16, 1, 512, 128, 4, 1024, 64, 128, 7168, 60_000_000, "fp8_block", "fp8")
HCA = replace(CSA, kind="hca", ratio=128, topk=0, index_heads=0)
MSA = Sparse("msa", 16, 1, 128, 0, 1, 2048, 1, 128, 6144, 30_000_000, "bf16", "bf16")
ONE = np.array([1.0])
PLACES = [(s, b) for s in ("h200_sxm", "gb200", "b200_sxm") for b in ("vllm", "sglang")]


def seen(shape, past):
    """Entries that one query behind ``past`` tokens attends to, counted one by one."""
    length = past + 1
    rest = length // shape.ratio
    return min(length, shape.window) + (min(rest, shape.topk) if shape.topk else rest)


@pytest.mark.parametrize("shape", [CSA, HCA, MSA])
@pytest.mark.parametrize("past", [255, 4095, 65_535])
def test_decode_reads_window_and_chosen_entries(shape, past):
    """At the speed of light of memory alone, without the projections."""
    gpu = replace(GPU, flops=dict.fromkeys(GPU.flops, 1e30))
    time = shape.decode_light(gpu, False, ONE, ONE * past)[0]
    key = (2 * 128 if shape.kind == "msa" else 132) * (past + 1) / shape.ratio
    moved = seen(shape, past) * shape.entry_bytes + key * bool(shape.index_heads)
    assert time * gpu.memory_bandwidth == pytest.approx(moved, rel=0.01)


@pytest.mark.parametrize("shape", [CSA, HCA, MSA])
def test_operations_of_a_prompt_are_those_of_its_chunks(shape):
    gpu = replace(GPU, memory_bandwidth=1e30)
    whole = shape.chunk_light(gpu, ONE, 32768 * ONE, 0 * ONE)[0]
    parts = [shape.chunk_light(gpu, ONE, 8192 * ONE, p * ONE)[0] for p in range(0, 32768, 8192)]
    assert sum(parts) == pytest.approx(whole)


def test_operations_of_a_chosen_prompt_grow_with_its_length_once_it_is_long():
    gpu = replace(GPU, memory_bandwidth=1e30)
    free = replace(CSA, index_heads=0)
    short, long = (free.chunk_light(gpu, ONE, n * ONE, 0 * ONE)[0] for n in (2e5, 4e5))
    assert long / short == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(("system", "backend"), PLACES)
@pytest.mark.parametrize("shape", [CSA, HCA, MSA])
def test_embedded_tables_answer(embedded, system, backend, shape):
    tables = embedded(system, backend)
    kernel = block_kernel(tables, "decode", shape)
    assert kernel.surface is not None
    assert kernel.whole
    batch, past = np.meshgrid([1.0, 8, 64, 256], [128.0, 2048, 8192, 65536], indexing="ij")
    time = block_decode_seconds(tables, shape, batch.ravel(), past.ravel()).reshape(batch.shape)
    assert (np.diff(time, axis=0) >= 0).all()
    assert (np.diff(time, axis=1) >= -0.01 * time[:, 1:]).all()  # beyond a table it may dip
    chunks = block_prefill_seconds(tables, shape, ONE, 2048 * ONE, np.array([0, 1e3, 1e4, 1e5]))
    assert (np.diff(chunks) > 0).all()
    assert block_origin(tables, "decode", shape, ONE, 2048 * ONE)[0] == Origin.MEASURED


@pytest.mark.parametrize("system", ["gb200", "b200_sxm"])
def test_prompts_of_chosen_blocks_cost_more_the_longer_they_are_on_every_engine(embedded, system):
    """A block of a prompt of one token takes no milliseconds, whatever a table says."""
    tokens = np.array([1.0, 256, 1024, 4096, 16384])
    own, lent = (embedded(system, engine) for engine in ("vllm", "trtllm"))
    times = [block_prefill_seconds(t, MSA, np.ones(5), tokens, np.zeros(5)) for t in (own, lent)]
    assert times[1] == pytest.approx(times[0])
    assert times[1][0] < 1e-4
    assert (np.diff(times[1]) > 0).all()
    assert block_origin(lent, "prefill", MSA, ONE, 2048 * ONE)[0] == Origin.INTERPOLATED
    assert block_origin(own, "prefill", MSA, ONE, 2048 * ONE)[0] == Origin.MEASURED


def test_a_window_alone_is_read_as_heavily_compressed_and_says_so(embedded):
    tables = embedded("h200_sxm", "vllm")
    alone = replace(HCA, kind="swa", ratio=0)
    short = block_decode_seconds(tables, alone, ONE, 512 * ONE)
    assert short == pytest.approx(block_decode_seconds(tables, HCA, ONE, 512 * ONE), rel=0.05)
    assert block_origin(tables, "decode", alone, ONE, 512 * ONE)[0] == Origin.FALLBACK


def test_without_tables_it_is_the_speed_of_light(hand_made):
    tables = hand_made({})
    expected = CSA.decode_light(GPU, False, ONE, 4096 * ONE)
    assert block_decode_seconds(tables, CSA, ONE, 4096 * ONE) == pytest.approx(expected)
    time, origin = mixing_seconds(tables, 7168, 4, np.array([1024.0]))
    assert origin[0] == Origin.FALLBACK
    # All streams are read twice and written once, the block's own stream once each.
    moved = 2 * 1024 * 7168 * 2 * (3 * 4 + 2)
    assert time[0] * GPU.memory_bandwidth == pytest.approx(moved, rel=0.1)


def test_mixing_is_measured_for_both_blocks_of_a_layer(embedded):
    tables = embedded("h200_sxm", "vllm")
    time, origin = mixing_seconds(tables, 7168, 4, np.array([1.0, 1024.0, 8192.0]))
    assert (origin == Origin.MEASURED).all()
    assert time[1] == pytest.approx(0.0716e-3 + 0.0811e-3, rel=1e-3)  # post and pre, measured
    assert (np.diff(time) > 0).all()
