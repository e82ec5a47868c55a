"""Probabilities and confidence of a search, and the replay of its finalists."""

import numpy as np
import pytest

from aiconf.api import search
from aiconf.engine.calibration import UNCALIBRATED
from aiconf.errors import UserError
from aiconf.search.confidence import intervals, probabilities
from aiconf.search.verify import replayed
from aiconf.workload import Sla

TASK = ("QWEN3_32B", "h200_sxm", 8, 4000, 500, 600, 15)


@pytest.fixture(scope="module")
def plain():
    return search(*TASK)


def test_probabilities_fall_with_tighter_targets_and_bounds_hold_the_prediction(plain):
    work = plain.request.workload
    for side in plain.outcome.sides:
        loose, tight = (
            probabilities(side, work, Sla(ttft, tpot)) for ttft, tpot in ((2.0, 0.05), (0.2, 0.01))
        )
        assert ((loose >= 0) & (loose <= 1)).all()
        assert (tight <= loose).all()
        assert (tight < loose).any()
        for low, high in intervals(side, work).values():
            assert (low < high).all()
            assert (low > 0).all()


def test_a_confidence_is_kept_and_costs_throughput(plain):
    sure = search(*TASK, confidence=0.9)
    assert sure.outcome.met
    assert sure.best["probability"] >= 0.9
    assert sure.best["meets_targets"]
    assert sure.best["output_tok_per_s_per_gpu"] < plain.best["output_tok_per_s_per_gpu"]
    assert plain.best["probability"] < 0.9
    surer = search(*TASK, confidence=0.97)
    rates = [one.best["output_tok_per_s_per_gpu"] for one in (sure, surer)]
    assert rates[1] <= rates[0]


def test_disaggregated_prefill_is_sized_for_the_confidence():
    found = search("QWEN3_32B", "h200_sxm", 16, 4000, 300, 3000, 20, mode="disagg", confidence=0.8)
    assert found.outcome.met
    assert found.best["probability"] >= 0.8


def test_a_confidence_out_of_reach_says_how_sure_the_closest_is():
    found = search("QWEN3_32B", "h200_sxm", 2, 4000, 500, 130, 9.5, confidence=0.999)
    assert not found.outcome.met
    assert "probability" in found.to_text()


def test_confidence_is_refused_outside_its_range_and_without_spreads():
    for wrong in (0.0, 1.0, -0.5, 7.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            search(*TASK, confidence=wrong)
    with pytest.raises(UserError, match="needs a calibration"):
        search(*TASK, confidence=0.9, calibration=UNCALIBRATED)
    assert search(*TASK, calibration=UNCALIBRATED).best["probability"] is None


def test_finalists_replay_near_their_closed_forms(plain):
    for mode in ("agg", "disagg"):
        found = plain.outcome.top[mode][0]
        seen = replayed(plain.request, found)
        assert seen is not None
        assert seen.tpot.mean == pytest.approx(found.value("tpot"), rel=0.08)
        assert seen.ttft.mean == pytest.approx(found.value("ttft"), rel=0.6)
        assert seen.ttft.p99 >= seen.ttft.mean
        assert np.isfinite(seen.tpot.p99)


def test_what_the_replay_cannot_do_is_left_out():
    found = search("QWEN3_32B", "h200_sxm", 8, 4000, 500, 600, 15, prefix=2000, mode="agg")
    assert replayed(found.request, found.outcome.best) is None
