"""Routed experts from router logits to the sum of a token's experts: our own, in Triton."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from profilers.kernels.choose import fastest
from profilers.kernels.grouped_experts import Experts, Product, down, gate_up, sum_experts
from profilers.kernels.quantize import quantize_tokens
from profilers.kernels.route import Workspace, gather, route


@dataclass(frozen=True)
class Config:
    """Rows of a tile, and how both products are computed."""

    rows: int
    gate_up: Product
    down: Product


# What to try, by rows of a tile. Few rows: weights stream through memory, so depth is long and
# stages hide it. Many rows: 128 x 256 products of Hopper's matrix units, where gate and up are
# 128 columns each; row tiles of an expert run together and share its weights in the L2 cache.
# E4M3: the depth of a step is that of a scale, and 128 columns of a gate share the scale of
# their activation.
WIDE = {
    16: (
        (Product(64, 128, 4, 3), Product(64, 64, 4, 5), Product(32, 128, 4, 4)),
        (Product(64, 128, 4, 4), Product(128, 128, 4, 3), Product(64, 64, 4, 5)),
    ),
    32: (
        (Product(64, 64, 4, 4), Product(64, 128, 4, 3), Product(128, 64, 8, 3)),
        (Product(128, 128, 4, 3), Product(64, 64, 4, 4), Product(256, 64, 8, 3)),
    ),
    64: (
        (Product(64, 64, 4, 4, 8), Product(128, 64, 8, 4, 8), Product(64, 64, 4, 3, 1)),
        (Product(128, 64, 4, 4, 8), Product(256, 64, 8, 3, 8), Product(128, 64, 4, 3, 1)),
    ),
    128: (
        (Product(128, 64, 8, 4, 16), Product(128, 64, 8, 3, 8), Product(64, 64, 8, 4, 16)),
        (Product(256, 64, 8, 4, 16), Product(256, 64, 8, 3, 8), Product(128, 64, 8, 4, 16)),
    ),
}
SCALED = {
    16: (
        (Product(128, 128, 4, 3), Product(128, 128, 8, 3), Product(128, 128, 4, 4)),
        (Product(128, 128, 4, 4), Product(64, 128, 4, 5), Product(128, 128, 4, 3)),
    ),
    32: (
        (Product(128, 128, 8, 3), Product(128, 128, 4, 3)),
        (Product(128, 128, 4, 4), Product(64, 128, 4, 4)),
    ),
    64: (
        (Product(128, 128, 8, 3, 16), Product(128, 128, 8, 4, 16), Product(128, 128, 4, 3, 16)),
        (Product(128, 128, 4, 4, 16), Product(128, 128, 8, 3, 16), Product(128, 128, 4, 3, 1)),
    ),
    128: (  # gate and up of 128 rows do not fit the registers of 8 warps: they spill a little
        (Product(128, 128, 8, 3, 16), Product(128, 128, 16, 3, 16)),
        (Product(128, 128, 8, 3, 16), Product(128, 128, 8, 4, 16)),
    ),
}
# mxfp4: 128 numbers are unpacked in a step, in registers, which limits the columns.
PACKED = {
    16: (
        (Product(32, 128, 4, 3), Product(64, 128, 4, 3), Product(32, 128, 4, 4)),
        (Product(64, 128, 4, 3), Product(32, 128, 4, 4), Product(128, 128, 4, 3)),
    ),
    32: (
        (Product(64, 128, 4, 3), Product(32, 128, 4, 4)),
        (Product(64, 128, 4, 3), Product(128, 128, 8, 3)),
    ),
    64: (
        (Product(64, 128, 4, 3, 8), Product(64, 128, 8, 3, 8)),
        (Product(128, 128, 8, 3, 8), Product(64, 128, 4, 3, 8)),
    ),
    128: (
        (Product(64, 128, 8, 3, 16), Product(128, 128, 8, 2, 16)),
        (Product(128, 128, 8, 3, 16), Product(64, 128, 8, 3, 16)),
    ),
}
_GATHER = 4  # pairs per expert, times this, from which gathering them is worth its kernel


def _tall(pairs: int, experts: int) -> tuple[int, ...]:
    """Rows of a tile worth trying: around the pairs of an average expert."""
    each = pairs / experts
    if each <= 8:
        return (16,)
    if each <= 32:
        return (16, 32)
    return (32, 64) if each <= 64 else (64, 128)


def fused_moe(x: torch.Tensor, logits: torch.Tensor, topk: int, experts: Experts) -> Callable[
    [], torch.Tensor
]:  # fmt: skip
    """Return the call for x [tokens, hidden] bf16 and logits [tokens, all experts] float32.

    The first experts are those of this GPU, the others lie elsewhere: their share is left out.
    """
    (tokens, total), local = logits.shape, len(experts.gate_up)
    pairs, scaled = tokens * topk, experts.scaled
    space = Workspace.of(tokens, topk, local, x.device)
    gathered = pairs * _GATHER > total

    def run(config: Config) -> torch.Tensor:
        try:
            return steps(config)
        except Exception:  # a tile too large for this GPU: the counts were not cleared
            space.counts.zero_()
            raise

    def steps(config: Config) -> torch.Tensor:
        route(logits, space)
        tiles = gather(space, config.rows) if gathered else None
        narrow, scale = quantize_tokens(x) if scaled else (x, None)
        h, h_scale = gate_up(narrow, scale, experts, space, tiles, config.gate_up, config.rows)
        y = down(h, h_scale, experts, space, tiles, config.down, config.rows)
        return sum_experts(y, space)

    shape = ("fused_moe", *x.shape, total, topk, *experts.gate_up.shape, experts.gate_up.dtype)
    best, tried_by_rows = [], PACKED if experts.packed else SCALED if scaled else WIDE
    for rows in _tall(pairs, total) if gathered else (16,):
        firsts, seconds = tried_by_rows[rows]
        tried = [Config(rows, first, seconds[0]) for first in firsts]
        found = fastest((*shape, rows, "gate_up"), tried, run, x.device)
        tried = [Config(rows, found.gate_up, second) for second in seconds]
        best.append(fastest((*shape, rows, "down"), tried, run, x.device))
    config = fastest((*shape, "rows"), best, run, x.device)
    return lambda: run(config)
