"""Operands in the number formats of engines, and what they stand for in float64.

fp8 is OCP E4M3 (Micikevicius et al. 2022, arXiv 2209.05433). fp8_block: one scale per 128
activations of a token and per 128 x 128 weights (DeepSeek-V3, arXiv 2412.19437, section 3.3).
nvfp4: E2M1 with an E4M3 scale per 16 and a float32 scale per tensor (NVIDIA, "Introducing
NVFP4", 2025). int8: symmetric, one scale per token and per output channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128  # of fp8_block
GROUP = 16  # of nvfp4
E4M3_MAX, E2M1_MAX, INT8_MAX = 448.0, 6.0, 127.0
_TINY = 1e-12  # smallest scale, so that a matrix of zeros has one
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # magnitudes by code


@dataclass(frozen=True)
class Quantized:
    """A matrix [rows, k] in a narrow format.

    data: [rows, k], or [rows, k / 2] bytes of two nvfp4 codes, the even column in the low half.
    scale: [rows / block rows, k / block columns], float32 or (nvfp4) E4M3. block: rows and
    columns that share a scale. tensor_scale: float32 of shape [1], nvfp4 only.
    """

    data: Tensor
    scale: Tensor
    block: tuple[int, int]
    tensor_scale: Tensor | None = None


def per_tensor(x: Tensor) -> Quantized:
    """fp8 with one scale."""
    import torch

    scale = x.abs().amax().float().clamp_min(_TINY) / E4M3_MAX
    data = (x.float() / scale).to(torch.float8_e4m3fn)
    return Quantized(data, scale.reshape(1, 1), (x.shape[0], x.shape[1]))


def per_token_block(x: Tensor) -> Quantized:
    """fp8_block activations: one scale per token and 128 columns."""
    return _blocks(x, 1)


def per_block(w: Tensor) -> Quantized:
    """fp8_block weights: one scale per 128 x 128."""
    return _blocks(w, BLOCK)


def _blocks(x: Tensor, rows: int) -> Quantized:
    import torch

    count, k = x.shape
    high, wide = -(-count // rows), -(-k // BLOCK)
    padded = torch.nn.functional.pad(x.float(), (0, wide * BLOCK - k, 0, high * rows - count))
    tiles = padded.reshape(high, rows, wide, BLOCK)
    scale = tiles.abs().amax(dim=(1, 3)).clamp_min(_TINY) / E4M3_MAX
    data = (tiles / scale[:, None, :, None]).reshape(high * rows, wide * BLOCK)[:count, :k]
    return Quantized(data.to(torch.float8_e4m3fn).contiguous(), scale, (rows, BLOCK))


def per_row_int8(x: Tensor) -> Quantized:
    """int8 with one scale per row: per token of activations, per channel of weights."""
    import torch

    scale = x.abs().amax(dim=1, keepdim=True).float().clamp_min(_TINY) / INT8_MAX
    return Quantized((x.float() / scale).round().to(torch.int8), scale, (1, x.shape[1]))


def nvfp4(x: Tensor) -> Quantized:
    """nvfp4: the scale of the tensor maps its largest block scale to the largest E4M3."""
    import torch

    count, k = x.shape
    groups = x.float().reshape(count, k // GROUP, GROUP)
    largest = groups.abs().amax(dim=2)
    tensor_scale = largest.amax().clamp_min(_TINY) / (E4M3_MAX * E2M1_MAX)
    scale = (largest / E2M1_MAX / tensor_scale).to(torch.float8_e4m3fn)
    unit = (scale.float() * tensor_scale).clamp_min(_TINY)
    steps = torch.tensor(_E2M1, device=x.device)
    scaled = (groups / unit[:, :, None]).reshape(count, k)
    codes = torch.bucketize(scaled.abs(), (steps[1:] + steps[:-1]) / 2) + 8 * (scaled < 0)
    packed = (codes[:, 0::2] + 16 * codes[:, 1::2]).to(torch.uint8)
    return Quantized(packed, scale, (1, GROUP), tensor_scale.reshape(1))


def exact(q: Quantized, rows: list[int]) -> Tensor:
    """The numbers that ``rows`` of a quantised matrix stand for, in float64."""
    import torch

    picked = torch.tensor(rows, device=q.data.device)
    high, wide = q.block
    # Rows are picked as bytes: not every device indexes narrow floats.
    data = q.data.view(torch.uint8)[picked].view(q.data.dtype)
    factor = 1.0
    if q.tensor_scale is not None:
        steps = torch.tensor((*_E2M1, *(-s for s in _E2M1)), device=data.device)
        codes = torch.stack([data & 15, data >> 4], dim=2).reshape(len(rows), -1)
        data, factor = steps[codes.long()], float(q.tensor_scale)
    scale = q.scale.double()[picked // high].repeat_interleave(wide, dim=1)
    return data.double() * scale[:, : data.shape[1]] * factor


def swizzled(scale: Tensor) -> Tensor:
    """Scales [rows, groups] in the order that Blackwell's matrix units read.

    Tiles of 128 rows x 4 groups, row r of a tile at (r % 32, r // 32); padded with zeros to whole
    tiles (cuBLAS documentation, "1D Block Scaling Factors Layout").
    """
    import torch

    rows, groups = scale.shape
    tall, wide = -(-rows // 128), -(-groups // 4)
    padded = torch.zeros((tall * 128, wide * 4), dtype=scale.dtype, device=scale.device)
    padded.view(torch.uint8)[:rows, :groups] = scale.view(torch.uint8)
    tiles = padded.view(torch.uint8).reshape(tall, 4, 32, wide, 4).permute(0, 3, 2, 1, 4)
    return tiles.contiguous().view(scale.dtype).reshape(tall * 128, wide * 4)
