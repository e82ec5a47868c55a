"""Loads over experts."""

import numpy as np
import pytest

from profilers import routing
from profilers.source import Source

SHAPES = [(1, 128, 8, 1), (5, 256, 8, 4), (40, 8, 2, 2), (300, 128, 8, 8), (64, 32, 4, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("load", ["balanced", "uniform", "power_law_1.01", "power_law_1.2"])
def test_every_token_has_different_experts(load, shape):
    pytest.importorskip("torch")
    tokens, experts, topk, ep = shape
    found = routing.chosen(Source.of("cpu", 0, load), load, tokens, experts, topk, ep)
    assert found.shape == (tokens, topk)
    assert 0 <= int(found.min()) <= int(found.max()) < experts
    assert all(len(set(row)) == topk for row in found.tolist())
    logits = routing.logits(Source.of("cpu", 1, load), found, experts)
    best = logits.topk(topk, dim=1).indices
    assert best.sort().values.tolist() == found.sort().values.tolist()


def test_balanced_is_balanced_and_a_power_law_is_not():
    pytest.importorskip("torch")

    def counts(load, ep=4):
        found = routing.chosen(Source.of("cpu", 0, load), load, 512, 64, 4, ep)
        return found.flatten().bincount(minlength=64).numpy()

    assert set(counts("balanced")) == {512 * 4 // 64}
    skewed, more = counts("power_law_1.01"), counts("power_law_1.2")
    assert skewed.sum() == more.sum() == 512 * 4
    assert skewed.max() > 4 * 32
    # The rank that is measured is the busiest.
    assert skewed.reshape(4, 16).sum(1).argmax() == 0
    assert 20 < counts("uniform").min() < 32 < counts("uniform").max() < 60


@pytest.mark.parametrize(("tokens", "experts", "topk"), [(1, 8, 2), (7, 64, 8), (1000, 16, 4)])
def test_no_expert_gets_more_pairs_than_there_are_tokens(tokens, experts, topk):
    for seed in range(20):
        counts = routing.power_law(np.random.default_rng(seed), tokens, experts, topk, 1.2)
        assert counts.sum() == tokens * topk
        assert counts.max() <= tokens


def test_sets_of_inputs_hit_different_experts():
    """So that weights, which they share, are cold for each."""
    pytest.importorskip("torch")
    hit = [
        set(routing.chosen(Source.of("cpu", 0, "x", copy), "balanced", 1, 256, 8, 1)[0].tolist())
        for copy in range(8)
    ]
    assert len(set().union(*hit)) > 40
