"""Replayed predictions against real runs; the bounds are loose ones, far from what luck decides."""

import numpy as np
import pytest


def errors(checked, metric, hardware=None, backend=None, model=None, mode=None):
    wanted = (hardware, backend, model, mode)
    found = [
        one.error(metric) for one in checked
        if all(want in (None, has) for want, has in zip(wanted, one.group, strict=True))
    ]  # fmt: skip
    known = np.array([error for error in found if error is not None])
    assert len(known) >= 5
    return np.abs(known)


def test_nearly_every_row_is_answered_and_none_is_lost(checked):
    asked = [one for one in checked if one.status != "skipped"]
    assert sum(one.status == "ok" for one in asked) > 0.98 * len(asked)
    assert len(checked) > 400


# A miss that is known: it fails the day it is mended.
HOPPER_EXPERTS = pytest.mark.xfail(
    strict=True,
    reason="14.1 %: its experts on Hopper count as twelve launches, which short prompts need "
    "(128 tokens: TTFT 40 to 50 % off with two, 28 to 32 with twelve), and which raise TPOT",
)


@pytest.mark.parametrize(
    ("hardware", "backend", "model", "bound"),
    [
        ("H200 SXM", "vllm", "Llama-3.1-70B", 0.08),
        ("H200 SXM", "vllm", "gpt-oss-120b", 0.09),
        ("B200 SXM", "vllm", "gpt-oss-120b", 0.10),
        ("B200 SXM", "trtllm", "gpt-oss-120b", 0.15),
        ("H200 SXM", "trtllm", "Llama-3.1-70B", 0.12),
        ("B200 SXM", "sglang", "DeepSeek-R1-0528", 0.16),
        ("H100 SXM", "trtllm", "Qwen3-235B-A22B-FP8", 0.15),
        pytest.param("H100 SXM", "trtllm", "Qwen3-235B-A22B-FP8", 0.14, marks=HOPPER_EXPERTS),
        ("GB200 NVL72", "trtllm", "gpt-oss-120b", 0.13),
        ("GB200 NVL72", "sglang", "DeepSeek-R1-0528", 0.25),
    ],
)
def test_tpot_of_groups_is_in_sane_bounds(checked, hardware, backend, model, bound):
    assert errors(checked, "tpot", hardware, backend, model).mean() < bound


def test_the_median_row_is_close(checked):
    assert np.median(errors(checked, "tpot")) < 0.10
    assert np.median(errors(checked, "ttft")) < 0.25
    assert np.median(errors(checked, "output")) < 0.10


def test_intervals_hold_what_was_measured(checked):
    for metric in ("tpot", "ttft", "output"):
        inside = [held for one in checked if (held := one.inside(metric)) is not None]
        assert len(inside) > 100
        assert 0.72 < np.mean(inside) < 0.92
