"""Every kernel of dense products that runs here, against float64 on the CPU."""

import interpreter
import pytest

from profilers import formats, gemm
from profilers.device import planned
from profilers.formats import exact
from profilers.gemm_kernels import KERNELS
from profilers.source import Source

(OPERATOR,) = gemm.OPERATORS
DTYPES = ("bf16", "fp8", "fp8_block", "int8", "nvfp4")
HERE = [kernel for kernel in KERNELS if kernel.backend in ("torch", "triton")]


def drawn(dtype, n=256, k=384, m=70, seed=0):
    key = {"dtype": dtype, "n": n, "k": k, "m": m}
    return key, OPERATOR.draw(key, Source.of("cpu", seed, "test"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", HERE, ids=lambda k: f"{k.backend}-{k.name}")
@pytest.mark.parametrize("shape", [(256, 384, 1), (192, 256, 33), (256, 128, 70), (384, 256, 130)])
def test_kernels_agree_with_float64(kernel, dtype, shape, cpu):
    pytest.importorskip("torch")
    if kernel.backend == "triton" and not interpreter.ready():
        pytest.skip("Triton is not installed")
    key, inputs = drawn(dtype, *shape)
    why = kernel.missing(cpu) or kernel.unsupported(cpu, key)
    if why:
        pytest.skip(why)
    error = OPERATOR.error(key, inputs, kernel.prepare(key, inputs)())
    assert 0 < error < OPERATOR.tolerance(key)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference_refuses_a_wrong_product(dtype):
    torch = pytest.importorskip("torch")
    key, inputs = drawn(dtype)
    x, w = (
        q.double() if dtype == "bf16" else exact(q, list(range(len(q.data))))
        for q in (inputs["x"], inputs["w"])
    )
    right = (x @ w.T).bfloat16()
    limit = OPERATOR.tolerance(key)
    assert OPERATOR.error(key, inputs, right) < limit
    late = right.clone()
    late[-1] = 0  # the last row was not written
    assert not OPERATOR.error(key, inputs, late) <= limit
    assert not OPERATOR.error(key, inputs, torch.full_like(right, float("nan"))) <= limit
    assert not OPERATOR.error(key, inputs, right * 1.02) <= limit


@pytest.mark.parametrize(
    ("narrow", "most"),
    [
        (formats.per_tensor, 0.04), (formats.per_token_block, 0.04), (formats.per_block, 0.04),
        (formats.per_row_int8, 0.01), (formats.nvfp4, 0.12),
    ],
)  # fmt: skip
def test_formats_stand_for_what_was_drawn(narrow, most):
    torch = pytest.importorskip("torch")
    x = Source.of("cpu", 0, "x").normal(130, 320) if narrow is formats.nvfp4 else None
    x = Source.of("cpu", 0, "x").normal(130, 300) if x is None else x
    x[3] *= 50.0  # scales differ between rows
    found = exact(narrow(x), list(range(130)))
    error = torch.linalg.vector_norm(found - x) / torch.linalg.vector_norm(x.double())
    assert 1e-4 < error < most
    some = [0, 7, 129]
    assert torch.equal(exact(narrow(x), some), found[some])


def test_nvfp4_codes_are_the_e2m1_numbers():
    torch = pytest.importorskip("torch")
    numbers = torch.tensor([0.5, -1.0, 1.5, -2.0, 3.0, -4.0, 6.0, -6.0] * 2)[None]
    assert torch.allclose(exact(formats.nvfp4(numbers), [0]), numbers.double())


def test_scales_are_swizzled_as_the_matrix_units_read_them():
    """Row r, group g of a tile of 128 x 4 lies at 16 (r % 32) + 4 (r // 32) + g."""
    torch = pytest.importorskip("torch")
    rows, groups = 200, 6
    scale = torch.arange(rows * groups).remainder(251).reshape(rows, groups).to(torch.uint8)
    scale = scale.view(torch.float8_e4m3fn)
    flat = formats.swizzled(scale).view(torch.uint8).flatten()
    for row, group in ((0, 0), (33, 1), (127, 3), (128, 0), (199, 5), (64, 4)):
        tile = row // 128 * 2 + group // 4
        inner = row % 128
        place = tile * 512 + 16 * (inner % 32) + 4 * (inner // 32) + group % 4
        assert flat[place] == scale.view(torch.uint8)[row, group]


def test_draws_are_seeded_and_differ_between_sets():
    torch = pytest.importorskip("torch")
    key = {"dtype": "bf16", "n": 64, "k": 64, "m": 8}

    def x(seed, name, copy):
        return OPERATOR.draw(key, Source.of("cpu", seed, name, copy))["x"]

    assert torch.equal(x(0, "a", 0), x(0, "a", 0))
    for other in ((1, "a", 0), (0, "b", 0), (0, "a", 1)):
        assert not torch.equal(x(0, "a", 0), x(*other))
    assert (x(0, "a", 0) == 0).float().mean() < 0.01


def test_shapes_follow_the_gpu():
    hopper, blackwell = planned("h200_sxm"), planned("b200_sxm")
    assert {line.fixed["dtype"] for line in OPERATOR.lines(hopper, False)} == {
        "bf16", "fp8", "fp8_block", "int8",
    }  # fmt: skip
    assert "nvfp4" in {line.fixed["dtype"] for line in OPERATOR.lines(blackwell, False)}
    quick = OPERATOR.lines(hopper, True)
    assert set(quick[0].fixed) | {"m", "kernel"} == set(OPERATOR.schema.key_names)
    assert len(quick) == 36
    assert all(line in OPERATOR.lines(hopper, False) for line in quick)


def test_the_least_work_is_that_of_the_predictions():
    import numpy as np

    from aiconf.perf.gemm import gemm_light
    from aiconf.system import load_system

    gpu = load_system("h200_sxm").gpu
    for dtype in ("bf16", "fp8", "fp8_block", "int8"):
        for m in (1, 64, 8192):
            work = OPERATOR.work({"dtype": dtype, "n": 4096, "k": 1024, "m": m})
            own = work.seconds(gpu.flops, gpu.memory_bandwidth, cached=False)
            light = gemm_light(gpu, dtype, 4096, 1024, np.array(float(m)))
            assert own == pytest.approx(float(light))


def test_every_unmet_need_is_one_short_line(cpu):
    for kernel in KERNELS:
        why = kernel.missing(cpu)
        assert "\n" not in why and len(why) < 60


def test_the_triton_kernel_compiles_for_hopper(tmp_path):
    """Without a GPU: in a process of its own, whose Triton does not interpret."""
    pytest.importorskip("triton")
    import os
    import subprocess
    import sys
    from pathlib import Path

    code = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from profilers.kernels.block_scaled import _product
types = dict(x="*fp8e4nv", w="*fp8e4nv", y="*bf16", x_scale="*fp32", w_scale="*fp32",
             m="i32", n="i32", k="i32", group="i32")
sizes = dict(BLOCK_M=64, BLOCK_N=128, BLOCK_K=128)
source = ASTSource(_product, types | dict.fromkeys(sizes, "constexpr"), constexprs=sizes)
built = compile(source, GPUTarget("cuda", 90, 32), options={"num_warps": 4, "num_stages": 4})
assert "wgmma" in built.asm["ptx"]
assert built.metadata.shared <= 232448
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=environment, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
