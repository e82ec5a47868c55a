"""Invariants of the replay of prefill workers, transfer and decode workers."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.simulate.disaggregated import DecodeSide, DisaggregatedReplay, PrefillSide
from aiconf.simulate.intake import IntakeCost


def deployment(timer, *, prefill=2, decode=1, kv=1e9, transfer=1e-6, most=256):
    return DisaggregatedReplay(
        PrefillSide(timer, prefill, 1, 8192),
        DecodeSide(timer, decode, 1, most, kv),
        transfer=transfer,
        latency=1e-5,
        intake=IntakeCost(0.01),
    )


def test_every_request_finishes_in_order_of_cause(timer, load):
    sent = load(count=80, users=16)
    found = deployment(timer).run(sent)
    assert (found.first > found.sent + 0.01).all()
    assert (found.last > found.first).all()
    for when in found.sent:
        assert ((found.sent <= when) & (found.last > when)).sum() <= 16


def test_one_user_sees_prompt_transfer_and_decode(timer, load):
    sent = load(count=3, users=1, isl=1000, osl=100)
    found = deployment(timer, transfer=1e-5).run(sent)
    prompt = sent.prompt.astype(float)
    least = 0.01 + 1e-5 * prompt
    assert (found.ttft > least).all()
    alone = timer.decode(1, 1000.0, 1)
    assert found.tpot == pytest.approx(np.full(3, alone), rel=0.05)


def test_slow_transfer_delays_first_tokens_alone(timer, load):
    sent = load(count=40, users=4)
    fast, slow = deployment(timer).run(sent), deployment(timer, transfer=1e-3).run(sent)
    assert slow.ttft.mean() > fast.ttft.mean() + 0.4
    assert np.nanmean(slow.tpot) <= np.nanmean(fast.tpot) * 1.02


def test_more_prefill_workers_shorten_the_queue(timer, load):
    sent = load(count=120, users=40, isl=2000, osl=50)
    one, four = deployment(timer, prefill=1).run(sent), deployment(timer, prefill=4).run(sent)
    assert four.ttft.mean() < one.ttft.mean()
    assert four.duration < one.duration


def test_a_small_cache_makes_requests_wait_not_fail(timer, load):
    sent = load(count=60, users=30, isl=1000, osl=400)
    small = deployment(timer, kv=6000.0).run(sent)
    large = deployment(timer).run(sent)
    assert small.peak_kv <= 1.0
    assert small.duration > large.duration


def test_one_output_token_needs_no_decode_worker(timer, load):
    sent = load(count=20, users=4, osl=1)
    found = deployment(timer).run(sent)
    assert found.last == pytest.approx(found.first)
    assert np.isnan(found.tpot).all()


def test_open_loop(timer, load):
    times = np.sort(np.random.default_rng(3).uniform(0.0, 20.0, 40))
    found = deployment(timer).run(load(count=40, arrival=times))
    assert found.sent == pytest.approx(times)
