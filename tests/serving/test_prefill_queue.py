import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiconf.serving.disaggregated import (
    MAX_UTILISATION,
    prefill_wait,
    prefill_workers_needed,
    transfer_seconds,
)
from aiconf.system import load_system

H200 = load_system("h200_sxm")


def test_an_idle_queue_does_not_wait_and_a_full_one_waits_long():
    wait = prefill_wait(np.array([0.0, 0.5, 0.9, 0.99]), 1.0, np.ones(4))
    assert wait[0] == 0.0
    assert (np.diff(wait) > 0).all()
    # M/D/1: rho / (2 (1 - rho)) services (Pollaczek and Khinchine).
    assert wait[1] == pytest.approx(0.5)


def test_more_workers_at_one_load_wait_less():
    wait = prefill_wait(np.full(3, 0.8), 1.0, np.array([1.0, 2.0, 8.0]))
    assert (np.diff(wait) < 0).all()


@settings(max_examples=200, deadline=None)
@given(st.floats(0.01, 1e4), st.floats(0.01, 1e3), st.floats(1e-3, 10.0), st.floats(-1.0, 100.0))
def test_needed_workers_are_enough_and_the_fewest(demand, rate, seconds, slack):
    slack_array = np.array([slack])
    count = prefill_workers_needed(np.array([demand]), rate, seconds, slack_array)
    allowed = max(slack, 0.5 * seconds)

    def enough(workers):
        load = demand / (workers * rate)
        if load > MAX_UTILISATION * (1 + 1e-9):
            return False
        wait = prefill_wait(np.array([load]), seconds, np.array([workers]))[0]
        return wait <= allowed * (1 + 1e-6)

    assert count[0] >= 1
    assert enough(count[0])
    assert count[0] == 1 or not enough(count[0] - 1.001)


def test_a_transfer_over_the_network_is_slower_than_over_nvlink():
    moved = np.array([1e6, 1e9, 1e11])
    near = transfer_seconds(H200, H200, moved, near=True)
    far = transfer_seconds(H200, H200, moved, near=False)
    assert (far > near).all()
    assert far[1] == pytest.approx(1e9 / H200.network_bandwidth + H200.network_latency)
