from dataclasses import replace

import numpy as np
import pytest

from aiconf.perf.absorb import mla_absorb_seconds
from aiconf.perf.block import (
    block_decode_seconds,
    block_kernel,
    block_origin,
    block_prefill_seconds,
)
from aiconf.perf.latent import Latent
from aiconf.perf.origin import Origin
from aiconf.system import load_system

SHAPE = Latent(16, 512, 128, 64, 128, 180_000_000, "fp8_block", "bf16")
PLACES = [(s, b) for s in ("h200_sxm", "gb200") for b in ("vllm", "sglang", "trtllm")]


def test_without_tables_it_is_the_speed_of_light_and_says_so(hand_made):
    tables = hand_made({})
    batch, past = np.array([8.0]), np.array([4096.0])
    expected = SHAPE.decode_light(load_system("h200_sxm").gpu, False, batch, past)
    assert block_decode_seconds(tables, SHAPE, batch, past) == pytest.approx(expected)
    assert block_origin(tables, "decode", SHAPE, batch, past)[0] == Origin.FALLBACK
    assert mla_absorb_seconds(tables, SHAPE, batch)[0] > 0


def test_decode_reads_the_latent_once_for_all_heads():
    gpu = load_system("h200_sxm").gpu
    few = Latent(2, 512, 128, 64, 128, 1, "bf16", "bf16")
    batch, past = np.array([1.0]), np.array([99_999.0])
    seconds = few.decode_light(gpu, False, batch, past)[0]
    assert seconds * gpu.memory_bandwidth == pytest.approx(1e5 * (512 + 64) * 2)


@pytest.mark.parametrize(("system", "backend"), PLACES)
@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8"])
def test_embedded_decode_never_falls(embedded, system, backend, kv_dtype):
    tables = embedded(system, backend)
    shape = Latent(16, 512, 128, 64, 128, 180_000_000, "fp8_block", kv_dtype)
    assert block_kernel(tables, "decode", shape).surface is not None
    batch, past = np.meshgrid(2.0 ** np.arange(0, 10), 2.0 ** np.arange(5, 17), indexing="ij")
    time = block_decode_seconds(tables, shape, batch.ravel(), past.ravel()).reshape(batch.shape)
    assert np.isfinite(time).all()
    assert (time > 0).all()
    assert (np.diff(time, axis=0) >= -1e-12).all()
    assert (np.diff(time, axis=1) >= -1e-12).all()


@pytest.mark.parametrize(("system", "backend"), PLACES)
def test_embedded_prefill_grows_with_the_prompts_and_their_past(embedded, system, backend):
    tables = embedded(system, backend)
    one = np.ones(4)
    by_past = block_prefill_seconds(tables, SHAPE, one, 2048 * one, [0, 1024, 8192, 65536])
    assert (np.diff(by_past) > 0).all()
    by_count = block_prefill_seconds(tables, SHAPE, [1, 2, 4, 8], 2048 * one, 0 * one)
    assert (np.diff(by_count) > 0).all()
    assert block_origin(tables, "prefill", SHAPE, one, 2048 * one)[0] in set(Origin)


SPARSE = Latent(
    16, 512, 128, 64, 128, 180_000_000, "fp8_block", "bf16", 7168, index_heads=64, index_dim=128,
    index_topk=2048,
)  # fmt: skip


def test_sparse_decode_sees_topk_tokens_and_indexes_all():
    gpu = load_system("h200_sxm").gpu
    one = np.array([1.0])
    near, far = (SPARSE.decode_light(gpu, False, one, p * one)[0] for p in (2047.0, 200_000.0))
    dense = replace(SPARSE, index_topk=0, index_heads=0)
    assert near == pytest.approx(
        dense.decode_light(gpu, False, one, 2047.0 * one)[0] + 2048 * 132 / gpu.memory_bandwidth
    )
    index = (200_001 - 2048) * (128 + 4) / gpu.memory_bandwidth
    assert far - near == pytest.approx(index, rel=1e-6)
    shared = replace(SPARSE, index_heads=0)  # another layer chose
    assert shared.decode_light(gpu, False, one, 9e5 * one) == pytest.approx(
        shared.decode_light(gpu, False, one, 2048.0 * one)
    )


def test_sparse_chunks_sum_to_the_whole_prompt():
    gpu = load_system("h200_sxm").gpu
    one = np.array([1.0])
    heavy = replace(SPARSE, heads=128)  # bound by arithmetic, so that chunks add up
    whole = heavy.chunk_light(gpu, one, 32768 * one, 0 * one)[0]
    parts = [heavy.chunk_light(gpu, one, 8192 * one, p * one)[0] for p in range(0, 32768, 8192)]
    assert sum(parts) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("system", "backend"), PLACES)
def test_embedded_sparse_blocks_are_whole_and_never_fall(embedded, system, backend):
    tables = embedded(system, backend)
    kernel = block_kernel(tables, "decode", SPARSE)
    assert kernel.whole
    batch, past = np.meshgrid(2.0 ** np.arange(0, 10), 2.0 ** np.arange(5, 17), indexing="ij")
    time = block_decode_seconds(tables, SPARSE, batch.ravel(), past.ravel()).reshape(batch.shape)
    assert np.isfinite(time).all()
    assert (np.diff(time, axis=1) >= -1e-12).all()
    one = np.ones(4)
    by_past = block_prefill_seconds(tables, SPARSE, one, 2048 * one, [0, 1024, 8192, 65536])
    assert (np.diff(by_past) > 0).all()
    shared = replace(SPARSE, index_heads=0, hidden=6144)
    assert block_origin(tables, "decode", shared, one, 2048 * one)[0] in set(Origin)
