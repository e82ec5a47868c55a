"""Images in the replay, held against the closed forms."""

import numpy as np
import pytest

from aiconf.api import estimate, replay
from aiconf.engine.platform import platform
from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.traffic import images_of
from aiconf.parallel import Parallel
from aiconf.serving.disaggregated import MAX_UTILISATION
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer

MODEL, SYSTEM = "Qwen3-VL-8B", "h200_sxm"
IMAGES = images_of(load_model(MODEL), 2, "1280x960")  # 1,200 tokens each
ASKED = {"images": 2, "image_size": "1280x960"}


@pytest.fixture(scope="module")
def timer():
    spec = load_model(MODEL)
    step = platform(SYSTEM, "vllm").step(spec, Parallel(), spec.quantization.kv)
    return IterationTimer(step, 9216, 64, 4096, images=IMAGES), step


def run(timer, budget, images=IMAGES, users=1, count=4):
    load = Load(np.full(count, 2900), np.full(count, 20), None, users, 0, images)
    return EngineReplay(timer, Limits(budget, 64, 1e6, mixed=True)).run(load)


def test_times_are_those_of_the_step_model(timer):
    listed, step = timer
    for count in (0, 1, 5, 50):
        expected = step.image_seconds(np.array([float(count)]), np.array([4800.0]))[0]
        assert listed.encode(count) == pytest.approx(expected, rel=0.1)


def test_an_image_is_encoded_with_the_first_of_its_tokens():
    assert [IMAGES.encoded(done, 600) for done in range(0, 3000, 600)] == [1, 0, 1, 0, 0]
    assert IMAGES.encoded(0, 2900) == 2
    assert IMAGES.encoded(0, 1201) == 2
    assert IMAGES.encoded(1201, 100) == 0


@pytest.mark.parametrize("budget", [512, 1024, 8192])
def test_each_image_is_encoded_once(timer, budget):
    listed, _ = timer
    shown, plain = run(listed, budget), run(listed, budget, None)
    each = listed.encode(1) if budget < 1201 else listed.encode(2) / 2
    assert shown.ttft - plain.ttft == pytest.approx(2 * each, rel=0.01)
    assert np.nanmax(np.abs(shown.tpot - plain.tpot)) < 1e-9


def test_others_wait_while_images_are_encoded(timer):
    listed, _ = timer
    shown, plain = (run(listed, 8192, images, 8, 40) for images in (IMAGES, None))
    assert shown.tpot.mean() > 1.3 * plain.tpot.mean()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_one_user_sees_what_the_closed_form_says(backend):
    point = estimate(MODEL, SYSTEM, "tp1", 500, 100, backend=backend, **ASKED)
    seen = replay(
        MODEL, SYSTEM, "tp1", 500, 100, concurrency=1, requests=5, backend=backend, **ASKED
    )
    times = seen.document["times_ms"]
    assert times["ttft"]["mean"] == pytest.approx(point.best["ttft_ms"], rel=0.03)
    assert times["tpot"]["mean"] == pytest.approx(point.best["tpot_ms"], rel=0.03)


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
@pytest.mark.parametrize("concurrency", [16, 64])
def test_a_full_engine_sustains_what_the_closed_form_says(backend, concurrency):
    point = estimate(
        MODEL, SYSTEM, "tp1", 500, 200, concurrency=concurrency, backend=backend, **ASKED
    )
    seen = replay(
        MODEL, SYSTEM, "tp1", 500, 200, concurrency=concurrency, requests=8 * concurrency,
        warmup=2 * concurrency, length_range=0.9, backend=backend, **ASKED,
    )  # fmt: skip
    document = seen.document
    assert document["rates"]["requests"] == pytest.approx(point.best["request_per_s"], rel=0.08)
    assert document["times_ms"]["tpot"]["mean"] == pytest.approx(point.best["tpot_ms"], rel=0.1)


def test_prefill_workers_encode_and_sustain_what_the_closed_form_says():
    layout = {"prefill_layout": "tp1", "prefill_workers": 1}
    point = estimate(MODEL, SYSTEM, "tp1", 500, 200, concurrency=64, **layout, **ASKED)
    plain = estimate(MODEL, SYSTEM, "tp1", 2900, 200, concurrency=64, **layout)
    assert point.best["request_per_s"] < 0.8 * plain.best["request_per_s"]
    seen = replay(
        MODEL, SYSTEM, "tp1", 500, 200, concurrency=64, requests=400, warmup=128,
        **layout, **ASKED,
    )  # fmt: skip
    spans = seen.replay.spans
    each = spans.seconds[spans.worker < 1].sum() / 400  # of the prefill worker, per prompt
    assert each == pytest.approx(MAX_UTILISATION / point.best["request_per_s"], rel=0.04)


def test_lengths_vary_and_images_do_not():
    seen = replay(
        MODEL, SYSTEM, "tp1", 400, 50, concurrency=4, length_range=0.5, requests=40, **ASKED
    )
    prompt = seen.replay.prompt
    assert prompt.min() >= 2400 + 200
    assert prompt.max() <= 2400 + 400
    assert "2 images of 1280x960 (2,400 tokens)" in seen.document["inputs"]["load"]


def test_a_prompt_must_hold_more_than_its_images():
    with pytest.raises(UserError, match="prompts of 2400 tokens hold no text beside the 2400"):
        Load(np.array([2400]), np.array([5]), None, 1, 0, IMAGES)


def test_a_trace_does_not_say_which_tokens_are_images(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,374,44\n")
    with pytest.raises(UserError, match="a trace does not say which of its tokens are images"):
        replay(MODEL, SYSTEM, "tp1", trace=path, **ASKED)


def test_sglang_has_no_prefill_workers_that_encode():
    with pytest.raises(UserError, match="Dynamo serves images with SGLang by aggregated workers"):
        replay(MODEL, SYSTEM, "tp1", concurrency=2, prefill_layout="tp1", backend="sglang", **ASKED)
