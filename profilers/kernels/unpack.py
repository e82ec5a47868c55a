"""mxfp4 weights to bf16 inside a Triton kernel, see ``profilers.microscaling``."""

import triton
import triton.language as tl


@triton.jit
def _e2m1(codes, power):
    """E2M1 codes times 2 ** (power - 127): every result is a bf16 number."""
    size = (codes & 7).to(tl.int32)
    # Codes from 2 on are floats whose two bits of exponent and one of fraction only have to move.
    large = ((size << 22) + (126 << 23)).to(tl.float32, bitcast=True)
    found = tl.where(size < 2, size.to(tl.float32) * 0.5, large)
    found = tl.where((codes & 8) != 0, -found, found)
    return found * (power.to(tl.int32) << 23).to(tl.float32, bitcast=True)


@triton.jit
def unpack(row, scale_row, step, BLOCK_N: tl.constexpr):
    """128 numbers of ``BLOCK_N`` rows, transposed: the first 64 and the last [64, BLOCK_N] bf16.

    row, scale_row: pointers [BLOCK_N] to where rows and their scales begin.
    """
    part, inner = tl.arange(0, 2)[:, None, None], tl.arange(0, 32)[None, :, None]
    data = tl.load(row[None, None, :] + step * 64 + part * 32 + inner)
    powers = scale_row[None, None, :] + step * 4 + part
    low = _e2m1(data & 15, tl.load(powers))
    high = _e2m1(data >> 4, tl.load(powers + 2))
    return (
        tl.reshape(low, (64, BLOCK_N)).to(tl.bfloat16),
        tl.reshape(high, (64, BLOCK_N)).to(tl.bfloat16),
    )


@triton.jit
def packed_dot(x_row, used, depth, row, scale_row, total, BLOCK_N: tl.constexpr):
    """Add to ``total`` the product of rows of x, ``depth`` long, and ``BLOCK_N`` rows of mxfp4.

    x_row: pointers to where rows of x begin, of which those ``used`` count.
    """
    half = tl.arange(0, 64)
    for step in range(tl.cdiv(depth, 128)):
        low, high = unpack(row, scale_row, step, BLOCK_N)
        at = step * 128 + half
        seen = used[:, None] & (at < depth)[None, :]
        total = tl.dot(tl.load(x_row[:, None] + at[None, :], mask=seen, other=0.0), low, total)
        seen = used[:, None] & (at + 64 < depth)[None, :]
        x = tl.load(x_row[:, None] + at[None, :] + 64, mask=seen, other=0.0)
        total = tl.dot(x, high, total)
    return total
