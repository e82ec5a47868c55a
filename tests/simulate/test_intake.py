"""The way in: a wave comes through together, later requests one after another."""

import pytest

from aiconf.simulate.intake import Intake, IntakeCost

COST = IntakeCost(delay=0.010, request=0.001, token=1e-6)


def test_requests_of_a_wave_come_through_together_when_the_work_of_all_is_done():
    intake = Intake(COST)
    intake.wave(0.0, range(3), [1000, 2000, 3000])
    times = []
    for expected in range(3):
        times.append(intake.next())
        assert intake.take() == expected
    assert times == pytest.approx([0.010 + 3 * 0.001 + 6000e-6] * 3)
    assert intake.next() == float("inf")


def test_later_requests_queue_for_the_event_loop():
    intake = Intake(COST)
    intake.enter(1.0, 7, 1000)
    intake.enter(1.0, 8, 1000)
    intake.enter(9.0, 9, 1000)
    times = []
    for expected in (7, 8, 9):
        times.append(intake.next())
        assert intake.take() == expected
    assert times == pytest.approx([1.012, 1.014, 9.012])
