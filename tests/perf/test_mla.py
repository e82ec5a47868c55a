import numpy as np
import pytest

from aiconf.perf.mla import (
    Latent,
    decode_light,
    mla_absorb_seconds,
    mla_decode_seconds,
    mla_kernel,
    mla_origin,
    mla_prefill_seconds,
)
from aiconf.perf.origin import Origin
from aiconf.system import load_system

SHAPE = Latent(16, 512, 128, 64, 128, 180_000_000, "fp8_block", "bf16")
PLACES = [(s, b) for s in ("h200_sxm", "gb200") for b in ("vllm", "sglang", "trtllm")]


def test_without_tables_it_is_the_speed_of_light_and_says_so(hand_made):
    tables = hand_made({})
    batch, past = np.array([8.0]), np.array([4096.0])
    expected = decode_light(load_system("h200_sxm").gpu, SHAPE, False, batch, past)
    assert mla_decode_seconds(tables, SHAPE, batch, past) == pytest.approx(expected)
    assert mla_origin(tables, "decode", SHAPE, batch, past)[0] == Origin.FALLBACK
    assert mla_absorb_seconds(tables, SHAPE, batch)[0] > 0


def test_decode_reads_the_latent_once_for_all_heads():
    gpu = load_system("h200_sxm").gpu
    few = Latent(2, 512, 128, 64, 128, 1, "bf16", "bf16")
    batch, past = np.array([1.0]), np.array([99_999.0])
    seconds = decode_light(gpu, few, False, batch, past)[0]
    assert seconds * gpu.memory_bandwidth == pytest.approx(1e5 * (512 + 64) * 2)


@pytest.mark.parametrize(("system", "backend"), PLACES)
@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8"])
def test_embedded_decode_never_falls(embedded, system, backend, kv_dtype):
    tables = embedded(system, backend)
    shape = Latent(16, 512, 128, 64, 128, 180_000_000, "fp8_block", kv_dtype)
    assert mla_kernel(tables, "decode", shape).surface is not None
    batch, past = np.meshgrid(2.0 ** np.arange(0, 10), 2.0 ** np.arange(5, 17), indexing="ij")
    time = mla_decode_seconds(tables, shape, batch.ravel(), past.ravel()).reshape(batch.shape)
    assert np.isfinite(time).all()
    assert (time > 0).all()
    assert (np.diff(time, axis=0) >= -1e-12).all()
    assert (np.diff(time, axis=1) >= -1e-12).all()


@pytest.mark.parametrize(("system", "backend"), PLACES)
def test_embedded_prefill_grows_with_the_prompts_and_their_past(embedded, system, backend):
    tables = embedded(system, backend)
    one = np.ones(4)
    by_past = mla_prefill_seconds(tables, SHAPE, one, 2048 * one, [0, 1024, 8192, 65536])
    assert (np.diff(by_past) > 0).all()
    by_count = mla_prefill_seconds(tables, SHAPE, [1, 2, 4, 8], 2048 * one, 0 * one)
    assert (np.diff(by_count) > 0).all()
    assert mla_origin(tables, "prefill", SHAPE, one, 2048 * one)[0] in set(Origin)
