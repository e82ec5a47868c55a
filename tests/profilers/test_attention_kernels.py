"""Every kernel of softmax attention that runs here, against float64 on the CPU."""

import kernel_checks
import pytest

from profilers import attention, paged
from profilers.source import Source

PREFILL, DECODE, CHUNK = attention.OPERATORS
SHAPE = {
    "dtype": "bf16", "kv_dtype": "bf16", "head_dim": 64, "window": 0, "heads": 4, "kv_heads": 2,
    "batch": 3,
}  # fmt: skip
CASES = [
    (PREFILL, {"isl": 1}),
    (PREFILL, {"isl": 70}),
    (PREFILL, {"isl": 150, "heads": 2, "batch": 1}),  # more than one tile of queries
    (PREFILL, {"isl": 70, "window": 20}),
    (PREFILL, {"isl": 40, "kv_dtype": "fp8"}),
    (PREFILL, {"isl": 20, "head_dim": 128, "heads": 3, "kv_heads": 3}),  # MHA
    (DECODE, {"past": 1, "batch": 1}),
    (DECODE, {"past": 70}),
    (DECODE, {"past": 700, "heads": 6, "kv_heads": 1, "batch": 1}),  # keys in several parts
    (DECODE, {"past": 300, "window": 20}),
    (DECODE, {"past": 300, "kv_dtype": "fp8"}),
    (CHUNK, {"past": 0, "isl": 40, "lengths": "equal"}),
    (CHUNK, {"past": 33, "isl": 20, "lengths": "equal"}),
    (CHUNK, {"past": 33, "isl": 30, "lengths": "ragged"}),
    (CHUNK, {"past": 400, "isl": 1, "lengths": "ragged"}),
    (CHUNK, {"past": 83, "isl": 70, "window": 30, "lengths": "ragged"}),
]
NAMED = [(o, k, {**SHAPE, **c}) for o, c in CASES for k in kernel_checks.here(o)]


@pytest.mark.parametrize(("operator", "kernel", "key"), NAMED)
def test_kernels_agree_with_float64(operator, kernel, key, cpu):
    kernel_checks.agrees(operator, kernel, key, cpu, limit=4e-3)


@pytest.mark.parametrize(("operator", "case"), [CASES[1], CASES[3], CASES[7], CASES[9], CASES[13]])
def test_the_reference_refuses_a_wrong_kernel(operator, case):
    """A key too many, a key too few, another scale, the head beside, a row not written."""
    torch = pytest.importorskip("torch")
    key = {**SHAPE, **case}
    inputs = operator.draw(key, Source.of("cpu", 0, "test"))
    limit = operator.tolerance(key)

    def output(first=0, last=0, scale=1.0):
        found, rows = inputs["pages"], []
        for token in range(len(found.slots)):
            slots = paged.seen_by(found, token, key["window"])
            slots = slots[first : len(slots) - last] if len(slots) > 8 else slots
            k, v = (inputs[c].flatten(0, 1)[slots].double() for c in ("k_cache", "v_cache"))
            q = inputs["q"][token].double().unflatten(0, (key["kv_heads"], -1)) * scale
            weights = torch.einsum("hgd,nhd->hgn", q * inputs["scale"], k).softmax(-1)
            rows.append(torch.einsum("hgn,nhd->hgd", weights, v).flatten(0, 1))
        return torch.stack(rows).bfloat16()

    right = output()
    assert operator.error(key, inputs, right) < limit
    late = right.clone()
    late[-1] = 0
    wrong = [output(first=1), output(last=1), output(scale=1.1), right.roll(1, dims=1), late]
    for y in (*wrong, torch.full_like(right, float("nan"))):
        assert not operator.error(key, inputs, y) <= limit


def test_a_cache_holds_only_what_a_window_sees():
    pytest.importorskip("torch")
    key = {**SHAPE, "past": 4095, "window": 128}
    inputs = DECODE.draw(key, Source.of("cpu", 0, "test"))
    assert inputs["k_cache"].shape[0] <= 1 + 3 * (128 // paged.PAGE + 1)
    whole = DECODE.draw({**key, "window": 0}, Source.of("cpu", 0, "test"))
    assert whole["k_cache"].shape[0] == 1 + 3 * 4096 // paged.PAGE


def test_work_of_a_window_stops_growing():
    def work(past, window):
        return DECODE.work({**SHAPE, "past": past, "window": window})

    assert work(8191, 128).read == work(255, 128).read
    assert work(8191, 0).flops == pytest.approx(32 * work(255, 0).flops)
    # Causal: s (s + 1) / 2 pairs of each of 3 prompts, 4 FLOP for each of 4 heads of 64.
    assert PREFILL.work({**SHAPE, "isl": 100}).flops == 3 * 5050 * 4 * 4 * 64


@pytest.mark.parametrize(
    ("operator", "quick", "most"),
    [
        (PREFILL, True, 15), (DECODE, True, 15), (CHUNK, True, 6),
        (PREFILL, False, 250), (DECODE, False, 350), (CHUNK, False, 150),
    ],
)  # fmt: skip
def test_lines_need_no_gpu(operator, quick, most):
    lines = kernel_checks.plans(operator, quick, most)
    if operator is not CHUNK:
        assert kernel_checks.in_the_imported_table(operator, lines) > 0.8
