import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiconf.search.candidates import pareto

values = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=0, max_size=60
)  # few distinct values, so that ties are common


@settings(max_examples=200, deadline=None)
@given(values)
def test_the_front_is_what_brute_force_finds(points):
    speed = np.array([p[0] for p in points], dtype=float)
    rate = np.array([p[1] for p in points], dtype=float)
    front = pareto(speed, rate)
    dominated = [
        any(
            s >= speed[i] and r >= rate[i] and (s > speed[i] or r > rate[i])
            for s, r in zip(speed, rate, strict=True)
        )
        for i in range(len(points))
    ]
    expected = {p for p, beaten in zip(points, dominated, strict=True) if not beaten}
    assert {(int(speed[i]), int(rate[i])) for i in front} == expected
    assert len(front) == len(expected)  # of equal points one stays
    assert (np.diff(speed[front]) < 0).all()
    assert (np.diff(rate[front]) > 0).all()
