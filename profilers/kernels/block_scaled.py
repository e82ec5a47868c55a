"""Block-scaled fp8 product in Triton: y[m, n] = x[m, k] w[n, k], see ``profilers.formats``.

One program computes a tile of the output. It walks the depth 128 columns at a time, so that one
scale per row of x and one per 128 rows of w hold for the whole step (DeepSeek-V3 technical
report, arXiv 2412.19437, section 3.3); partial sums are float32. Programs that run together
share tiles of w, which stay in the L2 cache (Triton tutorial 03, grouped ordering).
"""

import torch
import triton
import triton.language as tl

from profilers.formats import BLOCK

_GROUP = 8  # tiles of rows whose programs run side by side


@triton.jit
def _product(
    x, w, y, x_scale, w_scale, m, n, k, group,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    tiles_m, tiles_n = tl.cdiv(m, BLOCK_M), tl.cdiv(n, BLOCK_N)
    program = tl.program_id(0)
    first = program // (group * tiles_n) * group
    together = min(tiles_m - first, group)
    inside = program % (group * tiles_n)
    tile_m, tile_n = first + inside % together, inside // together

    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    # Rows beyond the end repeat row 0: they are computed and not stored.
    row, column = tl.where(rows < m, rows, 0), tl.where(columns < n, columns, 0)
    x_tile = x + row[:, None].to(tl.int64) * k + depth[None, :]
    w_tile = w + column[None, :].to(tl.int64) * k + depth[:, None]
    blocks = tl.cdiv(k, BLOCK_K)
    x_scales = x_scale + row * blocks
    w_scales = w_scale + (column // 128) * blocks

    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(blocks):
        left = k - step * BLOCK_K
        a = tl.load(x_tile, mask=depth[None, :] < left, other=0.0)
        b = tl.load(w_tile, mask=depth[:, None] < left, other=0.0)
        scale = tl.load(x_scales + step)[:, None] * tl.load(w_scales + step)[None, :]
        total += tl.dot(a, b) * scale
        x_tile += BLOCK_K
        w_tile += BLOCK_K
    place = y + rows[:, None].to(tl.int64) * n + columns[None, :]
    kept = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(place, total.to(y.dtype.element_ty), mask=kept)


def block_scaled_mm(
    x: torch.Tensor, x_scale: torch.Tensor, w: torch.Tensor, w_scale: torch.Tensor
) -> torch.Tensor:
    """Return bf16 y[m, n]; x [m, k] and w [n, k] E4M3, scales as in ``formats.Quantized``."""
    (m, k), n = x.shape, w.shape[0]
    y = torch.empty((m, n), device=x.device, dtype=torch.bfloat16)
    tall = 16 if m <= 16 else 32 if m <= 32 else 64 if m <= 512 else 128
    wide = 64 if m <= 64 else 128
    programs = triton.cdiv(m, tall) * triton.cdiv(n, wide)
    _product[(programs,)](
        x, w, y, x_scale, w_scale, m, n, k, _GROUP,
        BLOCK_M=tall, BLOCK_N=wide, BLOCK_K=BLOCK,
        num_warps=4 if tall <= 64 else 8, num_stages=4,
    )  # fmt: skip
    return y
