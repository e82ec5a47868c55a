"""Arrivals and lengths: their means and spreads, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiconf.errors import UserError
from aiconf.simulate.arrivals import arrivals, together
from aiconf.simulate.deployment import merged, shared
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.lengths import drawn_lengths, lognormal_lengths, uniform_lengths
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load


def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("process", "cv", "wanted"),
    [("poisson", 1.0, 1.0), ("gamma", 2.5, 2.5), ("gamma", 0.3, 0.3), ("constant", 1.0, 0.0)],
)
def test_arrivals_have_their_rate_and_variation(process, cv, wanted):
    when = arrivals(random(), 60_000, 4.0, process, cv)
    gaps = np.diff(when)
    assert when[0] == 0.0
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(wanted, rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("rate", "process", "cv"),
    [(0, "poisson", 1), (-1, "poisson", 1), (float("nan"), "poisson", 1),
     (float("inf"), "constant", 1), (1, "gamma", 0), (1, "gamma", float("nan")),
     (1, "poison", 1)],
)  # fmt: skip
def test_impossible_arrivals_are_refused(rate, process, cv):
    with pytest.raises(UserError):
        arrivals(random(), 10, rate, process, cv)


def test_an_unknown_process_names_the_nearest():
    with pytest.raises(UserError, match="did you mean poisson"):
        arrivals(random(), 10, 1.0, "poison")


def test_lognormal_lengths_have_their_mean_and_variation():
    prompt, output = lognormal_lengths(random(), 100_000, 900, 180, 0.8)
    for found, mean in ((prompt, 900), (output, 180)):
        assert found.mean() == pytest.approx(mean, rel=0.02)
        assert found.std() / found.mean() == pytest.approx(0.8, rel=0.05)
        assert found.min() >= 1


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.0, 1.0))
def test_uniform_lengths_stay_in_their_range(isl, osl, least):
    prompt, output = uniform_lengths(random(), 50, isl, osl, least)
    for found, longest in ((prompt, isl), (output, osl)):
        assert found.min() >= max(1, int(longest * least))
        assert found.max() <= longest


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_an_impossible_range_is_refused(least):
    with pytest.raises(UserError):
        uniform_lengths(random(), 5, 10, 10, least)


@pytest.mark.parametrize("cv", [-1.0, float("nan"), float("inf")])
def test_an_impossible_variation_is_refused(cv):
    with pytest.raises(UserError):
        lognormal_lengths(random(), 5, 10, 10, cv)


def test_lengths_of_a_trace_come_in_pairs():
    seen = np.array([1, 20, 300])
    prompt, output = drawn_lengths(random(), 100, seen, seen * 2)
    assert set(prompt) == {1, 20, 300}
    assert (output == prompt * 2).all()


@pytest.mark.parametrize("arrival", [[1.0, 0.0], [0.0, float("nan")], [0.0, float("inf")], [0.0]])
def test_arrivals_out_of_order_are_refused(arrival):
    with pytest.raises(UserError, match="ascend"):
        Load(np.array([5, 5]), np.array([5, 5]), np.array(arrival))


def test_warm_up_of_everything_is_refused():
    with pytest.raises(UserError, match="leave none"):
        Load(np.array([5, 5]), np.array([5, 5]), None, 1, warmup=2)


@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
@pytest.mark.parametrize("closed", [True, False])
def test_dealing_a_load_keeps_every_request(timer, lanes, closed):
    prompt = np.arange(100, 150)
    load = (
        Load(prompt, prompt // 2, None, 5, 4)
        if closed
        else Load(prompt, prompt // 2, arrivals(random(), 50, 3.0), 0, 4)
    )
    parts = shared(load, lanes)
    if closed and lanes > 5:  # lanes without a user send nothing
        assert sum(len(part) for part in parts) < 50
        return
    assert sorted(np.concatenate([part.prompt for part in parts])) == sorted(prompt)
    limits = Limits(2048, 64, 1e6, mixed=True)
    found = merged([EngineReplay(timer, limits).run(part) for part in parts])
    assert sorted(found.prompt) == sorted(prompt)
    assert found.warmup == 4
    assert (found.last > found.sent).all()
    assert len(set(found.spans.worker)) == len(parts)


def test_a_static_batch_runs_together(timer):
    load = Load(np.full(8, 500), np.full(8, 100), together(8))
    found = EngineReplay(timer, Limits(8192, 64, 1e6, mixed=True)).run(load)
    assert np.ptp(found.first) == 0.0
    assert np.ptp(found.last) == 0.0
