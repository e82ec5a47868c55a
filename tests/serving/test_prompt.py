import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.serving.prompt import PromptTime
from aiconf.workload import Workload


def test_a_prompt_within_the_budget_is_one_iteration(step):
    engine = step()
    seconds = PromptTime(engine, Workload(4000, 500), np.array([8192.0])).seconds(np.ones(1))
    once = engine.seconds(Batch.of(prefill_tokens=4000, prefill_sequences=1))
    assert seconds == pytest.approx(once)


def test_more_prompts_take_longer_and_a_prefix_less(step):
    engine, budget = step(), np.full(5, 8192.0)
    count = np.array([1.0, 2.0, 4.0, 16.0, 100.0])
    plain = PromptTime(engine, Workload(4000, 500), budget).seconds(count)
    cached = PromptTime(engine, Workload(4000, 500, 2000), budget).seconds(count)
    assert (np.diff(plain) > 0).all()
    assert (cached < plain).all()


def test_chunks_overlap_over_pipeline_stages(step):
    work, budget = Workload(32000, 500), np.array([2048.0])
    flat = PromptTime(step("tp2"), work, budget).seconds(np.ones(1))[0]
    piped = PromptTime(step("tp2pp2"), work, budget).seconds(np.ones(1))[0]
    assert 0.45 * flat < piped < 0.75 * flat


def test_each_point_uses_its_own_budget(step):
    work, engine = Workload(16000, 500), step()
    both = PromptTime(engine, work, np.array([2048.0, 16384.0])).seconds(np.ones(2))
    for place, budget in enumerate((2048.0, 16384.0)):
        alone = PromptTime(engine, work, np.array([budget])).seconds(np.ones(1))
        assert both[place] == pytest.approx(alone[0])
