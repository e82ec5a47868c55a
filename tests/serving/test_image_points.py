"""Images in the closed forms: encode time in TTFT and in what prefill sustains."""

import numpy as np
import pytest

from aiconf.model import load_model
from aiconf.model.traffic import Asked
from aiconf.serving.aggregated import aggregated
from aiconf.serving.prompt import PromptTime
from aiconf.workload import Workload

MODEL = "Qwen3-VL-8B"
SHOWN = Asked(500, 100, 0, 2, "1280x960").of(load_model(MODEL))
TEXT = Workload(SHOWN.isl, SHOWN.osl)
BUDGET = np.array([8192.0])


@pytest.fixture
def engine(step):
    def build(layout="tp1", backend="vllm"):
        return step(layout, backend, MODEL)

    return build


def encode(engine, count):
    return engine.image_seconds(np.array([count]), np.array([4800.0]))[0]


@pytest.mark.parametrize("budget", [1024.0, 8192.0])
def test_a_prompt_takes_its_images_on_top_however_it_is_chunked(engine, budget):
    found = [
        PromptTime(engine(), work, np.array([budget])).seconds(np.ones(1))[0]
        for work in (TEXT, SHOWN)
    ]
    # Chunks encode one image at a time, which takes a little longer than both together.
    assert encode(engine(), 2.0) <= found[1] - found[0] + 1e-9
    assert found[1] - found[0] < 1.25 * encode(engine(), 2.0)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_one_user_waits_for_the_encoder(engine, backend):
    one = np.ones(1)
    plain, shown = (aggregated(engine("tp1", backend), w, one, BUDGET) for w in (TEXT, SHOWN))
    added = encode(engine("tp1", backend), 2.0)
    assert shown.ttft - plain.ttft == pytest.approx([added], rel=0.02)
    assert shown.tpot == pytest.approx(plain.tpot, rel=0.02)


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_many_users_share_less(engine, backend):
    many = np.array([64.0])
    plain, shown = (aggregated(engine("tp1", backend), w, many, BUDGET) for w in (TEXT, SHOWN))
    busy = encode(engine("tp1", backend), 2.0) * shown.request_rate[0]
    assert 0.2 < busy < 1.0
    assert shown.request_rate[0] == pytest.approx(plain.request_rate[0] * (1 - busy), rel=0.15)


def test_text_alone_is_answered_as_without_a_tower(engine):
    point = aggregated(engine(), TEXT, np.array([16.0]), BUDGET)
    assert point.ttft[0] > 0
    assert engine()._vision is None or TEXT.images is None
    assert not TEXT.images_in(np.array([2400.0])).any()
