"""What one rank does: prepare something that fails on rank 1 alone; all ranks must hear of it."""

from profilers.nccl_kernels import _agreed
from profilers.team import ranks, team


def fails_on_one():
    if ranks().rank == 1:
        raise ValueError("no peer access")
    return "made"


with team("cpu") as everyone:
    assert _agreed(2, lambda: "made") == ("made" if everyone.rank < 2 else None)
    try:
        _agreed(3, fails_on_one)
    except RuntimeError as error:
        assert str(error) == "ValueError: no peer access"
    else:
        raise AssertionError(f"rank {everyone.rank} did not hear of it")
    assert everyone.share(everyone.rank) == 0
