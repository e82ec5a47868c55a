"""mxfp4: E2M1 numbers with one power of two per 32 (OCP Microscaling Formats v1.0, 2023).

Packed for products: 128 numbers of a row lie in 64 bytes, the first 64 of them in the low halves,
so that either half of a run of bytes is a run of numbers. Rows are padded with zeros to whole 128.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profilers.formats import E2M1_MAX, Quantized

if TYPE_CHECKING:
    from torch import Tensor

SCALED = 32  # numbers that share a scale
PACKED = 128  # numbers that are packed together
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # magnitudes by code
_BIAS = 127  # of E8M0 scales


def mxfp4(w: Tensor) -> Quantized:
    """Weights [n, k] as bytes [n, k / 2] and E8M0 scales [n, k / 32], k padded to whole 128."""
    import torch

    padded = torch.nn.functional.pad(w.float(), (0, -w.shape[1] % PACKED))
    groups = padded.unflatten(1, (-1, SCALED))
    # The power of two under which the largest of a group fits below 6: rounding may cut it.
    power = torch.floor(torch.log2(groups.abs().amax(2).clamp_min(2.0**-100) / E2M1_MAX)) + 1
    scaled = (groups / torch.exp2(power)[..., None]).flatten(1)
    steps = torch.tensor(_E2M1, device=w.device)
    codes = torch.bucketize(scaled.abs(), (steps[1:] + steps[:-1]) / 2) + 8 * (scaled < 0)
    low, high = codes.unflatten(1, (-1, 2, PACKED // 2)).unbind(2)
    data = (low + 16 * high).flatten(1).to(torch.uint8)
    return Quantized(data, (power + _BIAS).to(torch.uint8), (1, SCALED))


def exact_mxfp4(q: Quantized) -> Tensor:
    """The numbers that rows stand for, in float64, padding included."""
    import torch

    steps = torch.tensor((*_E2M1, *(-s for s in _E2M1)), device=q.data.device).double()
    data = q.data.unflatten(1, (-1, PACKED // 2))
    codes = torch.stack([data & 15, data >> 4], dim=2).flatten(1)
    scale = torch.exp2(q.scale.double() - _BIAS).repeat_interleave(SCALED, dim=1)
    return steps[codes.long()] * scale
