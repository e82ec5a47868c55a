"""Time to encode images, as part of the iteration that holds their prompts."""

from dataclasses import replace

import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.engine.curves import PART
from aiconf.engine.launches import launch_seconds
from aiconf.engine.platform import platform
from aiconf.engine.vision import VisionTimer
from aiconf.model import load_model
from aiconf.model.vision_operators import vision_flops
from aiconf.parallel import Parallel
from aiconf.perf.origin import Origin

SPEC = load_model("Qwen3-VL-8B")
PATCHES = np.array([4800.0])


def timer(layout="tp1", backend="vllm", system="h200_sxm", spec=SPEC):
    place = platform(system, backend)
    return VisionTimer(place.tables, spec.vision, Parallel.parse(layout), place.traits)


def seconds(count, layout="tp1", patches=4800.0, **where):
    count = np.atleast_1d(np.asarray(count, dtype=float))
    return timer(layout, **where).seconds(count, np.full(len(count), patches))


def step(layout="tp1"):
    return platform("h200_sxm", "vllm").step(SPEC, Parallel.parse(layout), "bf16")


def test_no_image_takes_no_time():
    assert seconds([0.0, 1.0, 0.0])[[0, 2]].tolist() == [0.0, 0.0]


def test_it_is_between_the_speed_of_light_and_a_few_times_that():
    flops = vision_flops(SPEC.vision, 4800) * 20
    light = flops / platform("h200_sxm", "vllm").system.gpu.flops["bf16"]
    assert 1.2 * light < seconds(20.0)[0] < 4 * light


def test_part_of_an_image_takes_its_part():
    half, whole = seconds([0.5, 1.0])
    assert half == pytest.approx(whole / 2)


def test_many_images_cost_less_than_each_alone():
    one, ten = seconds([1.0, 10.0])
    assert 5 * one < ten < 10 * one


def test_small_images_take_as_long_as_the_host_launches_kernels():
    small, smaller = (seconds(1.0, patches=p)[0] for p in (256.0, 1024.0))
    assert small == pytest.approx(smaller)
    launch = platform("h200_sxm", "vllm").traits.host.seconds_per_launch
    assert small == pytest.approx(344 * launch, rel=0.1)


def test_a_slower_processor_launches_the_towers_kernels_slower_too():
    near, far = (platform(name, "vllm").traits for name in ("h200_sxm", "gb200"))
    slower = launch_seconds(far) / launch_seconds(near)
    assert slower > 1.2
    ours, other = (seconds(1.0, patches=256.0, system=s)[0] for s in ("h200_sxm", "gb200"))
    assert other / ours == pytest.approx(slower)


def test_ranks_divide_the_work_but_not_by_their_number():
    alone, shared = seconds(20.0)[0], seconds(20.0, "tp4")[0]
    assert alone / 4 < shared < 0.7 * alone


def test_heads_that_do_not_divide_share_out_the_images():
    """Twelve heads on eight ranks: each encodes images of its own, whole."""
    odd = replace(SPEC, vision=replace(SPEC.vision, heads=12, head_dim=96))
    one, eight, sixteen = seconds([1.0, 8.0, 16.0], "tp8", spec=odd, patches=16384.0)
    assert one == pytest.approx(eight)
    assert sixteen > 1.5 * eight


def test_an_engine_told_so_shares_out_the_images():
    place = platform("h200_sxm", "vllm", changes=(("vision.parallel", "data"),))
    apart = VisionTimer(place.tables, SPEC.vision, Parallel(tp=4), place.traits)
    each, four = (apart.seconds(np.array([n]), PATCHES)[0] for n in (1.0, 4.0))
    assert each == pytest.approx(four)
    assert each == pytest.approx(seconds(1.0)[0])
    assert apart.seconds(np.array([20.0]), PATCHES)[0] < seconds(20.0, "tp4")[0]


def test_a_pipeline_waits_for_its_first_stage():
    assert seconds(4.0, "tp1pp2")[0] == pytest.approx(2 * seconds(4.0)[0])


def test_an_iteration_takes_it_on_top_and_names_it():
    text = dict(prefill_tokens=2400.0, decode=8.0, context=3000.0)
    shown = Batch.of(**text, images=2.0, patches=4800.0)
    alone, both = step().time(Batch.of(**text)), step().time(shown)
    added = step().image_seconds(np.array([2.0]), PATCHES)
    assert both.seconds - alone.seconds == pytest.approx(added)
    assert step().seconds(shown) == pytest.approx(both.seconds)
    assert both.by_part[PART["vision"]] == pytest.approx(added)
    assert alone.by_part[PART["vision"]] == pytest.approx([0.0])
    assert both.by_origin[Origin.FALLBACK] - alone.by_origin[Origin.FALLBACK] < 0.1 * added


def test_a_model_without_a_tower_has_no_time_for_images():
    dense = load_model("qwen3-8b")
    engine = platform("h200_sxm", "vllm").step(dense, Parallel(), dense.quantization.kv)
    with pytest.raises(ValueError, match="no vision tower"):
        engine.image_seconds(np.ones(1), PATCHES)


def test_a_head_size_that_no_table_holds_is_a_fallback():
    spec = load_model("Kimi-K3")
    total = np.zeros((len(PART), len(Origin), 1))
    timer(spec=spec).add(total, np.array([4.0]), np.array([5476.0]))
    assert total[PART["vision"], Origin.FALLBACK, 0] > 0.2 * total[PART["vision"]].sum()
