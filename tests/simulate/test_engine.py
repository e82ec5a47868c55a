"""Invariants of the replay of one engine, and its agreement with the closed form."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.errors import UserError
from aiconf.serving.aggregated import aggregated
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.lengths import uniform_lengths
from aiconf.simulate.limits import Limits
from aiconf.simulate.requests import Load
from aiconf.simulate.reserve import Reserve
from aiconf.workload import Workload

ROOMY = 1e9


def limits(**changes):
    return Limits(**{"token_budget": 2048, "max_sequences": 256, "kv_tokens": ROOMY,
                     "mixed": True} | changes)  # fmt: skip


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("ranks", [1, 4])
def test_every_request_finishes_in_order_of_cause(timer, load, mixed, ranks):
    sent = load(count=60, users=12)
    found = EngineReplay(timer, limits(mixed=mixed), ranks).run(sent)
    assert (found.first > found.sent).all()
    assert (found.last >= found.first).all()
    assert np.isfinite(found.tpot).all()
    # never more in flight than users
    for when in found.sent:
        assert ((found.sent <= when) & (found.last > when)).sum() <= 12


@pytest.mark.parametrize("mixed", [True, False])
def test_jumping_is_exact_where_time_is_linear(timer, load, mixed):
    """Step by step and in closed form, on a load whose contexts stay on one linear piece."""
    sent = load(count=30, users=6, isl=1500, osl=60)
    jumped = EngineReplay(timer, limits(mixed=mixed)).run(sent)
    stepped = EngineReplay(timer, limits(mixed=mixed, jump=False)).run(sent)
    assert jumped.last == pytest.approx(stepped.last, rel=2e-3)
    assert jumped.iterations == stepped.iterations


def test_jumping_equals_stepping_on_a_linear_timer(timer, load):
    """With decode attention made exactly linear in context the two agree to rounding."""

    class Linear:
        prompt_floor = timer.prompt_floor
        prompt_attention = staticmethod(timer.prompt_attention)
        mixed = staticmethod(timer.mixed)

        @staticmethod
        def decode(sequences, context, everywhere):
            return 5e-3 + 1e-5 * sequences + 1e-8 * sequences * context

    sent = load(count=60, users=9, isl=800, osl=500)
    jumped = EngineReplay(Linear(), limits()).run(sent)
    stepped = EngineReplay(Linear(), limits(jump=False)).run(sent)
    assert jumped.last == pytest.approx(stepped.last, rel=1e-9)
    assert jumped.first == pytest.approx(stepped.first, rel=1e-9)


def test_a_full_cache_preempts_and_still_finishes(timer, load):
    sent = load(count=40, users=20, isl=600, osl=600)
    tight = EngineReplay(timer, limits(kv_tokens=8000.0)).run(sent)
    roomy = EngineReplay(timer, limits()).run(sent)
    assert tight.preempted > 0
    assert tight.peak_kv <= 1.05
    assert tight.duration > roomy.duration
    assert (tight.last >= tight.first).all()


def test_reserving_output_never_preempts(timer, load):
    sent = load(count=40, users=20, isl=600, osl=600)
    safe = EngineReplay(timer, limits(kv_tokens=9000.0, reserve=Reserve(1.0, 1.0))).run(sent)
    assert safe.peak_kv <= 1.0


def test_a_request_longer_than_the_cache_is_refused(timer, load):
    with pytest.raises(UserError, match="exceeds the KV cache"):
        EngineReplay(timer, limits(kv_tokens=500.0)).run(load(isl=1000))


def test_bad_loads_are_refused():
    with pytest.raises(UserError):
        Load(np.array([], dtype=np.int64), np.array([], dtype=np.int64), None, 1)
    with pytest.raises(UserError):
        Load(np.array([1]), np.array([0]), None, 1)
    with pytest.raises(UserError):
        Load(np.array([1]), np.array([1]), None, 0)


def test_open_loop_keeps_the_arrivals(timer, load):
    times = np.sort(np.random.default_rng(3).uniform(0.0, 20.0, 40))
    found = EngineReplay(timer, limits(intake=IntakeCost(0.01))).run(load(count=40, arrival=times))
    assert found.sent == pytest.approx(times)
    assert (found.ttft > 0.01).all()


def test_prefill_first_stalls_decodes(timer, load):
    """Prompts that take whole iterations give a lower TTFT and a higher TPOT."""
    sent = load(count=80, users=16, isl=1800, osl=300)
    first = EngineReplay(timer, limits(mixed=False)).run(sent)
    mixed = EngineReplay(timer, limits(mixed=True, token_budget=512)).run(sent)
    assert first.ttft.mean() < mixed.ttft.mean()


@pytest.mark.parametrize("users", [1, 8, 64])
def test_closed_form_agrees_in_steady_state(step, timer, users):
    random = np.random.default_rng(0)
    count = max(8 * users, 40)
    prompt, output = uniform_lengths(random, count, 1100, 440, 0.8)
    found = EngineReplay(timer, limits(token_budget=8192)).run(Load(prompt, output, None, users))
    steady = slice(count // 3, count - users) if users > 1 else slice(None)
    want = aggregated(
        step, Workload(round(1100 * 0.9), round(440 * 0.9)),
        np.array([float(users)]), np.array([8192.0]),
    )  # fmt: skip
    tpot = np.nanmean(found.tpot[steady])
    assert want.tpot[0] == pytest.approx(tpot, rel=0.05)
    outside = step.traits.host.seconds_per_request
    assert want.ttft[0] - outside == pytest.approx(found.ttft[steady].mean(), rel=0.3)


def test_the_next_chunk_of_a_prompt_starts_before_the_last_stage_is_done(timer):
    """Four chunks of which three are followed after a quarter of their time."""
    load = Load(np.array([4000]), np.array([2]), None, 1)
    limits = dict(token_budget=1000, max_sequences=4, kv_tokens=1e6, mixed=True)
    whole = EngineReplay(timer, Limits(**limits)).run(load)
    each = EngineReplay(timer, Limits(**limits, chunk_share=0.25)).run(load)
    last = timer.mixed(1000, 1000, 0, 0.0, timer.prompt_attention(1000, 3000), 1)
    assert each.ttft[0] == pytest.approx(0.25 * (whole.ttft[0] - last) + last)
    assert (each.last - each.first)[0] == pytest.approx((whole.last - whole.first)[0])
