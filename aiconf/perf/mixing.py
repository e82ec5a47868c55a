"""Hyper-connections (DeepSeek-V4): residual streams mixed before and after each block."""

from __future__ import annotations

from functools import partial

import numpy as np

from aiconf.perf.light import Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Tables, nearest
from aiconf.system.spec import Gpu

_BLOCKS = 2  # of a layer: attention and experts; the tables hold both together


def _light(gpu: Gpu, hidden: float, streams: int, tokens: Array) -> Array:
    """Before a block all streams are read and one is written, after it all are read and written.

    The weights come from a product of all streams (bf16 in, float32 weights).
    """
    mixes = streams * (streams + 2)
    moved = tokens * 2.0 * hidden * (3 * streams + 2) + 4.0 * mixes * streams * hidden
    flops = 2.0 * tokens * mixes * streams * hidden
    return _BLOCKS * roofline(gpu, "bf16", flops, moved)


def mixing_seconds(
    tables: Tables, hidden: int, streams: int, tokens: Array
) -> tuple[Array, Origins]:
    """Seconds of one layer's mixing, before and after both of its blocks, and their origin.

    Parameters
    ----------
    tables
        Of the system and engine.
    hidden
        Width of one stream.
    streams
        Residual streams.
    tokens
        Tokens of the rank, shape (points,).
    """
    rows = tables.read("hyper_connection", "hyper_connection", streams=streams)
    light = partial(_light, tables.system.gpu, float(hidden), streams)
    if rows is None:
        return light(tokens), unmeasured(tokens)
    kept, same = nearest(rows, "hidden", hidden)
    measured = partial(_light, tables.system.gpu, float(kept["hidden"][0]), streams)
    total: Array = np.zeros(tokens.shape)
    origin: Origins = np.zeros(tokens.shape, dtype=np.intp)
    own = same and not tables.borrowed("hyper_connection")
    best = Origin.MEASURED if own else Origin.INTERPOLATED
    for op in np.unique(kept["op"]):
        mask = kept["op"] == op
        surface = Surface.fit((kept["tokens"][mask],), kept["seconds"][mask], measured)
        surface = surface.serving(light)
        total = total + surface.seconds(tokens)
        origin = np.maximum(origin, reached(surface, best, tokens))
    return total, origin
