"""Prompts held until every attention rank has one."""

import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.balance import Balance
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.lengths import uniform_lengths
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer


class Rank:
    def __init__(self, running, has_prompts):
        self.running, self.has_prompts = running, has_prompts


def test_prompts_wait_for_every_rank_and_then_for_more():
    balance, ranks = Balance(50, 10, 64), [Rank(4, True), Rank(4, False)]
    assert balance.holds(ranks)
    assert balance.most_steps(ranks) == 50
    balance.passed(ranks, 20)
    assert balance.most_steps(ranks) == 30
    ranks[1].has_prompts = True
    assert balance.holds(ranks)
    assert balance.most_steps(ranks) == 10
    balance.passed(ranks, 10)
    assert not balance.holds(ranks)


def test_waiting_ends_after_its_time_and_where_a_rank_has_nothing_to_decode():
    balance, ranks = Balance(50, 0, 64), [Rank(4, True), Rank(4, False)]
    balance.passed(ranks, 50)
    assert not balance.holds(ranks)
    assert not Balance(50, 0, 64).holds([Rank(4, True), Rank(0, False)])
    assert not Balance(0, 0, 64).holds(ranks)


def test_balance_makes_prompts_wait_and_decodes_run_freer():
    spec, place = load_model("gpt-oss-120b"), platform("b200_sxm", "trtllm")
    step = place.step(spec, Parallel(1, 1, 2, 1), "fp8")
    timer = IterationTimer(step, 20064, 64, 4096)
    prompt, output = uniform_lengths(np.random.default_rng(0), 320, 1024, 1024, 0.8)
    load = Load(prompt, output, None, 32)
    found = {}
    for wait, more in ((0, 0), (50, 10)):
        limits = Limits(20000, 64, 1e9, True, balance_wait=wait, balance_more=more)
        replay = EngineReplay(timer, limits, 2).run(load)
        assert (replay.last > 0).all()
        found[wait] = np.median(replay.ttft), replay.tpot.mean(), replay.iterations
    assert found[50][0] > 2.0 * found[0][0]
    assert found[50][1] < found[0][1]
    once = Limits(20000, 64, 1e9, True, balance_wait=50, balance_more=10, jump=False)
    slow = EngineReplay(timer, once, 2).run(load)
    assert np.median(slow.ttft) == pytest.approx(found[50][0], rel=0.02)
