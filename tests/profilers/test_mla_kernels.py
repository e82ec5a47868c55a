"""Every kernel of latent attention that runs here, against float64 on the CPU."""

import kernel_checks
import pytest

from profilers import mla
from profilers.source import Source

PREFILL, DECODE, BMM = mla.OPERATORS
SHAPE = {
    "scope": "kernel", "gemm_dtype": "", "mla_dtype": "bf16", "kv_dtype": "bf16", "heads": 4,
    "batch": 3,
}  # fmt: skip
CASES = [
    (PREFILL, {**SHAPE, "isl": 1}),
    (PREFILL, {**SHAPE, "isl": 40}),
    (PREFILL, {**SHAPE, "isl": 140, "heads": 2, "batch": 1}),  # more than one tile of queries
    (DECODE, {**SHAPE, "past": 1}),
    (DECODE, {**SHAPE, "past": 70}),
    (DECODE, {**SHAPE, "past": 500, "heads": 20, "batch": 1}),  # tokens in several parts
    (DECODE, {**SHAPE, "past": 100, "kv_dtype": "fp8"}),
    (BMM, {"op": "pre", "dtype": "bf16", "heads": 4, "tokens": 5}),
    (BMM, {"op": "post", "dtype": "bf16", "heads": 3, "tokens": 100}),
]
NAMED = [(o, k, c) for o, c in CASES for k in kernel_checks.here(o)]


@pytest.mark.parametrize(("operator", "kernel", "key"), NAMED)
def test_kernels_agree_with_float64(operator, kernel, key, cpu):
    kernel_checks.agrees(operator, kernel, key, cpu, limit=4e-3)


@pytest.mark.parametrize(("operator", "key"), [CASES[1], CASES[4], CASES[8]])
def test_the_reference_refuses_a_wrong_kernel(operator, key, cpu):
    torch = pytest.importorskip("torch")
    inputs, call = kernel_checks.computed(operator, kernel_checks.here(operator)[0], key, cpu)
    right, limit = call().clone(), operator.tolerance(key)
    assert operator.error(key, inputs, right) < limit
    late = right.clone()
    late[-1] = 0
    for y in (late, right.roll(1, dims=1), right * 1.02, torch.full_like(right, float("nan"))):
        assert not operator.error(key, inputs, y) <= limit


def test_a_position_left_out_is_refused(cpu):
    """The 64 numbers of the position change scores: a kernel that forgets them is wrong."""
    pytest.importorskip("torch")
    _, key = CASES[4]
    inputs = DECODE.draw(key, Source.of("cpu", 0, "test"))
    without = {**inputs, "q": inputs["q"].clone()}
    without["q"][..., mla.LATENT :] = 0
    y = kernel_checks.here(DECODE)[0].prepare(key, without)()
    assert not DECODE.error(key, inputs, y) <= DECODE.tolerance(key)


@pytest.mark.parametrize(
    ("operator", "quick", "most"),
    [
        (PREFILL, True, 4), (DECODE, True, 4), (BMM, True, 4),
        (PREFILL, False, 40), (DECODE, False, 100), (BMM, False, 12),
    ],
)  # fmt: skip
def test_lines_need_no_gpu(operator, quick, most):
    lines = kernel_checks.plans(operator, quick, most)
    assert kernel_checks.in_the_imported_table(operator, lines, "sglang") > 0.8
