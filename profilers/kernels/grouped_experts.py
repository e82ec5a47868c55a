"""Routed experts in Triton: two grouped matrix products around a gated SiLU.

One program computes a tile: some pairs (token, expert) of one expert, some columns. The first
product computes gate and up side by side, so that their activation, and for fp8 its quantisation,
never passes through memory as two halves; the second weighs its rows by the router; a third
kernel sums the experts of each token. Weights are bf16, or E4M3 with one scale per 128 x 128 (and
activations with one per 128 columns of a token), so that one scale holds for a step of the depth,
or mxfp4, which is widened on its way to the matrix units.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from profilers.formats import E4M3_MAX
from profilers.kernels.route import Tiles, Workspace
from profilers.kernels.unpack import packed_dot

_LARGEST = tl.constexpr(E4M3_MAX)
_TINY = tl.constexpr(1e-12)
_SUMMED = 512  # columns of a token that one program sums


@dataclass(frozen=True)
class Product:
    """Columns and depth of a tile, warps, pipeline stages, and tiles of rows that run together."""

    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 1


@dataclass(frozen=True)
class Experts:
    """Weights of the experts of one GPU, and scales where they are E4M3 or mxfp4.

    gate_up [experts, 2 inter, hidden]: gates first; down [experts, hidden, inter]; scales
    [experts, rows / 128, columns / 128] float32. mxfp4: as ``profilers.microscaling`` packs them.
    """

    gate_up: torch.Tensor
    down: torch.Tensor
    gate_up_scale: torch.Tensor | None = None
    down_scale: torch.Tensor | None = None

    @property
    def packed(self) -> bool:
        """Whether they are mxfp4."""
        return bool(self.gate_up.dtype == torch.uint8)

    @property
    def scaled(self) -> bool:
        """Whether they are E4M3, and activations with them."""
        return self.gate_up_scale is not None and not self.packed


@triton.jit
def _tile(tiles, columns_of_tiles, group):
    """Row and column tile of this program: ``group`` row tiles pass over all columns together."""
    program = tl.program_id(0)
    first = program // (group * columns_of_tiles) * group
    together = min(tiles - first, group)
    inside = program % (group * columns_of_tiles)
    return first + inside % together, inside // together


@triton.jit
def _pairs_of(tile, pairs, tile_expert, tile_first, counts, local,
              BLOCK_M: tl.constexpr, GATHERED: tl.constexpr):  # fmt: skip
    """Expert of a tile (-1: not of this GPU), its pairs, and which of its rows hold one."""
    row = tl.arange(0, BLOCK_M)
    expert = tl.load(tile_expert + tile)
    if GATHERED:
        count = tl.load(counts + expert, mask=expert >= 0, other=0)
        used = tl.load(tile_first + tile) + row < count
        pair = tl.load(pairs + tile * BLOCK_M + row, mask=used, other=0)
    else:  # few pairs: each has a tile of its own
        used = row == 0
        pair = tl.full((BLOCK_M,), 0, tl.int32) + tile
        expert = tl.where(expert < local, expert, -1)
    return expert.to(tl.int64), pair.to(tl.int64), used


@triton.jit(do_not_specialize=["tiles", "local", "topk"])
def _gate_up(
    x, x_scale, w, w_scale, h, h_scale, pairs, tile_expert, tile_first, counts,
    tiles, local, hidden, inter, topk, group,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GATHERED: tl.constexpr, SCALED: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    tile, tile_n = _tile(tiles, tl.cdiv(inter, BLOCK_N), group)
    expert, pair, used = _pairs_of(
        tile, pairs, tile_expert, tile_first, counts, local, BLOCK_M, GATHERED
    )
    if expert < 0:
        return
    token = pair // topk
    column = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    kept = column < inter
    near = tl.where(kept, column, 0)
    depth = tl.arange(0, BLOCK_K)
    x_tile = x + token[:, None] * hidden + depth[None, :]
    gate_tile = w + (expert * 2 * inter + near[None, :]) * hidden + depth[:, None]
    up_tile = gate_tile + inter.to(tl.int64) * hidden
    gate = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    up = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    steps = tl.cdiv(hidden, BLOCK_K)
    if SCALED:
        # One scale per 128 x 128: that of the first column holds for the tile.
        blocks = tl.cdiv(inter, 128)
        gate_scale = w_scale + (expert * 2 * blocks + tile_n * BLOCK_N // 128) * steps
        up_scale = gate_scale + blocks * steps
        x_scales = x_scale + token * steps
    if PACKED:
        row = w + (expert * 2 * inter + near) * (steps * 64)
        powers = w_scale + (expert * 2 * inter + near) * (steps * 4)
        x_row = x + token * hidden
        gate = packed_dot(x_row, used, hidden, row, powers, gate, BLOCK_N)
        row, powers = row + inter * (steps * 64), powers + inter * (steps * 4)
        up = packed_dot(x_row, used, hidden, row, powers, up, BLOCK_N)
    else:
        for step in range(steps):
            inside = depth < hidden - step * BLOCK_K
            a = tl.load(x_tile, mask=used[:, None] & inside[None, :], other=0.0)
            g = tl.load(gate_tile, mask=inside[:, None], other=0.0)
            u = tl.load(up_tile, mask=inside[:, None], other=0.0)
            if SCALED:
                scale = tl.load(x_scales + step)
                gate += tl.dot(a, g) * (scale * tl.load(gate_scale + step))[:, None]
                up += tl.dot(a, u) * (scale * tl.load(up_scale + step))[:, None]
            else:
                gate = tl.dot(a, g, gate)
                up = tl.dot(a, u, up)
            x_tile += BLOCK_K
            gate_tile += BLOCK_K
            up_tile += BLOCK_K
    found = gate / (1.0 + tl.exp(-gate)) * up
    place = h + pair[:, None] * inter + column[None, :]
    stored = used[:, None] & kept[None, :]
    if SCALED:
        scale = tl.maximum(tl.max(tl.abs(found), 1) / _LARGEST, _TINY)
        tl.store(place, (found / scale[:, None]).to(h.dtype.element_ty), mask=stored)
        tl.store(h_scale + pair * tl.cdiv(inter, BLOCK_N) + tile_n, scale, mask=used)
    else:
        tl.store(place, found.to(h.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=["tiles", "local"])
def _down(
    h, h_scale, w, w_scale, weights, y, pairs, tile_expert, tile_first, counts,
    tiles, local, hidden, inter, group,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GATHERED: tl.constexpr, SCALED: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    tile, tile_n = _tile(tiles, tl.cdiv(hidden, BLOCK_N), group)
    expert, pair, used = _pairs_of(
        tile, pairs, tile_expert, tile_first, counts, local, BLOCK_M, GATHERED
    )
    if expert < 0:
        return
    column = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    kept = column < hidden
    near = tl.where(kept, column, 0)
    depth = tl.arange(0, BLOCK_K)
    h_tile = h + pair[:, None] * inter + depth[None, :]
    w_tile = w + (expert * hidden + near[None, :]) * inter + depth[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    steps = tl.cdiv(inter, BLOCK_K)
    if SCALED:
        w_scales = w_scale + (expert * tl.cdiv(hidden, 128) + tile_n * BLOCK_N // 128) * steps
        h_scales = h_scale + pair * steps
    if PACKED:
        row = w + (expert * hidden + near) * (steps * 64)
        powers = w_scale + (expert * hidden + near) * (steps * 4)
        total = packed_dot(h + pair * inter, used, inter, row, powers, total, BLOCK_N)
    else:
        for step in range(steps):
            inside = depth < inter - step * BLOCK_K
            a = tl.load(h_tile, mask=used[:, None] & inside[None, :], other=0.0)
            b = tl.load(w_tile, mask=inside[:, None], other=0.0)
            if SCALED:
                scale = tl.load(h_scales + step) * tl.load(w_scales + step)
                total += tl.dot(a, b) * scale[:, None]
            else:
                total = tl.dot(a, b, total)
            h_tile += BLOCK_K
            w_tile += BLOCK_K
    total *= tl.load(weights + pair, mask=used, other=0.0)[:, None]
    place = y + pair[:, None] * hidden + column[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=used[:, None] & kept[None, :])


@triton.jit(do_not_specialize=["local"])
def _sum(y, ids, out, counts, hidden, local,
         TOPK: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for slot in tl.static_range(TOPK):
        pair = token * TOPK + slot
        here = tl.load(ids + pair) < local  # others are summed on their own GPU
        total += tl.load(y + pair * hidden + column, mask=(column < hidden) & here, other=0.0)
    tl.store(out + token * hidden + column, total.to(out.dtype.element_ty), mask=column < hidden)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):  # for the next call
        expert = tl.arange(0, BLOCK_E)
        tl.store(counts + expert, tl.zeros((BLOCK_E,), tl.int32), mask=expert < local)


def gate_up(
    x: torch.Tensor, x_scale: torch.Tensor | None, experts: Experts, space: Workspace,
    tiles: Tiles | None, config: Product, rows: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Return silu(gate) * up [pairs, inter] of all pairs, and its scales where x has some.

    tiles: None where each pair is a tile of its own, of ``rows`` rows.
    """
    hidden, (_, twice, _) = x.shape[1], experts.gate_up.shape
    inter, pairs = twice // 2, space.ids.numel()
    h = torch.empty((pairs, inter), dtype=x.dtype, device=x.device)
    wide = triton.cdiv(inter, config.columns)
    scaled = x_scale is not None
    h_scale = torch.empty((pairs, wide), device=x.device) if scaled else None
    count, *where = _where(tiles, space)
    _gate_up[(count * wide,)](
        x, x_scale, experts.gate_up, experts.gate_up_scale, h, h_scale, *where, space.counts,
        count, len(space.counts), hidden, inter, space.ids.shape[1], config.group,
        BLOCK_M=rows, BLOCK_N=config.columns, BLOCK_K=config.depth,
        GATHERED=tiles is not None, SCALED=scaled, PACKED=experts.packed,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return h, h_scale


def down(
    h: torch.Tensor, h_scale: torch.Tensor | None, experts: Experts, space: Workspace,
    tiles: Tiles | None, config: Product, rows: int,
) -> torch.Tensor:  # fmt: skip
    """Return [pairs, hidden] bf16: the second product, weighed by the router."""
    (pairs, inter), hidden = h.shape, experts.down.shape[1]
    y = torch.empty((pairs, hidden), dtype=torch.bfloat16, device=h.device)
    count, *where = _where(tiles, space)
    _down[(count * triton.cdiv(hidden, config.columns),)](
        h, h_scale, experts.down, experts.down_scale, space.weights, y, *where, space.counts,
        count, len(space.counts), hidden, inter, config.group,
        BLOCK_M=rows, BLOCK_N=config.columns, BLOCK_K=config.depth,
        GATHERED=tiles is not None, SCALED=h_scale is not None, PACKED=experts.packed,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return y


def sum_experts(y: torch.Tensor, space: Workspace) -> torch.Tensor:
    """Return [tokens, hidden]: the sum over the experts of each token; clears the counts."""
    (tokens, topk), hidden = space.ids.shape, y.shape[1]
    out = torch.empty((tokens, hidden), dtype=y.dtype, device=y.device)
    local = len(space.counts)
    _sum[(tokens, triton.cdiv(hidden, _SUMMED))](
        y, space.ids, out, space.counts, hidden, local,
        TOPK=topk, BLOCK=_SUMMED, BLOCK_E=triton.next_power_of_2(local),
    )  # fmt: skip
    return out


def _where(
    tiles: Tiles | None, space: Workspace
) -> tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count of tiles, their pairs, experts and first ranks; without gathering, ids say it."""
    if tiles is None:
        return space.ids.numel(), space.ids, space.ids, space.ids
    return tiles.count, tiles.pairs, tiles.expert, tiles.first
