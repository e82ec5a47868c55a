import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiconf.errors import UserError
from aiconf.parallel import Parallel

sizes = st.sampled_from([1, 2, 3, 4, 8, 16, 72])


@given(sizes, sizes, sizes, sizes)
def test_what_is_written_is_read(tp, pp, dp, ep):
    if (tp * dp) % ep:
        with pytest.raises(UserError, match="does not divide"):
            Parallel(tp, pp, dp, ep)
        return
    parallel = Parallel(tp, pp, dp, ep)
    assert Parallel.parse(str(parallel)) == parallel
    assert parallel.gpus == tp * pp * dp
    assert parallel.stage_gpus * pp == parallel.gpus
    assert parallel.moe_tp * ep == parallel.stage_gpus


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tp2", Parallel(2)),
        ("TP2pp4", Parallel(2, 4)),
        (" tp2dp4ep8 ", Parallel(2, 1, 4, 8)),
        ("tp1pp1dp8ep8", Parallel(1, 1, 8, 8)),
    ],
)
def test_sizes_may_be_left_out(text, expected):
    assert Parallel.parse(text) == expected


@pytest.mark.parametrize("text", ["", "2", "tp", "tp2ep2pp1", "tp-1", "tp2 pp2"])
def test_other_spellings_are_refused_with_an_example(text):
    with pytest.raises(UserError, match="write it like tp2pp1dp4ep8"):
        Parallel.parse(text)


def test_a_layout_without_tensor_parallelism_is_offered_with_it():
    with pytest.raises(UserError, match=r"write it like tp1dp8ep8$"):
        Parallel.parse("DP8ep8")


def test_zero_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        Parallel.parse("tp0")
