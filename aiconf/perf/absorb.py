"""The two batched products that absorb the KV up-projection of latent attention in decode."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from aiconf.perf.latent import Latent
from aiconf.perf.light import Array, roofline
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables, having
from aiconf.system.spec import Gpu


def mla_absorb_seconds(tables: Tables, shape: Latent, tokens: ArrayLike) -> Array:
    """Both products of one layer for ``tokens``, in seconds."""
    count = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    key = ("mla_bmm", shape)
    if key not in tables.built:
        tables.built[key] = _absorb_surfaces(tables, shape)
    surfaces = tables.built[key]
    if not surfaces:
        return _absorb_light(tables.system.gpu, shape, count) * 2.0
    total = np.zeros(count.shape)
    for surface in surfaces:
        total = total + surface.seconds(count)
    return total


def _absorb_light(gpu: Gpu, shape: Latent, tokens: Array) -> Array:
    """x[tokens, heads, nope] times w[heads, nope, rank], bf16."""
    weights = shape.heads * shape.qk_nope * shape.kv_lora_rank
    moved = 2.0 * (weights + tokens * shape.heads * (shape.qk_nope + shape.kv_lora_rank))
    return roofline(gpu, "bf16", 2.0 * tokens * weights, moved)


def _absorb_surfaces(tables: Tables, shape: Latent) -> list[Surface]:
    surfaces = []
    gpu = tables.system.gpu
    for op in ("pre", "post"):
        rows = tables.read("mla_bmm", op=op)
        rows = rows and (having(rows, "dtype", "bf16", ("fp8",)) or rows)
        if rows is None:
            return []
        heads = np.unique(rows["heads"])
        near = heads[int(np.argmin(np.abs(np.log2(heads / shape.heads))))]
        mask = rows["heads"] == near
        light = partial(_absorb_light, gpu, replace(shape, heads=int(near)))
        found = Surface.fit((rows["tokens"][mask],), rows["seconds"][mask], light)
        surfaces.append(found.serving(partial(_absorb_light, gpu, shape)))
    return surfaces
