"""Experts behind an all-to-all are read from the tables that were taken so."""

import numpy as np
import pytest

from aiconf.perf.moe import Experts, moe_seconds
from aiconf.perf.origin import Origin
from aiconf.perf.wide_moe import wide_moe_seconds

V3 = Experts(7168, 2048, 8, 256, 1, 32)
TOKENS = np.array([64.0, 512.0, 4096.0, 65536.0])


def test_measured_shapes_are_measured_and_never_get_faster_with_tokens(embedded):
    time, origin = wide_moe_seconds(
        embedded("gb200", "sglang"), "fp8_block", V3, TOKENS, balanced=True
    )
    assert (np.diff(time) >= 0).all()
    assert origin[1] == Origin.MEASURED


def test_a_load_balancer_helps_where_many_tokens_meet_few_experts(embedded):
    place = embedded("gb200", "trtllm")
    even, skewed = (
        wide_moe_seconds(place, "nvfp4", V3, TOKENS, balanced=balanced)[0]
        for balanced in (True, False)
    )
    assert even[2] < 0.8 * skewed[2]


def test_prompts_of_eight_ranks_cost_a_fraction_of_what_all_tokens_everywhere_do(embedded):
    place, shape = embedded("gb200", "sglang"), Experts(7168, 2048, 8, 256, 1, 8)
    sent = wide_moe_seconds(place, "fp8_block", shape, [65536.0], balanced=False)[0]
    gathered = moe_seconds(place, "fp8_block", shape, [65536.0], attention_dp=True)[0]
    assert sent[0] < 0.5 * gathered[0]


def test_other_experts_and_split_ones_are_not_answered(embedded):
    place = embedded("gb200", "sglang")
    small = Experts(64, 64, 2, 8, 1, 8)
    assert wide_moe_seconds(place, "bf16", small, [8.0], balanced=False) is None
    split = Experts(7168, 2048, 8, 256, 2, 8)
    assert wide_moe_seconds(place, "fp8_block", split, [8.0], balanced=False) is None


def test_a_precision_without_a_table_takes_the_efficiency_of_fp8_blocks(embedded):
    place = embedded("h200_sxm", "sglang")
    time, origin = wide_moe_seconds(place, "fp8", V3, TOKENS, balanced=True)
    assert (origin == Origin.FALLBACK).all()
    own = wide_moe_seconds(place, "fp8_block", V3, TOKENS, balanced=True)[0]
    assert time == pytest.approx(own, rel=0.02)  # as many bytes, as many products
