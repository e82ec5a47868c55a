"""Every kernel of routed experts that runs here, against float64 on the CPU."""

import kernel_checks
import pytest

from profilers import moe

(OPERATOR,) = moe.OPERATORS
SHAPE = {
    "dtype": "bf16", "hidden": 256, "inter": 128, "topk": 2, "experts": 8, "tp": 1, "ep": 1,
    "distribution": "uniform", "tokens": 40,
}  # fmt: skip
CASES = [
    {},
    {"tokens": 1},
    {"tokens": 3, "experts": 64, "topk": 4},  # so few pairs that they are not gathered
    {"tokens": 3, "experts": 64, "topk": 4, "ep": 4, "distribution": "power_law_1.2"},
    {"tokens": 130, "experts": 4, "distribution": "balanced"},  # full tiles
    {"tokens": 90, "ep": 4, "distribution": "power_law_1.2"},
    {"tp": 2, "inter": 192, "hidden": 320, "distribution": "balanced"},  # no whole tiles
    {"dtype": "fp8_block"},
    {"dtype": "fp8_block", "tokens": 1, "ep": 2, "experts": 32},
    {"dtype": "fp8_block", "inter": 512, "tp": 2, "hidden": 384, "tokens": 70},
    {"dtype": "mxfp4"},
    {"dtype": "mxfp4", "tokens": 1, "hidden": 320, "inter": 192},  # no whole 128
]


@pytest.mark.parametrize("kernel", kernel_checks.here(OPERATOR), ids=lambda k: k.backend)
@pytest.mark.parametrize("case", CASES)
def test_kernels_agree_with_float64(kernel, case, cpu):
    limit = 8e-3 if kernel.backend == "torch" else 5e-3
    kernel_checks.agrees(OPERATOR, kernel, {**SHAPE, **case}, cpu, limit)


def wrong(inputs):
    """Inputs as kernels with a fault would read them."""
    from dataclasses import replace

    yield {**inputs, "logits": inputs["logits"].roll(1, dims=1)}  # the expert beside
    yield {**inputs, "logits": inputs["logits"] * 0.5}  # other shares
    down, gates = inputs["down"], inputs["gate_up"]
    if hasattr(down, "scale"):
        yield {**inputs, "down": replace(down, scale=down.scale.roll(1, dims=1))}
        yield {**inputs, "gate_up": replace(gates, scale=gates.scale.roll(1, dims=2))}
    else:
        yield {**inputs, "gate_up": gates.roll(gates.shape[1] // 2, dims=1)}  # up for gate
        yield {**inputs, "down": down.roll(1, dims=2)}


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block", "mxfp4"])
def test_the_reference_refuses_a_wrong_kernel(dtype, cpu):
    torch = pytest.importorskip("torch")
    kernel = kernel_checks.here(OPERATOR)[1]
    key = {**SHAPE, "dtype": dtype, "tokens": 12, "inter": 256, "topk": 3}
    inputs, call = kernel_checks.computed(OPERATOR, kernel, key, cpu)
    limit, right = OPERATOR.tolerance(key), call()
    assert OPERATOR.error(key, inputs, right) < limit
    for other in wrong(inputs):
        assert not OPERATOR.error(key, inputs, kernel.prepare(key, other)()) <= limit
    late = right.clone()
    late[-1] = 0
    for y in (late, right * 1.05, torch.full_like(right, float("nan"))):
        assert not OPERATOR.error(key, inputs, y) <= limit


def test_least_work_is_no_more_than_what_is_done():
    """Experts that are hit, of many draws, are never fewer than work counts."""
    pytest.importorskip("torch")
    from profilers import routing
    from profilers.source import Source

    for load in ("balanced", "uniform", "power_law_1.01", "power_law_1.2"):
        for tokens in (1, 4, 16, 64, 512):
            for ep in (1, 8):
                key = {
                    **SHAPE, "experts": 128, "topk": 8, "ep": ep, "tokens": tokens,
                    "distribution": load,
                }  # fmt: skip
                weights = 3 * key["hidden"] * key["inter"] * 2.0
                read = OPERATOR.work(key).read - tokens * (key["hidden"] * 2.0 + 128 * 4.0)
                for copy in range(5):
                    source = Source.of("cpu", 0, load, copy)
                    found = routing.chosen(source, load, tokens, 128, 8, ep)
                    hit = len(found[found < 128 // ep].unique())
                    assert read <= hit * weights or load == "uniform", (load, tokens, ep, hit)


@pytest.mark.parametrize(("quick", "most"), [(True, 10), (False, 350)])
def test_lines_need_no_gpu(quick, most):
    lines = kernel_checks.plans(OPERATOR, quick, most)
    known = [line for line in lines if line.fixed["distribution"] != "uniform"]
    known = [x for x in known if (x.fixed["hidden"], x.fixed["dtype"]) != (2880, "bf16")]
    assert kernel_checks.in_the_imported_table(OPERATOR, known) > 0.8
