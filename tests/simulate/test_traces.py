"""Traces are told apart by content, and bad ones refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from aiconf.errors import UserError
from aiconf.simulate.traces import read_trace

MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 20, "output_length": 5, "hash_ids": [2]}
{"timestamp": 1500, "input_length": 30, "output_length": 0}
"""
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:05,100,1
"""
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n2.5,374,44\n0.5,396,109\n"
LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens\n3772,54,3826\n2015,156,2171\n"


def written(tmp_path, text):
    path = tmp_path / "trace"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_mooncake(tmp_path):
    found = read_trace(written(tmp_path, MOONCAKE))
    assert found.form == "Mooncake JSONL"
    assert found.arrival.tolist() == [0.0, 3.0]
    assert found.prompt.tolist() == [6758, 20]
    assert found.output.tolist() == [500, 5]
    assert found.left_out == 1


def test_azure(tmp_path):
    found = read_trace(written(tmp_path, AZURE))
    assert found.form == "Azure LLM inference CSV"
    assert found.arrival == pytest.approx([0.0, 0.052, 1.02004], abs=1e-6)
    assert found.prompt.tolist() == [4808, 3180, 100]


def test_vidur_is_sorted_by_arrival(tmp_path):
    found = read_trace(written(tmp_path, VIDUR))
    assert found.arrival.tolist() == [0.0, 2.0]
    assert found.prompt.tolist() == [396, 374]


def test_lengths_alone_have_no_arrivals(tmp_path):
    found = read_trace(written(tmp_path, LENGTHS))
    assert found.arrival is None
    assert np.array_equal(found.output, [54, 156])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a trace that is known: Mooncake JSONL, Azure"),
        ("a,b\n1,2\n", "is not a trace that is known"),
        ("[1, 2]\n", "is not a trace that is known"),
        ('{"timestamp": 0}\n', "is not a trace that is known"),
        ("{" * 5000, "line 1 is not JSON"),
        (MOONCAKE + "[]\n", "line 4 is not a JSON object"),
        (MOONCAKE + "{oops\n", "line 4 is not JSON"),
        (MOONCAKE + '{"timestamp": 9}\n', "line 4: input_length 'None'"),
        (AZURE + "2023-11-16 18:17:04,-3,8\n", "line 5: ContextTokens '-3'"),
        (AZURE + "yesterday,3,8\n", "line 5: TIMESTAMP 'yesterday' is not a time"),
        (AZURE + "2023-11-16 18:17:04,3.5,8\n", "line 5: ContextTokens '3.5'"),
        (VIDUR + "nan,3,8\n", "line 4: arrived_at 'nan'"),
        (VIDUR + "1.0,inf,8\n", "line 4: num_prefill_tokens 'inf'"),
        ("num_prefill_tokens,num_decode_tokens\n5,0\n", "holds no request with output"),
        (b"\xff\xfe\x00\x01", "is not a text file"),
        (b"\x00\x00\x00", "is not a"),
    ],
)
def test_bad_traces_are_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(UserError) as caught:
        read_trace(written(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_trace(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot read"):
        read_trace(tmp_path)
