import numpy as np
import pytest

from aiconf.perf.attention import (
    Heads,
    attention_origin,
    decode_light,
    decode_seconds,
    prefill_light,
    prefill_seconds,
)
from aiconf.perf.origin import Origin
from aiconf.system import load_system

GPU = load_system("h200_sxm").gpu
SHAPE = Heads(heads=8, kv_heads=1, head_dim=128, window=None, kv_dtype="bf16")
BACKENDS = ["vllm", "sglang", "trtllm"]


def decode_table(efficiency=2.0, kv_dtype="bf16"):
    rows = []
    for batch in (1, 8, 64):
        for past in (128, 1024, 16384):
            light = float(decode_light(GPU, SHAPE, np.array([batch]), np.array([past]))[0])
            rows.append(("bf16", kv_dtype, 128, 0, 8, 1, "k", batch, past,
                         efficiency * (2e-6 + light)))  # fmt: skip
    names = ("dtype", "kv_dtype", "head_dim", "window", "heads", "kv_heads", "kernel", "batch",
             "past", "seconds")  # fmt: skip
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def test_a_measured_point_is_returned(hand_made):
    table = decode_table()
    tables = hand_made({"decode_attention": table})
    time = decode_seconds(tables, SHAPE, table["batch"], table["past"])
    assert time == pytest.approx(table["seconds"])
    origin = attention_origin(tables, "decode", SHAPE, table["batch"], table["past"])
    assert (origin == Origin.MEASURED).all()


def test_other_heads_are_interpolated_and_cost_their_own_work(hand_made):
    tables = hand_made({"decode_attention": decode_table()})
    wide = Heads(32, 4, 128, None, "bf16")
    batch, past = np.array([64.0]), np.array([16384.0])
    ratio = decode_seconds(tables, wide, batch, past) / decode_seconds(tables, SHAPE, batch, past)
    assert 3.0 < ratio[0] < 4.2
    assert attention_origin(tables, "decode", wide, batch, past)[0] == Origin.INTERPOLATED


def test_beyond_the_table_it_is_a_fallback(hand_made):
    tables = hand_made({"decode_attention": decode_table()})
    origin = attention_origin(tables, "decode", SHAPE, np.array([8.0]), np.array([1e6]))
    assert origin[0] == Origin.FALLBACK


def test_a_cache_type_without_a_table_borrows_bf16(hand_made):
    tables = hand_made({"decode_attention": decode_table()})
    fp8 = Heads(8, 1, 128, None, "fp8")
    batch, past = np.array([64.0]), np.array([16384.0])
    assert decode_seconds(tables, fp8, batch, past) < decode_seconds(tables, SHAPE, batch, past)
    assert attention_origin(tables, "decode", fp8, batch, past)[0] == Origin.FALLBACK


def test_without_tables_it_is_the_speed_of_light(hand_made):
    tables = hand_made({})
    batch, past = np.array([4.0]), np.array([1000.0])
    assert decode_seconds(tables, SHAPE, batch, past) == pytest.approx(
        decode_light(GPU, SHAPE, batch, past)
    )
    assert prefill_seconds(tables, SHAPE, batch, past, 0.0) == pytest.approx(
        prefill_light(GPU, SHAPE, batch, past)
    )


def test_a_window_bounds_the_work():
    windowed = Heads(8, 1, 128, 128, "bf16")
    one = np.array([1.0])
    assert decode_light(GPU, windowed, one, np.array([1e5])) == pytest.approx(
        decode_light(GPU, windowed, one, np.array([1e3]))
    )
    short, long = (prefill_light(GPU, windowed, one, np.array([n])) for n in (2e4, 4e4))
    assert long[0] / short[0] == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", ["h200_sxm", "gb200"])
class TestEmbedded:
    def test_decode_never_falls(self, embedded, system, backend):
        tables = embedded(system, backend)
        batch, past = np.meshgrid(2.0 ** np.arange(0, 11), 2.0 ** np.arange(5, 18), indexing="ij")
        for shape in (SHAPE, Heads(64, 8, 64, 128, "bf16"), Heads(5, 1, 128, None, "fp8")):
            time = decode_seconds(tables, shape, batch.ravel(), past.ravel()).reshape(batch.shape)
            assert np.isfinite(time).all()
            assert (time > 0).all()
            assert (np.diff(time, axis=0) >= -1e-12).all()
            assert (np.diff(time, axis=1) >= -1e-12).all()

    def test_a_chunk_behind_a_past_costs_no_less_than_without(self, embedded, system, backend):
        tables = embedded(system, backend)
        past = np.array([0.0, 512.0, 4096.0, 32768.0])
        time = prefill_seconds(tables, SHAPE, np.ones(4), np.full(4, 2048.0), past)
        assert (np.diff(time) >= 0).all()

    def test_the_chunks_of_a_prompt_cost_about_the_whole_prompt(self, embedded, system, backend):
        tables = embedded(system, backend)
        past = np.arange(8) * 1024.0
        chunks = prefill_seconds(tables, SHAPE, np.ones(8), np.full(8, 1024.0), past).sum()
        whole = prefill_seconds(tables, SHAPE, np.ones(1), np.array([8192.0]), np.zeros(1))[0]
        # Few heads fill no GPU: each chunk then walks its past anew (measured on B300).
        assert 0.9 * whole < chunks < 3.5 * whole
