"""Batches of requests and where their tokens lie."""

import pytest

from profilers import paged
from profilers.paged import Requests
from profilers.source import Source


def test_ragged_lengths_spread_around_their_mean():
    some = Requests.ragged(8, 100, 1000)
    past = [seen - new for new, seen in zip(some.new, some.seen, strict=True)]
    assert sum(some.new) == pytest.approx(800, abs=8)
    assert sum(past) == pytest.approx(8000, abs=8)
    assert 50 <= min(some.new) < 60
    assert 140 < max(some.new) <= 150
    assert past == sorted(past)
    assert some.new != tuple(sorted(some.new))
    assert Requests.ragged(5, 1, 10).new == (1,) * 5


@pytest.mark.parametrize("window", [0, 1, 7, 1000])
def test_pairs_and_keys_are_those_that_causal_attention_sees(window):
    some = Requests((5, 1, 30), (5, 40, 70))
    pairs = keys = 0
    for new, seen in zip(some.new, some.seen, strict=True):
        ranges = [
            range(max(0, at - window + 1) if window else 0, at + 1)
            for at in range(seen - new, seen)
        ]
        pairs += sum(map(len, ranges))
        keys += len(set().union(*ranges))
    assert (some.pairs(window), some.keys(window)) == (pairs, keys)


def test_pages_are_scattered_and_no_one_shares_one():
    torch = pytest.importorskip("torch")
    some = Requests((3, 1, 20), (40, 33, 20))
    found = paged.pages(Source.of("cpu", 0, "test"), some)
    held = found.table[found.table > 0].tolist()
    assert sorted(held) == list(range(1, found.count))
    assert held != sorted(held)
    slots = [paged.seen_by(found, token, 0) for token in range(some.tokens)]
    assert [len(s) for s in slots] == [38, 39, 40, 33, *range(1, 21)]
    # The last token that a new token sees is itself.
    assert [int(s[-1]) for s in slots] == found.slots.tolist()
    assert len(torch.cat([slots[2], slots[3], slots[-1]]).unique()) == 93
