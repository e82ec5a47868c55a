from itertools import pairwise

import numpy as np
import pytest

from aiconf.perf.moe import ROUTING, Experts, moe_light, moe_seconds
from aiconf.perf.origin import Origin
from aiconf.system import load_system

GPU = load_system("h200_sxm").gpu
SHAPE = Experts(hidden=4096, inter=1536, topk=8, experts=128, tp=1, ep=4)
TOKENS = np.array([1.0, 16.0, 256.0, 4096.0])


def table(efficiency=2.0, distribution="power_law_1.2", shape=SHAPE, dtype="bf16"):
    light = moe_light(GPU, dtype, shape, TOKENS)
    count = len(TOKENS)
    fixed = {name: [getattr(shape, name)] * count
             for name in ("hidden", "inter", "topk", "experts", "tp", "ep")}  # fmt: skip
    return fixed | {
        "dtype": [dtype] * count,
        "distribution": [distribution] * count,
        "kernel": ["k"] * count,
        "tokens": TOKENS.astype(int).tolist(),
        "seconds": (efficiency * (1e-5 + light)).tolist(),
    }


def joined(*tables):
    return {name: [value for t in tables for value in t[name]] for name in tables[0]}


def test_a_measured_shape_is_returned(hand_made):
    rows = table()
    time, origin = moe_seconds(hand_made({"moe": rows}), "bf16", SHAPE, TOKENS)
    assert time == pytest.approx(rows["seconds"])
    assert (origin == Origin.MEASURED).all()


def test_another_split_of_the_same_experts_is_interpolated(hand_made):
    other = Experts(4096, 1536, 8, 128, 2, 4)
    time, origin = moe_seconds(hand_made({"moe": table()}), "bf16", other, TOKENS)
    whole, _ = moe_seconds(hand_made({"moe": table()}), "bf16", SHAPE, TOKENS)
    assert (origin == Origin.INTERPOLATED).all()
    assert (time < whole).all()


def test_other_experts_are_a_fallback(hand_made):
    other = Experts(5120, 1536, 8, 160, 1, 4)
    _, origin = moe_seconds(hand_made({"moe": table()}), "bf16", other, TOKENS)
    assert (origin == Origin.FALLBACK).all()


def test_a_borrowed_shape_runs_as_the_other_with_as_many_tokens_of_one_expert(hand_made):
    rows = table()
    rows["seconds"][2] *= 1.2  # 256 tokens: 16 for each expert
    wider = Experts(4096, 1536, 8, 256, 1, 4)  # twice the experts: 512 tokens are 16 for each
    time, _ = moe_seconds(hand_made({"moe": rows}), "bf16", wider, [256.0, 512.0])
    plain, _ = moe_seconds(hand_made({"moe": table()}), "bf16", wider, [256.0, 512.0])
    assert time[1] == pytest.approx(1.2 * plain[1])
    assert time[0] < 1.15 * plain[0]


def test_a_small_shape_is_not_charged_the_weights_that_a_large_one_reads_at_least(hand_made):
    split = Experts(4096, 1536, 8, 128, 8, 4)  # an eighth of the weights: what a launch costs
    both = joined(table(1.0), table(1.0, shape=split))
    small = Experts(1024, 256, 8, 128, 1, 4)
    time, _ = moe_seconds(hand_made({"moe": both}), "bf16", small, [1.0])
    alone, _ = moe_seconds(hand_made({"moe": table(1.0)}), "bf16", small, [1.0])
    assert time[0] < alone[0]
    assert time[0] == pytest.approx(min(both["seconds"]), rel=0.4)


def test_a_named_kernel_that_was_timed_elsewhere_brings_its_rate_of_products(hand_made):
    elsewhere = Experts(2048, 1024, 8, 64, 1, 4)
    slow = table(4.0, shape=elsewhere) | {"kernel": ["slow"] * len(TOKENS)}
    tables = hand_made({"moe": joined(table(2.0), slow)}, order=("slow",))
    time, origin = moe_seconds(tables, "bf16", SHAPE, TOKENS)
    other = np.array(table(2.0)["seconds"])
    assert time[0] == pytest.approx(other[0], rel=0.05)  # weights are read alike
    assert time[3] == pytest.approx(2.0 * other[3], rel=0.1)  # products at half the rate
    assert (origin == Origin.FALLBACK).all()


def test_a_named_kernel_that_was_timed_here_answers_as_it_is(hand_made):
    both = joined(table(2.0), table(4.0) | {"kernel": ["slow"] * len(TOKENS)})
    time, origin = moe_seconds(hand_made({"moe": both}, order=("slow",)), "bf16", SHAPE, TOKENS)
    assert time == pytest.approx(table(4.0)["seconds"])
    assert (origin == Origin.MEASURED).all()


def test_the_preferred_routing_is_read_where_several_were_measured(hand_made):
    both = joined(table(2.0, ROUTING[0]), table(6.0, "balanced"))
    time, _ = moe_seconds(hand_made({"moe": both}), "bf16", SHAPE, TOKENS)
    assert time == pytest.approx(table(2.0)["seconds"])


def test_without_tables_it_is_the_speed_of_light(hand_made):
    time, origin = moe_seconds(hand_made({}), "bf16", SHAPE, TOKENS)
    assert time == pytest.approx(moe_light(GPU, "bf16", SHAPE, TOKENS))
    assert (origin == Origin.FALLBACK).all()


def test_light_of_many_tokens_is_arithmetic_and_of_few_the_weights_they_hit():
    many = np.array([1e6])
    flops = 6.0 * many * 8 / 4 * 4096 * 1536 / GPU.flops["bf16"]
    assert moe_light(GPU, "bf16", SHAPE, many) == pytest.approx(flops)
    one = moe_light(GPU, "bf16", SHAPE, np.array([1.0]))[0] * GPU.memory_bandwidth
    assert one == pytest.approx(8 / 4 * 3 * 4096 * 1536 * 2, rel=0.01)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", ["h200_sxm", "gb200", "b300_sxm"])
def test_embedded_tables_answer_every_precision_and_never_fall(embedded, system, backend):
    tables = embedded(system, backend)
    tokens = np.unique(np.round(2.0 ** np.arange(0, 18, 0.5)))
    shape = Experts(7168, 2048, 8, 256, 1, 8)
    for dtype in ("bf16", "fp8_block", "nvfp4", "mxfp4", "int4"):
        time, _ = moe_seconds(tables, dtype, shape, tokens)
        assert np.isfinite(time).all()
        assert (time > 0).all()
        assert (np.diff(time) >= -1e-12).all()


def test_four_times_the_ranks_for_the_experts_are_faster(embedded):
    tables = embedded("gb200", "trtllm")
    tokens = np.array([64.0, 1024.0, 16384.0])
    times = [
        moe_seconds(tables, "nvfp4", Experts(7168, 2048, 8, 256, 1, ep), tokens)[0]
        for ep in (1, 4, 16, 64)
    ]
    assert all((more < less).all() for less, more in pairwise(times))
