"""Mean TPOT errors against real runs; the bounds are loose ones, far from what luck decides."""

import numpy as np
import pytest


def tpot_errors(errors, hardware, backend, model, precision):
    chosen = [
        error.tpot
        for error in errors
        if (error.run.hardware, error.run.backend, error.run.precision)
        == (hardware, backend, precision)
        and error.run.model.endswith(model)
    ]
    assert len(chosen) >= 10
    return np.array(chosen)


def test_llama_70b_on_h200_with_vllm_is_within_six_per_cent(errors):
    found = tpot_errors(errors, "H200 SXM", "vllm", "Llama-3.1-70B", "fp8")
    assert np.abs(found).mean() < 0.06


@pytest.mark.parametrize(
    ("hardware", "backend", "model", "precision", "bound"),
    [
        ("H200 SXM", "vllm", "gpt-oss-120b", "fp4", 0.10),
        ("B200 SXM", "vllm", "Llama-3.1-70B", "fp8", 0.10),
        ("B200 SXM", "trtllm", "Llama-3.1-70B", "fp8", 0.10),
        ("H200 SXM", "trtllm", "Llama-3.1-70B", "fp8", 0.12),
        ("H200 SXM", "trtllm", "gpt-oss-120b", "fp4", 0.14),
        ("B200 SXM", "trtllm", "gpt-oss-120b", "fp4", 0.15),
        ("H200 SXM", "vllm", "Kimi-K2.5", "int4", 0.12),
        ("H100 SXM", "trtllm", "Qwen3-235B-A22B-FP8", "fp8", 0.12),
        ("H100 SXM", "vllm", "Llama-3.1-70B", "fp8", 0.15),
    ],
)
def test_other_groups_are_in_sane_bounds(errors, hardware, backend, model, precision, bound):
    found = tpot_errors(errors, hardware, backend, model, precision)
    assert np.abs(found).mean() < bound


def test_half_of_all_rows_are_within_twelve_per_cent(errors):
    found = np.array([error.tpot for error in errors])
    assert len(found) > 2000
    assert np.median(np.abs(found)) < 0.12
    assert abs(np.median(found)) < 0.06  # neither optimistic nor pessimistic as a whole
