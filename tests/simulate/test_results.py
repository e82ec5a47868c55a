"""Figures of a replay: conservation, Little's law, percentiles, times between tokens, causes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiconf.engine.speculation import Speculation
from aiconf.simulate.arrivals import arrivals
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.reserve import NO_RESERVE, Reserve
from aiconf.simulate.results import Spread, causes, summarize, timeline
from aiconf.simulate.spans import between_tokens, weighted_percentiles
from aiconf.workload import Sla

WHOLE, SINKING = Reserve(1.0, 1.0), Reserve(1.0, 0.7, 0.14, 60, cap=100)


def limits(**changes):
    return Limits(**{"token_budget": 2048, "max_sequences": 64, "kv_tokens": 1e6,
                     "mixed": True} | changes)  # fmt: skip


@st.composite
def runs(draw):
    """A small load and an engine to serve it, in any combination."""
    count = draw(st.integers(1, 25))
    prompt = draw(st.lists(st.integers(1, 900), min_size=count, max_size=count))
    output = draw(st.lists(st.integers(1, 300), min_size=count, max_size=count))
    closed = draw(st.booleans())
    gaps = draw(st.lists(st.floats(0.0, 2.0), min_size=count, max_size=count))
    load = Load(
        np.array(prompt), np.array(output), None if closed else np.cumsum(gaps),
        draw(st.integers(1, 9)) if closed else 0,
    )  # fmt: skip
    changes = {
        "token_budget": draw(st.sampled_from([16, 256, 2048])),
        "max_sequences": draw(st.sampled_from([1, 4, 64])),
        "kv_tokens": draw(st.sampled_from([1400.0, 4000.0, 1e6])),
        "mixed": draw(st.booleans()),
        "reserve": draw(st.sampled_from([NO_RESERVE, SINKING, WHOLE])),
        "intake": IntakeCost(draw(st.sampled_from([0.0, 0.02])), 1e-3, 1e-6),
    }
    # Verified tokens of all running sequences have to fit into an iteration.
    kind = draw(st.sampled_from([None, Speculation(1, 0.7), Speculation(3, 0.9)]))
    return load, limits(**changes), draw(st.sampled_from([1, 3])), kind


@given(runs())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_and_cache_are_conserved(timer, run):
    load, engine, ranks, kind = run
    replay = EngineReplay(timer, engine, ranks, kind)
    found = replay.run(load)
    assert (found.sent <= found.started + 1e-12).all()
    assert (found.started < found.first).all()
    assert (found.first <= found.last).all()
    assert found.spans.kv[-1] == pytest.approx(0.0, abs=1e-6)  # every cache is given back
    assert found.spans.waiting[-1] == 0
    assert found.spans.seconds.sum() == pytest.approx(sum(found.busy))
    assert found.spans.iterations.sum() == found.iterations
    assert (np.diff(found.spans.end) > 0).all()
    assert found.peak_kv <= 1.0 + 1e-9
    if kind is None and not found.preempted:
        # Each token but the first of each request ends one gap.
        _, weights = between_tokens(found.spans)
        assert weights.sum() == (load.output - 1).sum()
    if engine.reserve == WHOLE:
        assert found.preempted == 0


@given(runs())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_equal_seeds_give_equal_replays(timer, run):
    load, engine, ranks, kind = run
    once, again = (EngineReplay(timer, engine, ranks, kind).run(load) for _ in range(2))
    assert (once.last == again.last).all()


def test_littles_law(timer, load):
    sent = load(count=400, arrival=arrivals(np.random.default_rng(2), 400, 6.0), isl=800, osl=200)
    found = EngineReplay(timer, limits()).run(sent)
    figures = summarize(found)
    states = timeline(found, 4000)
    assert states.running.mean() == pytest.approx(
        figures.request_rate * float((found.last - found.first).mean()), rel=0.03
    )
    assert states.running.mean() == pytest.approx(figures.running, rel=0.03)
    assert states.waiting.mean() == pytest.approx(figures.waiting, rel=0.1)
    assert 0 < states.kv.max() <= found.peak_kv * (1 + 1e-9)
    assert len(states.time) == 4000


def test_more_load_waits_longer(timer, load):
    ttft = []
    for rate in (2.0, 10.0, 30.0):
        when = arrivals(np.random.default_rng(2), 300, rate)
        found = EngineReplay(timer, limits()).run(load(count=300, arrival=when))
        ttft.append(summarize(found).ttft)
    assert ttft[0].mean < ttft[1].mean < ttft[2].mean
    assert ttft[0].p99 < ttft[2].p99


def test_bursts_wait_longer_than_even_arrivals(timer, load):
    def mean(process, cv):
        when = arrivals(np.random.default_rng(5), 400, 12.0, process, cv)
        found = EngineReplay(timer, limits()).run(load(count=400, arrival=when))
        return summarize(found).ttft.mean

    assert mean("constant", 1.0) < mean("poisson", 1.0) < mean("gamma", 4.0)


def test_goodput_counts_requests_that_keep_every_target(timer, load):
    found = EngineReplay(timer, limits()).run(load(count=80, users=8))
    free = summarize(found)
    assert free.attained == 1.0
    assert free.goodput == pytest.approx(free.request_rate)
    half = summarize(found, Sla(ttft=free.ttft.p50))
    assert half.attained == pytest.approx(np.mean(found.ttft <= free.ttft.p50))
    assert 0.4 <= half.attained < 1.0  # many see the very same TTFT
    assert summarize(found, Sla(tpot=1e-9)).goodput == 0.0


def test_warm_up_is_left_out_of_figures(timer, load):
    sent = load(count=60, users=12)
    warm = Load(sent.prompt, sent.output, None, 12, warmup=20)
    cold, rest = (summarize(EngineReplay(timer, limits()).run(each)) for each in (sent, warm))
    assert (cold.requests, rest.requests) == (60, 40)
    assert rest.ttft.mean < cold.ttft.mean  # the first wave arrives at once


def test_itl_of_one_user_is_the_decode_iteration(timer, load):
    found = summarize(EngineReplay(timer, limits()).run(load(count=3, users=1, isl=900, osl=200)))
    alone = timer.decode(1, 900.0, 1)
    assert found.itl.mean == pytest.approx(alone, rel=0.05)
    assert found.itl.mean == pytest.approx(found.tpot.mean, rel=0.02)


def test_prompts_that_go_first_make_long_pauses(timer, load):
    sent = load(count=60, users=12, isl=1500, osl=150)
    found = summarize(EngineReplay(timer, limits(mixed=False)).run(sent))
    assert found.itl.p99 > 3 * found.itl.p50
    total = found.itl.mean * (sent.output - 1).sum()
    assert total == pytest.approx(found.running * found.duration, rel=1e-6)


def test_percentiles_of_weighted_values_are_those_of_the_repeated():
    random = np.random.default_rng(0)
    values, weights = random.random(50), random.integers(1, 9, 50).astype(float)
    repeated = np.repeat(values, weights.astype(int))
    shares = np.array([0.01, 0.5, 0.9, 1.0])
    wanted = np.quantile(repeated, shares, method="inverted_cdf")
    assert weighted_percentiles(values, weights, shares) == pytest.approx(wanted)


def test_nothing_seen_is_nan():
    assert np.isnan(Spread.of(np.array([np.nan])).mean)
    assert np.isnan(Spread.weighted(np.zeros(0), np.zeros(0)).p99)


def test_causes_add_up(step, timer, load):
    found = EngineReplay(timer, limits()).run(load(count=60, users=12))
    split = causes(found.spans, step, 1, found.duration, 1)
    assert split.compute > split.communication > 0
    total = split.compute + split.communication + split.overhead
    assert total == pytest.approx(sum(found.busy))
    assert total + split.idle == pytest.approx(found.duration)
