"""What a replay changes in the order that the closed forms give."""

from dataclasses import replace

import pytest

from aiconf.api import estimate, search
from aiconf.errors import UserError
from aiconf.search import finalists
from aiconf.search.finalists import settled
from aiconf.search.verify import replayed

TASK = ("QWEN3_32B", "h200_sxm", 8, 4000, 500, 600, 15)


@pytest.fixture(scope="module")
def found():
    return search(*TASK)


def test_winners_whose_replay_keeps_the_targets_stay(found):
    done = settled(found.outcome)
    assert done.passed == {"agg": 0, "disagg": 0}
    assert done.outcome is found.outcome
    for mode, seen in done.replays.items():
        assert seen == replayed(found.request, found.outcome.top[mode][0])


def test_a_winner_that_breaks_a_target_gives_way_to_one_that_keeps_it(found, monkeypatch):
    first = found.outcome.top["disagg"][0]

    def slowed(request, one, seed=0):
        """The search's first takes a third longer to its first token than the closed form says."""
        seen = replayed(request, one, seed)
        if one.value("concurrency") >= first.value("concurrency"):
            longer = replace(seen.ttft, mean=request.sla.ttft * 1.33)
            return replace(seen, ttft=longer)
        return seen

    monkeypatch.setattr(finalists, "replayed", slowed)
    done = settled(found.outcome)
    mine = done.outcome.top["disagg"][0]
    assert done.passed["disagg"] >= 1
    assert mine.value("concurrency") < first.value("concurrency")
    assert done.replays["disagg"].ttft.mean <= found.request.sla.ttft * 1.05
    assert len(done.outcome.top["disagg"]) == len(found.outcome.top["disagg"])
    assert first in done.outcome.top["disagg"][1:]


def test_another_layout_takes_over_where_all_tightened_ones_break(found, monkeypatch):
    """What one layout breaks says nothing of the others, which are tried as they are."""
    first = found.outcome.top["disagg"][0]
    broken = finalists._layouts(first)

    def slowed(request, one, seed=0):
        seen = replayed(request, one, seed)
        if finalists._layouts(one) == broken:  # far beyond what any tightening reaches
            return replace(seen, ttft=replace(seen.ttft, mean=request.sla.ttft * 50.0))
        return seen

    monkeypatch.setattr(finalists, "replayed", slowed)
    done = settled(found.outcome)
    mine = done.outcome.top["disagg"][0]
    assert finalists._layouts(mine) != broken
    assert mine.value("request_rate") >= 0.8 * first.value("request_rate")
    assert done.replays["disagg"].ttft.mean <= found.request.sla.ttft * 1.05


def test_the_first_of_a_ranking_is_the_best_of_its_engine(found):
    first = found.outcome.top["disagg"][0]
    mine = finalists._best(first.side, found.request)
    assert (mine.place, mine.value("gpus")) == (first.place, first.value("gpus"))
    other = finalists._best(first.side, found.request, {finalists._layouts(first)})
    assert finalists._layouts(other) != finalists._layouts(first)


def test_the_order_stays_where_nothing_keeps_the_targets(found, monkeypatch):
    def broken(request, one, seed=0):
        seen = replayed(request, one, seed)
        return replace(seen, tpot=replace(seen.tpot, mean=request.sla.tpot * 2.0))

    monkeypatch.setattr(finalists, "replayed", broken)
    done = settled(found.outcome)
    assert done.outcome is found.outcome
    assert not any(done.passed.values())


def test_one_search_that_the_replay_corrects_says_so():
    found = search(*TASK[:2], 8, 4000, 500, 250, 25, backend="trtllm", mode="agg")
    passed = found.settled.passed["agg"]
    assert passed > 0
    assert found.document["replayed"]["agg"]["passed"] == passed
    assert any(f"{passed} that the search ranks" in note for note in found.document["notes"])
    right = search(*TASK[:5], 600, 15, backend="trtllm", mode="agg")
    assert right.settled.passed["agg"] == 0
    assert not any("stand behind" in note for note in right.document["notes"])


def test_engines_are_settled_one_by_one():
    """What one engine's replay breaks does not tighten the targets of another."""
    both = search(*TASK[:6], 20, backend="any", mode="agg")
    alone = search(*TASK[:6], 20, backend="vllm", mode="agg")
    kept = settled(alone.outcome)
    done = settled(both.outcome)
    first, other = done.outcome.best, kept.outcome.best
    assert first.value("request_rate") >= other.value("request_rate") * (1 - 1e-9)


def test_of_two_modes_the_one_that_keeps_the_targets_wins(found, monkeypatch):
    assert found.outcome.best.side.mode == "disagg"

    def broken(request, one, seed=0):
        seen = replayed(request, one, seed)
        if one.side.mode == "agg":
            return seen
        return replace(seen, ttft=replace(seen.ttft, mean=request.sla.ttft * 5.0))

    monkeypatch.setattr(finalists, "replayed", broken)
    done = settled(found.outcome)
    assert done.outcome.best.side.mode == "agg"
    assert done.outcome.top["disagg"] == found.outcome.top["disagg"]


def test_vllm_moves_no_cache_between_pipelines():
    found = search("QWEN3_32B", "h200_sxm", 32, 4000, 500, 300, 10, mode="disagg")
    for side in found.outcome.sides:
        assert {v.parallel.pp for v in (*side.variants, *side.prefill_variants)} == {1}
    with pytest.raises(UserError, match="no KV cache between pipelines"):
        estimate("qwen3-32b", "h200_sxm", "tp2pp2", prefill_layout="tp2")
    other = search("QWEN3_32B", "h200_sxm", 32, 4000, 500, 300, 10, mode="disagg", backend="trtllm")
    assert max(v.parallel.pp for side in other.outcome.sides for v in side.variants) > 1


def test_sglang_decodes_in_one_stage_or_in_as_many_as_prefill():
    found = search("QWEN3_32B", "h200_sxm", 32, 4000, 500, 300, 10, mode="disagg", backend="sglang")
    pairs = set()
    for side in found.outcome.sides:
        chosen = side.candidates.prefill_variant, side.candidates.variant
        pairs |= {
            (side.prefill_variants[p].parallel.pp, side.variants[d].parallel.pp)
            for p, d in set(zip(*chosen, strict=True))
        }
    assert {decode in (1, prefill) for prefill, decode in pairs} == {True}
    assert {(1, 1), (2, 1), (2, 2)} <= pairs
    for before, after in (("tp2", "tp2pp2"), ("tp2pp4", "tp2pp2")):
        with pytest.raises(UserError, match="or in as many as prefill has"):
            estimate("qwen3-32b", "h200_sxm", after, prefill_layout=before, backend="sglang")
    one = estimate("qwen3-32b", "h200_sxm", "tp2pp2", prefill_layout="tp4pp2", backend="sglang")
    assert one.best["tpot_ms"] > 0
