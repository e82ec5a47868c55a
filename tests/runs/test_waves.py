"""A few waves of a closed loop tell what ten would."""

import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model.library import load_model
from aiconf.parallel import Parallel
from aiconf.runs.waves import seen, stretched
from aiconf.simulate.deployment import disaggregated, engine
from aiconf.simulate.lengths import uniform_lengths
from aiconf.simulate.requests import Load

USERS = 200


@pytest.fixture(scope="module")
def replayed():
    place = platform("h200_sxm", "vllm")
    one = engine(place, load_model("Llama-3.1-8B"), Parallel(1), isl=1024, osl=256)

    def replay(waves, seed=0):
        lengths = uniform_lengths(np.random.default_rng(seed), waves * USERS, 1024, 256, 0.8)
        return disaggregated(one, 3, one, 2, Load(*lengths, None, USERS))

    return replay


def test_four_waves_stand_for_ten(replayed):
    few, all_of_them = stretched(replayed(4), USERS, 10 * USERS), seen(replayed(10))
    assert few.output_rate == pytest.approx(all_of_them.output_rate, rel=0.03)
    assert few.total_rate == pytest.approx(all_of_them.total_rate, rel=0.03)
    assert few.tpot == pytest.approx(all_of_them.tpot, rel=0.03)
    assert few.ttft.mean == pytest.approx(all_of_them.ttft.mean, rel=0.05)
    # The plain mean of four waves has a quarter of the first wave's wait for itself in it.
    assert np.mean(replayed(4).ttft) > 1.15 * all_of_them.ttft.mean


def test_the_median_of_four_waves_is_little_above_that_of_ten(replayed):
    """The queue before prefill still settles: 5 % in the mean of many draws, 9 in the worst."""
    ratios = [
        stretched(replayed(4, seed), USERS, 10 * USERS).ttft.p50 / seen(replayed(10, seed)).ttft.p50
        for seed in range(4)
    ]
    assert 1.0 < np.mean(ratios) < 1.06
    assert max(ratios) < 1.1


def test_nothing_missing_changes_nothing(replayed):
    whole = replayed(4)
    same, plain = stretched(whole, USERS, 4 * USERS), seen(whole)
    assert same.output_rate == pytest.approx(plain.output_rate)
    assert same.tpot == pytest.approx(plain.tpot)
    assert same.ttft.mean == pytest.approx(plain.ttft.mean)
