"""Attention of a vision tower: every patch of an image sees every other, none of another image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.light import Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables, distinct_shapes
from aiconf.system.spec import Gpu


@dataclass(frozen=True)
class EncoderHeads:
    """Attention of one rank: ``heads`` of queries, keys and values alike."""

    heads: int
    head_dim: int


def encoder_light(gpu: Gpu, shape: EncoderHeads, images: Array, patches: Array) -> Array:
    """4 FLOP per pair of patches and head element; q, k, v and output through memory once."""
    width = float(shape.heads * shape.head_dim)
    moved = images * patches * 4.0 * width * 2.0
    return roofline(gpu, "bf16", 4.0 * images * patches**2 * width, moved)


@dataclass(frozen=True)
class _Kernel:
    """A measured surface over (images, patches) and its origin; None: nothing was measured."""

    surface: Surface | None
    origin: Origin


def _kernel(tables: Tables, shape: EncoderHeads) -> _Kernel:
    key = ("encoder", shape)
    if key not in tables.built:
        tables.built[key] = _build(tables, shape)
    kernel: _Kernel = tables.built[key]
    return kernel


def _build(tables: Tables, shape: EncoderHeads) -> _Kernel:
    rows = tables.read("encoder_attention", "encoder_attention", dtype="bf16")
    if rows is None:
        return _Kernel(None, Origin.FALLBACK)
    unique, place = distinct_shapes(rows, ("head_dim", "heads"))
    # Kernels are tiled by head size, so that its neighbours say less than those in heads.
    far = np.abs(np.log2(unique / np.array([shape.head_dim, shape.heads]))) @ np.array([4.0, 1.0])
    best = int(np.argmin(far))
    found = EncoderHeads(int(unique[best, 1]), int(unique[best, 0]))
    mask, gpu = place == best, tables.system.gpu
    measured = Surface.fit(
        (rows["batch"][mask], rows["isl"][mask]),
        rows["seconds"][mask],
        partial(encoder_light, gpu, found),
        (1, 2),
    )
    origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
    if found.head_dim != shape.head_dim:
        origin = Origin.FALLBACK
    return _Kernel(measured.serving(partial(encoder_light, gpu, shape)), origin)


def _points(images: ArrayLike, patches: ArrayLike) -> tuple[Array, Array]:
    n = np.maximum(np.asarray(images, dtype=np.float64), 1.0)
    return n, np.maximum(np.asarray(patches, dtype=np.float64), 1.0)


def encoder_seconds(
    tables: Tables, shape: EncoderHeads, images: ArrayLike, patches: ArrayLike
) -> tuple[Array, Origins]:
    """Attention of one layer over ``images`` of ``patches`` each, and where each time is from.

    Parameters
    ----------
    tables
        Of the system and engine.
    shape
        Heads of one rank.
    images, patches
        Arrays that broadcast against each other; counts below 1 are taken as 1.
    """
    n, each = np.broadcast_arrays(*_points(images, patches))
    kernel = _kernel(tables, shape)
    if kernel.surface is None:
        return encoder_light(tables.system.gpu, shape, n, each), unmeasured(n)
    return kernel.surface.seconds(n, each), reached(kernel.surface, kernel.origin, n, each)
