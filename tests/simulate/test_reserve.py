"""The share of outputs that SGLang keeps room for, and when it lets another request in."""

import pytest

from aiconf.engine.platform import platform
from aiconf.simulate.deployment import reserve_of
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.limits import Limits
from aiconf.simulate.reserve import Reserve

SGLANG = Reserve(1.0, 0.7, 0.14, 600, cap=4096)


def test_each_engine_keeps_what_its_scheduler_keeps():
    rules = {
        name: reserve_of(platform("h200_sxm", name).traits.scheduler, 1)
        for name in ("vllm", "sglang", "trtllm")
    }
    assert rules["sglang"] == SGLANG
    assert rules["sglang"].least == pytest.approx(0.098)
    assert (rules["vllm"].of_new(500.0), rules["trtllm"].of_new(500.0)) == (0.0, 500.0)
    assert rules["sglang"].of_new(8192.0) == 4096.0
    spread = reserve_of(platform("h200_sxm", "sglang").traits.scheduler, 8)
    assert spread.running == pytest.approx(0.21)


def test_long_outputs_share_the_cache_as_the_share_sinks(timer, load):
    """Room for four whole requests: a share that stays lets fewer run than one that sinks."""
    sent = load(count=40, users=10, isl=200, osl=1600)

    def replay(rule):
        limits = Limits(2048, 64, 8000.0, mixed=False, reserve=rule)
        return EngineReplay(timer, limits).run(sent)

    rules = Reserve(1.0, 0.7), Reserve(1.0, 0.7, 0.14, 600), Reserve(1.0, 1.0)
    stays, sinks, whole = map(replay, rules)
    assert sinks.ttft.mean() < stays.ttft.mean() <= whole.ttft.mean()
    assert whole.preempted == 0


def test_a_preemption_sets_the_share_to_what_was_written():
    assert SGLANG.after_preemption(0.1, 300.0, 1000.0, 5) == pytest.approx(400.0 / 1001.0)
    assert SGLANG.after_preemption(0.1, 990.0, 1000.0, 5) == 1.0
    assert Reserve(1.0, 1.0).after_preemption(1.0, 0.0, 10.0, 1) == 1.0
