"""Replay of speculative decoding."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.engine.speculation import Speculation
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.disaggregated import DecodeSide, DisaggregatedReplay, PrefillSide
from aiconf.simulate.engine import EngineReplay
from aiconf.simulate.intake import IntakeCost
from aiconf.simulate.limits import Limits
from aiconf.simulate.reserve import NO_RESERVE, Reserve
from aiconf.simulate.timer import IterationTimer

KIND = Speculation(3, 0.8)


class Linear:
    """Iteration time linear in the context, so that closed form and steps must agree."""

    prompt_floor = 0.0

    @staticmethod
    def prompt_attention(chunk, past):
        return 1e-7 * chunk * (1 + past * 1e-4)

    @staticmethod
    def mixed(tokens, everywhere, decode, context, attention, sampled):
        return 4e-3 + 1e-6 * tokens + attention + 1e-8 * decode * context

    @staticmethod
    def decode(sequences, context, everywhere):
        return 5e-3 + 1e-5 * sequences + 1e-8 * sequences * context


WHOLE, SINKING = Reserve(1.0, 1.0), Reserve(1.0, 0.7, 0.14, 60)


def limits(**changes):
    return Limits(**{"token_budget": 2048, "max_sequences": 256, "kv_tokens": 1e9,
                     "mixed": True} | changes)  # fmt: skip


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("kv", [1e9, 9000.0])
@pytest.mark.parametrize("reserve", [NO_RESERVE, WHOLE, SINKING])
@pytest.mark.parametrize("kind", [None, KIND])
def test_jumping_equals_stepping(load, mixed, ranks, kv, reserve, kind):
    sent = load(count=60, users=18, isl=800, osl=500)
    sides = [
        EngineReplay(
            Linear(), limits(mixed=mixed, kv_tokens=kv, reserve=reserve, jump=jump), ranks, kind
        ).run(sent)
        for jump in (True, False)
    ]
    jumped, stepped = sides
    assert jumped.last == pytest.approx(stepped.last, rel=1e-9)
    assert jumped.first == pytest.approx(stepped.first, rel=1e-9)
    assert jumped.preempted == stepped.preempted
    assert jumped.peak_kv <= 1.0


def test_one_user_gains_the_expected_tokens(load):
    sent = load(count=40, users=1, osl=400)
    plain = EngineReplay(Linear(), limits()).run(sent)
    drafted = EngineReplay(Linear(), limits(), speculation=KIND).run(sent)
    # The same iterations, of which each gains that many tokens.
    assert np.nanmean(plain.tpot) / np.nanmean(drafted.tpot) == pytest.approx(
        KIND.expected, rel=0.03
    )
    assert np.nanstd(drafted.tpot) > np.nanstd(plain.tpot)


def test_certain_drafts_take_whole_numbers_of_iterations(load):
    sent = load(count=3, users=1, isl=100, osl=400)
    found = EngineReplay(Linear(), limits(), speculation=Speculation(3, 1.0)).run(sent)
    needed = -(-(sent.output - 1) // 4)
    assert found.iterations == needed.sum() + 3


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_disaggregated_decoding_gains_them_too(timer, load, rate):
    sent = load(count=30, users=1, osl=300)

    def deployment(kind):
        return DisaggregatedReplay(
            PrefillSide(timer, 1, 1, 8192), DecodeSide(timer, 1, 1, 64, 1e9),
            transfer=1e-7, latency=1e-5, intake=IntakeCost(), speculation=kind,
        ).run(sent)  # fmt: skip

    plain, drafted = deployment(None), deployment(Speculation(2, rate))
    gain = np.nanmean(plain.tpot) / np.nanmean(drafted.tpot)
    assert gain == pytest.approx(1.0 + 2.0 * rate, rel=0.05)


def test_a_timer_with_drafts_adds_verification_and_draft_passes():
    spec, place = load_model("DeepSeek-R1", "fp8"), platform("b200_sxm", "sglang")
    layout = Parallel(8)
    step, draft = place.step(spec, layout, "fp8"), place.draft(spec, layout, "fp8")
    plain = IterationTimer(step, 4096, 128, 8192)
    times = [IterationTimer(step, 4096, 128, 8192, draft, k) for k in (1, 2, 3)]
    decode = [plain.decode(32, 3000.0, 32), *(t.decode(32, 3000.0, 32) for t in times)]
    assert (np.diff(decode) > 0).all()
    assert decode[3] < 2.5 * decode[0]
    prompt = plain.mixed(4000, 4000, 0, 0.0, plain.prompt_attention(4000, 0), 1)
    with_draft = times[2].mixed(4000, 4000, 0, 0.0, times[2].prompt_attention(4000, 0), 1)
    assert 1.005 < with_draft / prompt < 1.1  # one more layer of 61
