"""Dense products y[m, n] = x[m, k] w[n, k]: bf16, fp8, block-scaled fp8, int8 and nvfp4."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from aiconf.perf.light import FORMATS
from profilers import formats, gemm_kernels
from profilers.check import relative_error, rows
from profilers.operator import Inputs, Key, Line, Operator, Work

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device
    from profilers.source import Source

# Tokens of an iteration: powers of two, one more (a tile of rows that is nearly empty: time is a
# stair of waves of tiles), and some between.
_M = (
    *(1, 2, 4, 8, 16, 32, 48, 64, 65, 96, 128, 129, 192, 256, 257, 512, 513, 768, 1024, 1025),
    *(1536, 2048, 3072, 4096, 8192, 16384, 32768),
)
# Widths of weights on one GPU, coarse ones first; all are among those of the imported tables,
# so that the two can be compared point by point.
_WIDTHS = (
    *(512, 2048, 8192, 128, 16384, 1024, 4096, 65536, 256, 5120, 7168, 12288, 1536, 3072, 768),
)
_WIDTHS_QUICK = 3  # of them


def _dtypes(device: Device) -> tuple[str, ...]:
    """Precisions that the arithmetic units have; all of them where they are not known."""
    if not device.datasheet:
        return ("bf16", "fp8", "fp8_block", "int8")
    return tuple(
        dtype
        for dtype in ("bf16", "fp8", "fp8_block", "int8", "nvfp4")
        if FORMATS[dtype].rate in device.flops
    )


def lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Weights of n x k for every precision; any beginning is nearly a full grid of widths."""
    widths = _WIDTHS[:_WIDTHS_QUICK] if quick else _WIDTHS
    pairs = sorted(product(range(len(widths)), repeat=2), key=max)
    return tuple(
        Line({"dtype": dtype, "n": widths[i], "k": widths[j]}, _M)
        for i, j in pairs
        for dtype in _dtypes(device)
    )


def work(key: Key) -> Work:
    """2 m n k FLOP; weights and activations read once, a bf16 output written."""
    n, k, m, kind = key["n"], key["k"], key["m"], FORMATS[key["dtype"]]
    read = n * k * kind.weight_bytes + m * k * kind.activation_bytes
    return Work(kind.rate, 2.0 * m * n * k, read, 2.0 * m * n)


def draw(key: Key, source: Source) -> Inputs:
    """``x`` [m, k] and ``w`` [n, k], normal, in the format of ``dtype``."""
    x, w = source.normal(key["m"], key["k"]), source.normal(key["n"], key["k"])
    if key["dtype"] == "bf16":
        return {"x": x, "w": w}
    narrow_x, narrow_w = {
        "fp8": (formats.per_tensor, formats.per_tensor),
        "fp8_block": (formats.per_token_block, formats.per_block),
        "int8": (formats.per_row_int8, formats.per_row_int8),
        "nvfp4": (formats.nvfp4, formats.nvfp4),
    }[key["dtype"]]
    return {"x": narrow_x(x), "w": narrow_w(w)}


def error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some rows and columns against the float64 product of the same operands."""
    some, columns = rows(key["m"]), rows(key["n"])
    if key["dtype"] == "bf16":
        x, w = inputs["x"][some].double(), inputs["w"][columns].double()
    else:
        x, w = formats.exact(inputs["x"], some), formats.exact(inputs["w"], columns)
    return relative_error(output[some][:, columns], x @ w.T)


def tolerance(_key: Key) -> float:
    """Sums in float32 and an output rounded to bf16 stay under 1e-2 for every format."""
    return 1e-2


OPERATORS = (
    Operator(
        "gemm", "gemm", "m", lines, work, draw, error, tolerance, gemm_kernels.KERNELS,
    ),
)  # fmt: skip
