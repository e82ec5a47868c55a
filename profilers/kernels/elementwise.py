"""Norms, activation and static quantisation of tokens in Triton: kernels that only move memory.

One program takes one token, or a part of one where the parts do not depend on each other. Sums
are float32, as in the engines' kernels.
"""

import torch
import triton
import triton.language as tl

from profilers.formats import E4M3_MAX

_LARGEST = tl.constexpr(E4M3_MAX)
_PART = 2048  # columns of a token that one program takes


@triton.jit
def _norm(x, residual, w, y, sums, width, epsilon, BLOCK: tl.constexpr, ADDED: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    kept = at < width
    found = tl.load(x + row + at, mask=kept, other=0.0).to(tl.float32)
    if ADDED:
        found += tl.load(residual + row + at, mask=kept, other=0.0).to(tl.float32)
        tl.store(sums + row + at, found.to(sums.dtype.element_ty), mask=kept)
    scale = 1.0 / tl.sqrt(tl.sum(found * found, 0) / width + epsilon)
    weight = tl.load(w + at, mask=kept, other=0.0).to(tl.float32)
    tl.store(y + row + at, (found * scale * weight).to(y.dtype.element_ty), mask=kept)


def _warps(width: int) -> int:
    """Warps for a token: 8 numbers of a thread are one load of 16 bytes."""
    return max(1, min(16, int(triton.next_power_of_2(width)) // 256))


def rms_norm(x: torch.Tensor, w: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return x / rms(x) * w for x [tokens, width] (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    y = torch.empty_like(x)
    width = x.shape[1]
    _norm[(len(x),)](
        x, x, w, y, y, width, epsilon,
        BLOCK=triton.next_power_of_2(width), ADDED=False, num_warps=_warps(width),
    )  # fmt: skip
    return y


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, w: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the norm of x + residual, and that sum."""
    y, sums = torch.empty_like(x), torch.empty_like(x)
    width = x.shape[1]
    _norm[(len(x),)](
        x, residual, w, y, sums, width, epsilon,
        BLOCK=triton.next_power_of_2(width), ADDED=True, num_warps=_warps(width),
    )  # fmt: skip
    return y, sums


@triton.jit
def _gated(x, y, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = at < width
    gate = tl.load(x + row * 2 * width + at, mask=kept, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * width + width + at, mask=kept, other=0.0).to(tl.float32)
    found = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y + row * width + at, found.to(y.dtype.element_ty), mask=kept)


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """Return silu of the first half of x [tokens, 2 width] times the second."""
    width = x.shape[1] // 2
    y = torch.empty((len(x), width), dtype=x.dtype, device=x.device)
    block = min(_PART, triton.next_power_of_2(width))
    _gated[(len(x), triton.cdiv(width, block))](x, y, width, BLOCK=block, num_warps=4)
    return y


@triton.jit
def _static(x, y, scale, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    found = tl.load(x + at, mask=at < count, other=0.0).to(tl.float32) / tl.load(scale)
    found = tl.minimum(tl.maximum(found, -_LARGEST), _LARGEST)
    tl.store(y + at, found.to(y.dtype.element_ty), mask=at < count)


def quantize_static(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return x / scale in E4M3, values beyond its largest cut off; scale float32 [1]."""
    y = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    _static[(triton.cdiv(x.numel(), _PART),)](x, y, scale, x.numel(), BLOCK=_PART, num_warps=4)
    return y
