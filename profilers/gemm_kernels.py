"""Kernels of dense products: PyTorch's, our own in Triton, and those that engines call.

Signatures and layouts as in vllm 0.24.0 (vllm/_custom_ops.py, vllm/model_executor/kernels/
linear/scaled_mm), sglang 0.5.14 with sglang-kernel 0.4.4 (sgl_kernel/gemm.py) and sgl-deep-gemm
0.1.3, flashinfer-python 0.6.12 (flashinfer/gemm/gemm_base.py), TensorRT-LLM 1.0
(tensorrt_llm/_torch/modules/linear.py) and the tests of PyTorch (test_scaled_matmul_cuda.py).
Weights are laid out, and activations quantised, before the clock runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from profilers.availability import Unsupported, dtypes, needs
from profilers.formats import BLOCK, exact, swizzled
from profilers.operator import Call, Inputs, Kernel, Key

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device


def _linear(_key: Key, inputs: Inputs) -> Call:
    import torch

    x, w = inputs["x"], inputs["w"]
    return lambda: torch.nn.functional.linear(x, w)


def _scaled_mm(_key: Key, inputs: Inputs) -> Call:
    import torch

    x, w = inputs["x"], inputs["w"]
    return lambda: torch._scaled_mm(
        x.data, w.data.T, scale_a=x.scale, scale_b=w.scale, out_dtype=torch.bfloat16
    )


def _rows_first(scale: Tensor) -> Tensor:
    """Return the same scales with those of one column of blocks side by side in memory."""
    return scale.T.contiguous().T


def _torch_blocks(_key: Key, inputs: Inputs) -> Call:
    import torch
    from torch.nn.functional import ScalingType, pad, scaled_mm

    x, w = inputs["x"], inputs["w"]
    # cuBLAS wants the depth of 128 x 128 scales in multiples of 4.
    w_scale = pad(w.scale, (0, -w.scale.shape[1] % 4)).T
    x_scale = _rows_first(x.scale)
    return lambda: scaled_mm(
        x.data, w.data.T, x_scale, ScalingType.BlockWise1x128,
        w_scale, ScalingType.BlockWise128x128, output_dtype=torch.bfloat16,
    )  # fmt: skip


def _int_mm(_key: Key, inputs: Inputs) -> Call:
    import torch

    x, w = inputs["x"], inputs["w"]
    w_scale = w.scale.T
    return lambda: (torch._int_mm(x.data, w.data.T) * x.scale * w_scale).to(torch.bfloat16)


def _torch_nvfp4(_key: Key, inputs: Inputs) -> Call:
    import torch
    from torch.nn.functional import ScalingType, SwizzleType, scaled_mm

    x, w = inputs["x"], inputs["w"]
    a, b = (q.data.view(torch.float4_e2m1fn_x2) for q in (x, w))
    a_scale, b_scale = ([swizzled(q.scale), q.tensor_scale] for q in (x, w))
    recipe = [ScalingType.BlockWise1x16, ScalingType.TensorWise]
    swizzle = [SwizzleType.SWIZZLE_32_4_4, SwizzleType.NO_SWIZZLE]
    return lambda: scaled_mm(
        a, b.T, a_scale, recipe, b_scale, recipe, swizzle, swizzle, output_dtype=torch.bfloat16
    )


def _triton_blocks(_key: Key, inputs: Inputs) -> Call:
    from profilers.kernels.block_scaled import block_scaled_mm

    x, w = inputs["x"], inputs["w"]
    return lambda: block_scaled_mm(x.data, x.scale, w.data, w.scale)


def _vllm_cutlass(key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm._custom_ops import cutlass_scaled_mm

    x, w = inputs["x"], inputs["w"]
    x_scale, w_scale = x.scale, w.scale.T  # int8: per row of x, per column of y
    if key["dtype"] == "fp8_block":
        x_scale = _rows_first(x.scale)
    return lambda: cutlass_scaled_mm(x.data, w.data.T, x_scale, w_scale, torch.bfloat16)


def _deep_gemm(gemm: Callable[..., Any], align: Callable[[Tensor], Tensor], inputs: Inputs) -> Call:
    import torch

    x, w = inputs["x"], inputs["w"]
    lhs, rhs = (x.data, align(x.scale)), (w.data, w.scale)
    shape = (len(x.data), len(w.data))

    def call() -> Tensor:
        y = torch.empty(shape, device=x.data.device, dtype=torch.bfloat16)
        gemm(lhs, rhs, y)
        return y

    return call


def _vllm_deep_gemm(_key: Key, inputs: Inputs) -> Call:
    from vllm.utils.deep_gemm import fp8_gemm_nt, get_col_major_tma_aligned_tensor

    return _deep_gemm(fp8_gemm_nt, get_col_major_tma_aligned_tensor, inputs)


def _sglang_deep_gemm(_key: Key, inputs: Inputs) -> Call:
    from deep_gemm import fp8_gemm_nt
    from deep_gemm.utils.layout import get_mn_major_tma_aligned_tensor

    return _deep_gemm(fp8_gemm_nt, get_mn_major_tma_aligned_tensor, inputs)


def _vllm_flashinfer(_key: Key, inputs: Inputs) -> Call:
    import torch
    from flashinfer.gemm import fp8_blockscale_gemm_sm90

    x, w = inputs["x"], inputs["w"]
    # vLLM hands bf16 activations over, which the kernel quantises itself.
    wide = exact(x, list(range(len(x.data)))).to(torch.bfloat16)
    return lambda: fp8_blockscale_gemm_sm90(wide, w.data, None, w.scale, out_dtype=torch.bfloat16)


def _vllm_nvfp4(_key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm._custom_ops import cutlass_scaled_fp4_mm

    x, w = inputs["x"], inputs["w"]
    a_scale, b_scale = swizzled(x.scale), swizzled(w.scale)
    alpha = x.tensor_scale * w.tensor_scale
    return lambda: cutlass_scaled_fp4_mm(x.data, w.data, a_scale, b_scale, alpha, torch.bfloat16)


def _sglang_fp8(_key: Key, inputs: Inputs) -> Call:
    import torch
    from sgl_kernel import fp8_scaled_mm

    x, w = inputs["x"], inputs["w"]
    # The kernel takes one scale per row and per column: SGLang repeats those of a tensor.
    x_scale, w_scale = (q.scale.repeat(len(q.data), 1) for q in (x, w))
    return lambda: fp8_scaled_mm(x.data, w.data.T, x_scale, w_scale, torch.bfloat16)


def _sglang_int8(_key: Key, inputs: Inputs) -> Call:
    import torch
    from sgl_kernel import int8_scaled_mm

    x, w = inputs["x"], inputs["w"]
    return lambda: int8_scaled_mm(x.data, w.data.T, x.scale, w.scale, torch.bfloat16)


def _flashinfer_fp8(_key: Key, inputs: Inputs) -> Call:
    import torch
    from flashinfer import bmm_fp8

    x, w = inputs["x"], inputs["w"]
    a, b = x.data[None], w.data.T[None]
    x_scale, w_scale = x.scale.reshape(1), w.scale.reshape(1)
    return lambda: bmm_fp8(a, b, x_scale, w_scale, torch.bfloat16)[0]


def _flashinfer_blocks(_key: Key, inputs: Inputs) -> Call:
    import torch
    from flashinfer.gemm import fp8_blockscale_gemm_sm90

    x, w = inputs["x"], inputs["w"]
    return lambda: fp8_blockscale_gemm_sm90(
        x.data, w.data, x.scale, w.scale, out_dtype=torch.bfloat16
    )


def _flashinfer_nvfp4(_key: Key, inputs: Inputs) -> Call:
    import torch
    from flashinfer import mm_fp4

    x, w = inputs["x"], inputs["w"]
    a_scale, b_scale = (swizzled(q.scale).view(torch.uint8) for q in (x, w))
    alpha = x.tensor_scale * w.tensor_scale
    return lambda: mm_fp4(
        x.data, w.data.T, a_scale, b_scale.T, alpha, torch.bfloat16, backend="cutlass"
    )


def _trtllm_fp8(_key: Key, inputs: Inputs) -> Call:
    import tensorrt_llm  # noqa: F401  # registers torch.ops.trtllm
    import torch

    x, w = inputs["x"], inputs["w"]
    return lambda: torch.ops.trtllm.cublas_scaled_mm(
        x.data, w.data.T, scale_a=x.scale.reshape(1), scale_b=w.scale.reshape(1), bias=None,
        out_dtype=torch.bfloat16,
    )  # fmt: skip


def _trtllm_blocks(_key: Key, inputs: Inputs) -> Call:
    import tensorrt_llm  # noqa: F401
    import torch

    x, w = inputs["x"], inputs["w"]
    wide = exact(x, list(range(len(x.data)))).to(torch.bfloat16)
    data, scale = torch.ops.trtllm.fp8_quantize_1x128(wide)  # in the layout of its own kernel
    return lambda: torch.ops.trtllm.fp8_block_scaling_gemm(data, w.data, scale, w.scale)


def _shapes(dtype: str, *, m: int = 1, n: int = 1, k: int = 1, below: int = 0) -> Unsupported:
    """Check that ``dtype`` fits, rows are at least ``m``, and n and k are multiples.

    below: compute capability from which on the kernel wants other scales.
    """
    right = dtypes(dtype)

    def unsupported(device: Device, key: Key) -> str:
        if below and device.sm >= below:
            return f"scales are laid out for sm below {below}"
        if key["m"] < m or key["n"] % n or key["k"] % k:
            return f"needs m of {m} or more, n and k in multiples of {n} and {k}"
        return right(device, key)

    return unsupported


_BLOCKS_90 = _shapes("fp8_block", n=64, k=BLOCK, below=100)
_DEEP_GEMM = "DeepGemmFp8BlockScaledMMKernel"

KERNELS = (
    Kernel("torch.nn.functional.linear", "torch", needs(), dtypes("bf16"), _linear),
    Kernel("torch._scaled_mm", "torch", needs(), _shapes("fp8", n=16, k=16), _scaled_mm),
    Kernel("torch.scaled_mm", "torch", needs(sm=90), _BLOCKS_90, _torch_blocks),
    Kernel("torch._int_mm", "torch", needs(), _shapes("int8", m=17, n=8, k=8), _int_mm),
    Kernel("torch.scaled_mm", "torch", needs(sm=100), _shapes("nvfp4", n=32, k=32), _torch_nvfp4),
    Kernel("block_scaled_mm", "triton", needs("triton"), dtypes("fp8_block"), _triton_blocks),
    Kernel("torch.nn.functional.linear", "vllm", needs("vllm"), dtypes("bf16"), _linear),
    Kernel(
        "CutlassFP8ScaledMMLinearKernel", "vllm", needs("vllm", sm=89),
        _shapes("fp8", n=16, k=16), _vllm_cutlass,
    ),
    Kernel(
        "CutlassFp8BlockScaledMMKernel", "vllm", needs("vllm", sm=90),
        _shapes("fp8_block", n=BLOCK, k=BLOCK), _vllm_cutlass,
    ),
    Kernel(_DEEP_GEMM, "vllm", needs("vllm", sm=90), _BLOCKS_90, _vllm_deep_gemm),
    Kernel(
        "FlashInferFp8BlockScaledMMKernel", "vllm", needs("vllm", "flashinfer", sm=90),
        _BLOCKS_90, _vllm_flashinfer,
    ),
    Kernel(
        "CutlassInt8ScaledMMLinearKernel", "vllm", needs("vllm", sm=75),
        _shapes("int8", n=16, k=16), _vllm_cutlass,
    ),
    Kernel(
        "CutlassNvFp4LinearKernel", "vllm", needs("vllm", sm=100),
        _shapes("nvfp4", n=32, k=32), _vllm_nvfp4,
    ),
    Kernel("sglang_torch_linear", "sglang", needs("sgl_kernel"), dtypes("bf16"), _linear),
    Kernel(
        "sglang_sgl_kernel_fp8_scaled_mm", "sglang", needs("sgl_kernel", sm=89),
        _shapes("fp8", n=16, k=16), _sglang_fp8,
    ),
    Kernel(
        "sglang_deepgemm_gemm_nt_f8f8bf16", "sglang", needs("sgl_kernel", "deep_gemm", sm=90),
        _BLOCKS_90, _sglang_deep_gemm,
    ),
    Kernel(
        "sglang_sgl_kernel_int8_scaled_mm", "sglang", needs("sgl_kernel", sm=75),
        _shapes("int8", n=16, k=16), _sglang_int8,
    ),
    Kernel(
        "bmm_fp8", "flashinfer", needs("flashinfer", sm=89), _shapes("fp8", n=16, k=16),
        _flashinfer_fp8,
    ),
    Kernel(
        "fp8_blockscale_gemm_sm90", "flashinfer", needs("flashinfer", sm=90), _BLOCKS_90,
        _flashinfer_blocks,
    ),
    Kernel(
        "mm_fp4", "flashinfer", needs("flashinfer", sm=100), _shapes("nvfp4", n=32, k=32),
        _flashinfer_nvfp4,
    ),
    Kernel("torch_flow", "trtllm", needs("tensorrt_llm"), dtypes("bf16"), _linear),
    Kernel(
        "torch_flow", "trtllm", needs("tensorrt_llm", sm=89), _shapes("fp8", n=16, k=16),
        _trtllm_fp8,
    ),
    Kernel("torch_flow", "trtllm", needs("tensorrt_llm", sm=90), _BLOCKS_90, _trtllm_blocks),
)  # fmt: skip
