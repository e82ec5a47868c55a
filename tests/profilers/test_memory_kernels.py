"""Every kernel that only moves memory and runs here, against float64 on the CPU."""

import kernel_checks
import pytest

from profilers import memory
from profilers.source import Source

QUANTIZE, ELEMENTWISE, SAMPLING, COPY = memory.OPERATORS
OPS = ("rms_norm", "add_rms_norm", "silu_and_mul", "quantize_groups", "embedding", "copy")
CASES = [
    (QUANTIZE, {"op": "scale", "dtype": "fp8", "k": 300, "m": 5}),
    *((ELEMENTWISE, {"op": op, "width": 256, "tokens": 3}) for op in OPS),
    *((ELEMENTWISE, {"op": op, "width": 300, "tokens": 70}) for op in OPS),
    (SAMPLING, {"op": "greedy", "vocabulary": 500, "batch": 40}),
    (SAMPLING, {"op": "top_k_top_p", "vocabulary": 500, "batch": 40}),
    (COPY, {"op": "device_to_device", "page_bytes": 0, "bytes": 65536}),
    (COPY, {"op": "device_to_device", "page_bytes": 16384, "bytes": 1 << 17}),
]
NAMED = [(o, k, c) for o, c in CASES for k in kernel_checks.here(o)]


@pytest.fixture(autouse=True)
def small_embedding(monkeypatch):
    monkeypatch.setattr(memory, "_EMBEDDED", 1000)


@pytest.mark.parametrize(("operator", "kernel", "key"), NAMED)
def test_kernels_agree_with_float64(operator, kernel, key, cpu):
    kernel_checks.agrees(operator, kernel, key, cpu)


@pytest.mark.parametrize(("operator", "kernel", "key"), [n for n in NAMED if n[0] != SAMPLING])
def test_the_reference_refuses_a_wrong_kernel(operator, kernel, key, cpu):
    torch = pytest.importorskip("torch")
    inputs, call = kernel_checks.computed(operator, kernel, key, cpu)
    right = call().clone()
    beside = right.view(torch.uint8) if right.dtype == torch.float8_e4m3fn else right
    late, moved = beside.clone(), beside.roll(1, dims=0).roll(1, dims=1)
    late[-1] = 0
    limit = operator.tolerance(key)
    for y in (late, moved):
        assert not operator.error(key, inputs, y.view(right.dtype)) <= limit


def test_scales_of_groups_undo_the_quantisation(cpu):
    """What the timed call returns is only half of the result."""
    import interpreter

    torch = pytest.importorskip("torch")
    if not interpreter.ready():
        pytest.skip("Triton is not installed")
    from profilers import formats
    from profilers.kernels.quantize import quantize_tokens

    x = Source.of("cpu", 0, "x").normal(9, 300)
    x[2] *= 100
    data, scale = quantize_tokens(x)
    right = formats.per_token_block(x)
    assert torch.equal(data.view(torch.uint8), right.data.view(torch.uint8))
    assert torch.allclose(scale, right.scale, rtol=1e-6)


def test_tokens_that_may_not_be_chosen_are_refused():
    torch = pytest.importorskip("torch")
    key = {"op": "top_k_top_p", "vocabulary": 500, "batch": 40}
    inputs = SAMPLING.draw(key, Source.of("cpu", 0, "test"))
    order = inputs["logits"].argsort(1, descending=True)

    def error(tokens, op="top_k_top_p"):
        return SAMPLING.error({**key, "op": op}, inputs, tokens.contiguous().view(torch.float64))

    assert error(order[:, 0]) == 0.0
    assert error(order[:, 49]) > 0.5  # among the 50 likeliest, but beyond TOP_P of them
    assert error(order[:, 50]) == 1.0
    assert error(order[:, 1], "greedy") == 1.0
    one = order[:, 0].clone()
    one[3] = 500
    assert error(one) == pytest.approx(1 / 40)
    assert error(torch.full((40,), float("nan"), dtype=torch.float64).view(torch.int64)) == 1.0


def test_sampling_follows_the_probabilities(cpu):
    torch = pytest.importorskip("torch")
    key = {"op": "top_k_top_p", "vocabulary": 4, "batch": 4000}
    share = torch.tensor([0.5, 0.3, 0.15, 0.05])
    inputs = {"logits": share.log().repeat(4000, 1)}
    memory.memory_kernels.TOP_K, before = 4, memory.memory_kernels.TOP_K
    try:
        tokens = memory.memory_kernels.SAMPLING[0].prepare(key, inputs)().view(torch.int64)
    finally:
        memory.memory_kernels.TOP_K = before
    found = tokens.bincount(minlength=4) / 4000
    # TOP_P of 0.9 keeps the first three, whose shares grow by 1 / 0.95.
    assert torch.allclose(found, torch.tensor([0.526, 0.316, 0.158, 0.0]), atol=0.04)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("operator", memory.OPERATORS, ids=lambda o: o.table)
def test_lines_need_no_gpu(operator, quick):
    lines = kernel_checks.plans(operator, quick, 8 if quick else 70)
    if operator is QUANTIZE:
        assert kernel_checks.in_the_imported_table(operator, lines) == 1.0
