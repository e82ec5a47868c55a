"""Invariants of the replay of prefill workers, transfer and decode workers."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model.library import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.deployment import disaggregated, engine
from aiconf.simulate.disaggregated import DecodeSide, DisaggregatedReplay, PrefillSide
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.lengths import uniform_lengths
from aiconf.simulate.requests import Load


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


def test_a_prefill_iteration_holds_whole_prompts_of_every_rank(timer, load):
    """Two ranks of 2,048 tokens: no rank takes more, and no prompt is cut."""
    sent = load(count=60, users=60, isl=900, osl=1)
    replay = DisaggregatedReplay(
        PrefillSide(timer, 1, 2, 2048),
        DecodeSide(timer, 1, 1, 256, 1e9),
        transfer=1e-6, latency=1e-5, intake=IntakeCost(0.01),
    )  # fmt: skip
    found = replay.run(sent)
    longest = found.spans.prompt_tokens.max()
    assert longest <= 2048
    assert longest > 2048 - 900
    # Prompts have 450 tokens or more: no rank computes five at once.
    assert np.unique(found.first, return_counts=True)[1].max() <= 8


def test_a_prefill_rank_keeps_to_its_number_of_prompts(timer, load):
    sent = load(count=40, users=40, isl=200, osl=1)
    replay = DisaggregatedReplay(
        PrefillSide(timer, 1, 2, 8192, most=3),
        DecodeSide(timer, 1, 1, 256, 1e9),
        transfer=1e-6, latency=1e-5, intake=IntakeCost(0.01),
    )  # fmt: skip
    assert np.unique(replay.run(sent).first, return_counts=True)[1].max() == 6


def test_users_beyond_the_decode_slots_wait_for_one(timer, load):
    """Their wait is in TTFT: with every slot taken, users in excess over the rate."""
    sent = load(count=400, users=80, isl=100, osl=200)
    slots = deployment(timer, most=64).run(sent)
    free = deployment(timer).run(sent)
    steady = slice(160, 320)
    assert np.median(slots.ttft[steady]) > 3 * np.median(free.ttft[steady])
    rate = 240 / (np.sort(slots.last)[319] - np.sort(slots.last)[79])
    assert np.median(slots.ttft[steady]) == pytest.approx((80 - 64) / rate, rel=0.35)


def test_hundreds_of_short_prompts_share_a_large_prefill_budget():
    place = platform("h200_sxm", "vllm")
    large = engine(
        place, load_model("Llama-3.1-8B"), Parallel(1), isl=100, osl=8, token_budget=65536
    )
    load = Load(*uniform_lengths(np.random.default_rng(0), 600, 100, 8, 0.8), None, 300)
    found = disaggregated(large, 1, large, 1, load)
    assert found.spans.prompt_tokens.max() > 130 * 80  # in one iteration
    few = disaggregated(large, 1, large, 1, load, prompts=4)
    assert few.spans.prompt_tokens.max() <= 4 * 100
