import math

import pytest

from aiconf.errors import UserError
from aiconf.units import from_ms, to_ms
from aiconf.workload import Sla, Workload


def test_what_is_computed_and_what_is_cached():
    work = Workload(4000, 500, 1000)
    assert work.new_tokens == 3000
    assert work.mean_context == pytest.approx(4000 + 501 / 2)


@pytest.mark.parametrize("bad", [0, -1, 1.5, math.nan, math.inf, True])
@pytest.mark.parametrize("name", ["isl", "osl"])
def test_lengths_are_whole_and_positive(name, bad):
    with pytest.raises(UserError, match=f"{name} must be a whole number of at least 1"):
        Workload(**({"isl": 10, "osl": 10} | {name: bad}))


def test_the_prefix_is_shorter_than_the_prompt():
    assert Workload(10, 1, 9).new_tokens == 1
    with pytest.raises(UserError, match="the longest is 9"):
        Workload(10, 1, 10)
    with pytest.raises(UserError, match="prefix must be a whole number of at least 0"):
        Workload(10, 1, -1)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("name", ["ttft", "tpot", "latency"])
def test_targets_are_positive(name, bad):
    with pytest.raises(UserError, match=f"{name} target"):
        Sla(**{name: bad})


def test_no_target_is_infinite():
    assert Sla() == Sla(math.inf, math.inf, math.inf)


def test_units():
    assert to_ms(0.25) == 250.0
    assert from_ms(to_ms(0.125)) == 0.125
