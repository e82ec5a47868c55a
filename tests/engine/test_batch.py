import numpy as np
import pytest

from aiconf.engine.batch import Batch


def test_fields_are_broadcast_to_one_length():
    batch = Batch.of(decode=[1, 2, 3], context=100)
    assert len(batch) == 3
    assert batch.context.tolist() == [100.0] * 3
    assert batch.drafted.tolist() == [1.0] * 3
    assert batch.decode.dtype == np.float64


def test_plain_numbers_make_one_point():
    assert len(Batch.of(decode=4)) == 1


def test_lengths_that_do_not_agree_are_an_error():
    with pytest.raises(ValueError, match="broadcast"):
        Batch.of(decode=[1, 2], context=[1, 2, 3])


def test_points_are_taken_by_index():
    batch = Batch.of(decode=[1, 2, 3], context=[10, 20, 30])
    assert batch[np.array([2, 0])].context.tolist() == [30.0, 10.0]
    assert len(batch[1:]) == 2
