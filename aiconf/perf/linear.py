"""Linear attention: a short convolution and a recurrence over a state of fixed size.

Two kernels per phase: ``conv`` over the joined q, k and v channels, and ``scan``, the gated delta
rule (Yang et al., arXiv 2412.06464), Kimi delta attention (arXiv 2510.26692) or Mamba2 (Dao and
Gu, arXiv 2405.21060): chunk by chunk for prompts, one step per sequence in decode. Neither depends
on how many tokens came before. No table holds a scan of Mamba2: it is the speed of light at the
efficiency of the gated delta rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Columns, Tables, distinct_shapes
from aiconf.system.spec import Gpu

STAGES = ("conv", "scan")
# Products per token and value head, in elements: of key_dim x value_dim with the state, and of
# key_dim and value_dim with each token of the chunk (the two papers' chunkwise algorithms).
_PRODUCTS = {"gdn": (3.0, 3.0, 2.0), "kda": (3.0, 3.0, 2.0), "mamba2": (2.0, 1.0, 1.0)}
_CHUNK = 64.0  # tokens of a chunk of the prompt kernels (flash-linear-attention, chunk_size 64)
_SHAPE = ("key_heads", "value_heads", "key_dim", "value_dim")


@dataclass(frozen=True)
class Recurrence:
    """Linear attention of one rank. ``taps``: inputs that the convolution sees."""

    kind: str
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int

    @property
    def channels(self) -> int:
        """Channels of the convolution: q, k and v."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    @property
    def state(self) -> int:
        """Elements of the recurrence's state of one sequence."""
        return self.value_heads * self.key_dim * self.value_dim


def _conv_light(gpu: Gpu, shape: Recurrence, batch: Array, length: Array) -> Array:
    """Reads and writes every channel in bf16, and the inputs kept of each sequence."""
    moved = 4.0 * shape.channels * batch * (length + shape.taps - 1.0)
    return moved / gpu.memory_bandwidth


def _scan_light(gpu: Gpu, shape: Recurrence, batch: Array, length: Array) -> Array:
    """Chunkwise form, state in float32 read and written once; one token alone has no chunk."""
    state, keys, values = _PRODUCTS[shape.kind]
    inside = 2.0 * np.minimum(length, _CHUNK) * (keys * shape.key_dim + values * shape.value_dim)
    each = 2.0 * state * shape.key_dim * shape.value_dim + np.where(length > 1, inside, 0.0)
    flops = batch * length * shape.value_heads * each
    outputs = shape.value_heads * shape.value_dim
    moved = batch * (8.0 * shape.state + 2.0 * length * (shape.channels + outputs))
    return roofline(gpu, "bf16", flops, moved)


_LIGHT: dict[str, Callable[[Gpu, Recurrence, Array, Array], Array]] = {
    "conv": _conv_light,
    "scan": _scan_light,
}


def linear_light(gpu: Gpu, shape: Recurrence, batch: Array, length: Array) -> Array:
    """Speed of light of both kernels for ``batch`` sequences of ``length`` new tokens."""
    total = sum(_LIGHT[stage](gpu, shape, batch, length) for stage in STAGES)
    return np.asarray(total, dtype=np.float64)


@dataclass(frozen=True)
class _Kernel:
    """A measured surface over (sequences, new tokens of each) and its origin."""

    surface: Surface
    origin: Origin


def _nearest(rows: Columns, shape: Recurrence) -> tuple[Recurrence, NDArray[np.bool_]]:
    """Measured head shape nearest to ``shape``, and its rows."""
    unique, place = distinct_shapes(rows, _SHAPE)
    wanted = np.array([getattr(shape, name) for name in _SHAPE], dtype=np.float64)
    far = np.abs(np.log2(unique / wanted)) @ np.array([0.5, 1.0, 4.0, 4.0])
    best = int(np.argmin(far))
    keys, values, key_dim, value_dim = (int(size) for size in unique[best])
    found = Recurrence(shape.kind, keys, values, key_dim, value_dim, shape.taps)
    return found, place == best


def _rows(tables: Tables, phase: str, stage: str, kind: str) -> tuple[Columns | None, str]:
    """Rows of a kernel: its own kind's, else the nearest that was measured."""
    choice = f"linear_{phase}"
    for name in dict.fromkeys((kind, "gdn")):
        rows = tables.read("linear_attention", choice, kind=name, stage=stage, phase=phase)
        if rows is not None:
            return rows, name
    return None, kind


def _build(tables: Tables, phase: str, shape: Recurrence) -> list[_Kernel]:
    kernels = []
    for stage in STAGES:
        rows, kind = _rows(tables, phase, stage, shape.kind)
        if rows is None:
            return []
        found, mask = _nearest(rows, replace(shape, kind=kind))
        gpu = tables.system.gpu
        measured = Surface.fit(
            (rows["batch"][mask], rows["isl"][mask]),
            rows["seconds"][mask],
            partial(_LIGHT[stage], gpu, found),
        )
        origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
        known = (found.kind, found.key_dim, found.value_dim)
        if known != (shape.kind, shape.key_dim, shape.value_dim):
            origin = Origin.FALLBACK
        kernels.append(_Kernel(measured.serving(partial(_LIGHT[stage], gpu, shape)), origin))
    return kernels


def _kernels(tables: Tables, phase: str, shape: Recurrence) -> list[_Kernel]:
    key = ("linear", phase, shape)
    if key not in tables.built:
        tables.built[key] = _build(tables, phase, shape)
    kernels: list[_Kernel] = tables.built[key]
    return kernels


def _points(batch: ArrayLike, length: ArrayLike) -> tuple[Array, Array]:
    n = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    return n, np.maximum(np.asarray(length, dtype=np.float64), 1.0)


def linear_seconds(
    tables: Tables, phase: str, shape: Recurrence, batch: ArrayLike, length: ArrayLike = 1.0
) -> Array:
    """Both kernels of one layer, in seconds.

    Parameters
    ----------
    tables
        Of the system and engine.
    phase
        ``prefill`` (``length`` new tokens of each of ``batch`` prompts) or ``decode`` (one new
        token of each of ``batch`` sequences).
    shape
        Heads of one rank.
    batch, length
        Arrays that broadcast against each other; counts below 1 are taken as 1.
    """
    n, tokens = _points(batch, length)
    kernels = _kernels(tables, phase, shape)
    if not kernels:
        return linear_light(tables.system.gpu, shape, n, tokens)
    total: Array = np.zeros(np.broadcast(n, tokens).shape)
    for kernel in kernels:
        total = total + kernel.surface.seconds(n, tokens)
    return total


def linear_origin(
    tables: Tables, phase: str, shape: Recurrence, batch: ArrayLike, length: ArrayLike = 1.0
) -> Origins:
    """Origin of each point of ``linear_seconds``: the least trustworthy of both kernels."""
    n, tokens = np.broadcast_arrays(*_points(batch, length))
    kernels = _kernels(tables, phase, shape)
    if not kernels:
        return unmeasured(n)
    worst: Origins = np.zeros(n.shape, dtype=np.intp)
    for kernel in kernels:
        worst = np.maximum(worst, reached(kernel.surface, kernel.origin, n, tokens))
    return worst
