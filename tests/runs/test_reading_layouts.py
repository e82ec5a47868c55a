"""What rows say about layouts, versions and settings, read as the engines ran them."""

import pytest

from aiconf.parallel import Parallel
from aiconf.runs.history import kv_dtype, past_facts
from aiconf.runs.layouts import both_sides, by_rank_batch
from aiconf.runs.measured import Workers


def test_sides_that_state_one_rank_for_many_gpus_are_plain_or_wide_by_their_size():
    text = "workers=1;tp=1;ep=1;dp_attn=true;gpus={}"
    prefill, decode = both_sides(text.format(4), text.format(4))
    assert (prefill.parallel, decode.parallel) == (Parallel(4), Parallel(4))
    prefill, decode = both_sides(text.format(4), text.format(32))
    assert prefill.parallel == Parallel(1, 1, 4, 4)
    assert decode.parallel == Parallel(1, 1, 32, 32)


def test_stated_sides_are_taken_as_they_are():
    prefill, decode = both_sides(
        "workers=2;tp=4;ep=4;dp_attn=true;gpus=8", "workers=3;tp=8;ep=1;dp_attn=false;gpus=24"
    )
    assert prefill == Workers(Parallel(1, 1, 4, 4), 2)
    assert decode == Workers(Parallel(8), 3)


@pytest.mark.parametrize(
    ("users", "share", "moe", "expected"),
    [
        ("80", "10", True, Workers(Parallel(1, 1, 8, 8), 1)),
        ("416", "13", False, Workers(Parallel(8, 1, 1, 8), 32)),
        ("64", "64", True, Workers(Parallel(8, 1, 1, 8), 1)),
        ("16", "8", False, Workers(Parallel(8, 1, 1, 8), 1)),
        ("64", "", True, Workers(Parallel(8, 1, 1, 8), 1)),
    ],
)
def test_a_batch_per_rank_tells_attention_replicas_and_workers(users, share, moe, expected):
    cells = {"notes": "AIC_fields", "concurrency_or_rate": users, "max_batch": share}
    given = Workers(Parallel(8, 1, 1, 8))
    assert by_rank_batch(cells, given, moe=moe) == expected
    assert by_rank_batch(cells | {"notes": ""}, given, moe=moe) == given


def test_old_versions_differ_and_new_ones_do_not():
    assert ("graphs.prefill", "none") in past_facts("sglang", "v0.5.6-cu129", "")
    assert past_facts("sglang", "0.5.14", "2025-01-01") == ()
    assert past_facts("sglang", "", "2026-01-15")
    assert past_facts("sglang", "", "") == ()
    assert [name for name, _ in past_facts("vllm", "0.12.0", "")] == [
        "norm_in_all_reduce", "scheduler.async_scheduling",
    ]  # fmt: skip
    assert kv_dtype("vllm", "0.11.2", "") == "bf16"
    assert kv_dtype("vllm", "0.12.0", "") is None
