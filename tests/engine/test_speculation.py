"""Speculative decoding: expected tokens, drawn iterations, verification and draft time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiconf.engine.batch import Batch
from aiconf.engine.platform import platform
from aiconf.engine.speculation import Speculation, acceptance_of
from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.memory import weight_bytes
from aiconf.parallel import Parallel


@given(st.integers(1, 7), st.floats(0.0, 1.0))
def test_expected_tokens_are_the_geometric_sum(drafts, rate):
    assert Speculation(drafts, rate).expected == pytest.approx(
        sum(rate**i for i in range(drafts + 1))
    )


@given(st.integers(1, 5), st.floats(0.05, 1.0), st.floats(0.5, 1.0))
def test_acceptance_length_is_inverted(drafts, rate, decay):
    length = Speculation(drafts, rate, decay).expected
    assert acceptance_of(length, drafts, decay) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("tokens", [5, 20, 199, 1000])
@pytest.mark.parametrize("kind", [Speculation(1, 0.8), Speculation(3, 0.8, 0.9)])
def test_mean_iterations_are_those_that_are_drawn(kind, tokens):
    drawn = kind.iterations(np.random.default_rng(2), np.full(20000, tokens, dtype=np.int64))
    assert kind.rounds(tokens) == pytest.approx(drawn.mean(), rel=0.06 if tokens < 10 else 0.01)
    assert kind.rounds(0) == 0.0


def test_drawn_iterations_have_the_mean_and_spread_of_the_sum():
    kind = Speculation(3, 0.8, 0.9)
    tokens = np.full(4000, 1000, dtype=np.int64)
    found = kind.iterations(np.random.default_rng(1), tokens)
    # Renewal theory: mean L / mu, variance L sigma^2 / mu^3 (Cox, Renewal Theory, 4.2).
    assert found.mean() == pytest.approx(1000 / kind.expected, rel=0.01)
    assert found.var() == pytest.approx(1000 * kind.variance / kind.expected**3, rel=0.1)
    again = kind.iterations(np.random.default_rng(1), tokens)
    assert (found == again).all()


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 4), st.floats(0.0, 1.0))
def test_iterations_lie_between_all_kept_and_none_kept(tokens, drafts, rate):
    wanted = np.array(tokens, dtype=np.int64)
    found = Speculation(drafts, rate).iterations(np.random.default_rng(0), wanted)
    assert (found >= -(-wanted // (drafts + 1))).all()
    assert (found <= wanted).all()


def test_nothing_kept_and_all_kept_are_exact():
    wanted = np.array([1, 7, 8, 100], dtype=np.int64)
    random = np.random.default_rng(0)
    assert (Speculation(3, 0.0).iterations(random, wanted) == wanted).all()
    assert (Speculation(3, 1.0).iterations(random, wanted) == [1, 2, 2, 25]).all()


@pytest.mark.parametrize(("drafts", "rate"), [(0, 0.5), (1, 1.5), (1, -0.1), (1, float("nan"))])
def test_impossible_drafts_are_refused(drafts, rate):
    with pytest.raises(UserError):
        Speculation(drafts, rate)


def test_impossible_acceptance_length_is_refused():
    with pytest.raises(UserError, match="impossible with 2 drafts"):
        acceptance_of(3.5, 2)


@pytest.mark.parametrize(
    ("system", "backend", "model", "precision", "layout"),
    [
        ("h200_sxm", "vllm", "qwen3-32b", "fp8", "tp4"),
        ("b200_sxm", "sglang", "DeepSeek-R1", "fp8", "tp8"),
    ],
)
def test_verification_costs_between_one_and_many_tokens(system, backend, model, precision, layout):
    spec, place = load_model(model, precision), platform(system, backend)
    step = place.step(spec, Parallel.parse(layout), spec.quantization.kv)
    sizes = np.array([1.0, 8.0, 32.0])
    one = step.seconds(Batch.of(decode=sizes, context=4000.0))
    four = step.seconds(Batch.of(decode=sizes, context=4000.0, drafted=4.0))
    many = step.seconds(Batch.of(decode=sizes * 4.0, context=4000.0))
    assert (four >= one).all()
    assert (four <= many * 1.05).all()  # the cache is read once, not four times
    mixed = step.seconds(Batch.of(decode=[8.0, 8.0], context=4000.0, drafted=[1.0, 4.0]))
    assert mixed == pytest.approx([one[1], four[1]], rel=1e-9)


def test_a_draft_layer_takes_time_and_memory():
    spec, place = load_model("DeepSeek-R1", "fp8"), platform("h200_sxm", "sglang")
    layout = Parallel(8)
    step = place.step(spec, layout, "bf16")
    draft = place.draft(spec, layout, "bf16")
    batch = Batch.of(decode=16.0, context=2000.0)
    share = float(draft.seconds(batch)[0] / step.seconds(batch)[0])
    assert 0.01 < share < 0.1  # one of 61 layers, and the output head again
    extra = weight_bytes(spec, layout, mtp=True) - weight_bytes(spec, layout)
    assert extra == pytest.approx(weight_bytes(spec, layout) / 61, rel=0.25)
    sizes = {"token_budget": 8192, "max_sequences": 64, "kv_dtype": "bf16"}
    without = place.capacity(spec, layout, **sizes)
    with_draft = place.capacity(spec, layout, **sizes, drafting=True)
    assert with_draft.kv < without.kv
    ratio = float(with_draft.sequence_bytes(1000)) / float(without.sequence_bytes(1000))
    assert ratio == pytest.approx(62 / 61)


def test_a_model_without_mtp_layers_gets_a_draft_of_one_layer():
    spec, place = load_model("qwen3-32b", "fp8"), platform("h200_sxm", "vllm")
    draft = place.draft(spec, Parallel(4), spec.quantization.kv)
    assert draft.spec.layer_count == 1
    assert weight_bytes(spec, Parallel(4), mtp=True) > weight_bytes(spec, Parallel(4))
