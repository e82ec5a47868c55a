"""Activations to E4M3 in Triton: one scale per token and 128 columns, see ``profilers.formats``."""

import torch
import triton
import triton.language as tl

from profilers.formats import BLOCK, E4M3_MAX

_LARGEST = tl.constexpr(E4M3_MAX)
_TINY = tl.constexpr(1e-12)  # smallest scale, as formats.per_token_block
_GROUPS = 8  # of one program


@triton.jit
def _token_groups(x, y, scales, k, groups, GROUPS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    column = group[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    found = tl.load(x + row * k + column, mask=column < k, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(found), 1) / _LARGEST, _TINY)
    narrow = (found / scale[:, None]).to(y.dtype.element_ty)
    tl.store(y + row * k + column, narrow, mask=column < k)
    tl.store(scales + row * groups + group, scale, mask=group < groups)


def quantize_tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return E4M3 [m, k] and float32 scales [m, ceil(k / 128)] of x [m, k]."""
    m, k = x.shape
    groups = triton.cdiv(k, BLOCK)
    y = torch.empty((m, k), dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty((m, groups), dtype=torch.float32, device=x.device)
    _token_groups[(m, triton.cdiv(groups, _GROUPS))](
        x, y, scales, k, groups, GROUPS=_GROUPS, WIDTH=BLOCK
    )
    return y, scales
