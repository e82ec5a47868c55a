"""Softmax attention with grouped KV heads: prefill and decode kernels.

A prefill chunk of q tokens behind a past of p tokens does the arithmetic of a whole causal
prompt of s = sqrt(q (q + 2 p)) tokens (q (p + q / 2) = s^2 / 2 score pairs), so that is where
the table is read; the keys and values of the past are read on top. Kernels that give all keys
of a query tile to one thread block also walk them one tile after the other, however few blocks
there are: a chunk then takes no less than one head of a prompt of p + q tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.perf.light import CACHE_BYTES, Array, roofline
from aiconf.perf.origin import Origin, Origins, reached, unmeasured
from aiconf.perf.surface import Surface
from aiconf.perf.tables import Columns, Tables, distinct_shapes
from aiconf.system.spec import Gpu


@dataclass(frozen=True)
class Heads:
    """Attention of one rank: query heads, KV heads, head size, window (None: whole past)."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    kv_dtype: str


def _seen(length: Array, window: int | None) -> Array:
    return length if window is None else np.minimum(length, float(window))


def decode_light(gpu: Gpu, shape: Heads, batch: Array, past: Array) -> Array:
    """Reads K and V of the visible past once per KV head; 4 FLOP per query head element."""
    seen = batch * (_seen(past, shape.window) + 1.0)
    moved = seen * 2.0 * shape.kv_heads * shape.head_dim * CACHE_BYTES[shape.kv_dtype]
    return roofline(gpu, "bf16", 4.0 * seen * shape.heads * shape.head_dim, moved)


def prefill_light(gpu: Gpu, shape: Heads, batch: Array, length: Array) -> Array:
    """Causal prompt of ``length``: 4 FLOP per visible score pair and head element."""
    seen = _seen(length, shape.window)
    pairs = batch * seen * (length - seen / 2.0)
    moved = batch * length * 2.0 * shape.head_dim * (2.0 * shape.heads + 2.0 * shape.kv_heads)
    return roofline(gpu, "bf16", 4.0 * pairs * shape.heads * shape.head_dim, moved)


def _nearest_heads(rows: Columns, shape: Heads) -> tuple[Heads, NDArray[np.bool_]]:
    """Pick the measured head shape nearest to ``shape``; return it and its rows."""
    unique, place = distinct_shapes(rows, ("head_dim", "window", "heads", "kv_heads"))
    window = shape.window or 0
    far = 8.0 * np.abs(np.log2(unique[:, 0] / shape.head_dim))
    far += np.where(unique[:, 1] == window, 0.0, np.where(unique[:, 1] == 0, 4.0, 9.0))
    far += np.abs(np.log2(unique[:, 3] / shape.kv_heads))
    far += np.abs(np.log2(unique[:, 2] / unique[:, 3] / (shape.heads / shape.kv_heads)))
    best = unique[int(np.argmin(far))].astype(np.int64)
    mask = place == int(np.argmin(far))
    found = Heads(int(best[2]), int(best[3]), int(best[0]), int(best[1]) or None, shape.kv_dtype)
    return found, mask


@dataclass(frozen=True)
class _Kernel:
    """A measured surface (None: nothing was measured) and where its efficiency came from."""

    surface: Surface | None
    origin: Origin
    walk: Walk | None = None


@dataclass(frozen=True)
class Walk:
    """Seconds in which one thread block walks a number of keys: the narrowest measured prompt."""

    keys: Array
    seconds: Array

    def at(self, keys: Array) -> Array:
        """Interpolate; beyond the longest prompt each key takes as long as the last ones did."""
        rate = (self.seconds[-1] - self.seconds[-2]) / (self.keys[-1] - self.keys[-2])
        beyond = rate * np.maximum(keys - self.keys[-1], 0.0)
        found: Array = np.interp(keys, self.keys, self.seconds) + beyond
        return found


def _kernel(tables: Tables, phase: str, shape: Heads) -> _Kernel:
    key = (phase, shape)
    if key not in tables.built:
        tables.built[key] = _build(tables, phase, shape)
    kernel: _Kernel = tables.built[key]
    return kernel


def _build(tables: Tables, phase: str, shape: Heads) -> _Kernel:
    decoding = phase == "decode"
    table, axis = ("decode_attention", "past") if decoding else ("prefill_attention", "isl")
    light = decode_light if decoding else prefill_light
    rows = tables.read(table, table, kv_dtype=shape.kv_dtype)
    borrowed = rows is None
    if rows is None:
        rows = tables.read(table, table, kv_dtype="bf16")
    if rows is None:
        return _Kernel(None, Origin.FALLBACK)
    found, mask = _nearest_heads(rows, shape)
    if borrowed:
        found = replace(found, kv_dtype="bf16")
    gpu = tables.system.gpu
    # An fp8 cache is attended to in fp8 where the backend has such a kernel.
    arithmetic = rows["dtype"][mask] == "fp8"
    if shape.kv_dtype == "fp8" and arithmetic.any():
        mask[mask] = arithmetic
    elif not arithmetic.all():
        mask[mask] = ~arithmetic
    square = 2 if phase == "prefill" and not found.window else 1
    measured = Surface.fit(
        (rows["batch"][mask], rows[axis][mask]),
        rows["seconds"][mask],
        partial(light, gpu, found),
        (1, square),
    )
    # The efficiency is that of the shape found; the work is that of the shape asked for.
    surface = measured.serving(partial(light, gpu, shape))
    walk = None if decoding else _walk(tables, rows, found)
    if borrowed or found.head_dim != shape.head_dim or found.window != shape.window:
        return _Kernel(surface, Origin.FALLBACK, walk)
    origin = Origin.MEASURED if found == shape else Origin.INTERPOLATED
    return _Kernel(surface, origin, walk)


def _walk(tables: Tables, rows: Columns, found: Heads) -> Walk | None:
    """The prompt with the fewest heads of the size of ``found``, so that no block waits."""
    mask = (rows["head_dim"] == found.head_dim) & (rows["window"] == (found.window or 0))
    mask &= (rows["batch"] == 1) & np.isin(rows["kernel"], list(tables.serial_prefill))
    if not mask.any():
        return None
    mask &= rows["heads"] == rows["heads"][mask].min()
    keys, place = np.unique(rows["isl"][mask], return_index=True)
    seconds = np.maximum.accumulate(rows["seconds"][mask][place].astype(np.float64))
    return Walk(keys.astype(np.float64), seconds) if len(keys) > 1 else None


def decode_seconds(tables: Tables, shape: Heads, batch: ArrayLike, past: ArrayLike) -> Array:
    """Decode attention of ``batch`` sequences with ``past`` cached tokens each (one layer)."""
    kernel = _kernel(tables, "decode", shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    p = np.maximum(np.asarray(past, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return decode_light(tables.system.gpu, shape, b, p)
    return kernel.surface.seconds(b, p)


def attention_origin(
    tables: Tables, phase: str, shape: Heads, batch: ArrayLike, length: ArrayLike
) -> Origins:
    """Origin of each point of ``decode_seconds`` (phase "decode") or ``prefill_seconds``."""
    kernel = _kernel(tables, phase, shape)
    b = np.maximum(np.asarray(batch, dtype=np.float64), 1.0)
    if kernel.surface is None:
        return unmeasured(b)
    return reached(kernel.surface, kernel.origin, b, np.maximum(length, 1.0))


def walk_seconds(tables: Tables, shape: Heads, keys: ArrayLike) -> Array:
    """Least time of a chunk that sees ``keys``, its own included (one layer); 0 where unknown."""
    kernel = _kernel(tables, "prefill", shape)
    seen = _seen(np.asarray(keys, dtype=np.float64), shape.window)
    return np.zeros(seen.shape) if kernel.walk is None else kernel.walk.at(seen)


def prefill_seconds(
    tables: Tables, shape: Heads, sequences: ArrayLike, chunk: ArrayLike, past: ArrayLike
) -> Array:
    """Prefill attention of ``sequences`` chunks of ``chunk`` tokens behind ``past`` (one layer)."""
    kernel = _kernel(tables, "prefill", shape)
    n, q, p = (np.asarray(a, dtype=np.float64) for a in (sequences, chunk, past))
    p = _seen(p, shape.window)
    whole = np.maximum(np.sqrt(q * (q + 2.0 * p)), 1.0)
    keys = n * p * 2.0 * shape.kv_heads * shape.head_dim * CACHE_BYTES[shape.kv_dtype]
    gpu = tables.system.gpu
    if kernel.surface is None:
        return prefill_light(gpu, shape, n, whole) + keys / gpu.memory_bandwidth
    time = kernel.surface.seconds(np.maximum(n, 1.0), whole)
    # A single token behind its past is a decode to the engines, whose kernels divide the keys.
    walked = np.where(q > 1.0, walk_seconds(tables, shape, p + q), 0.0)
    time = np.maximum(time, walked)
    return np.maximum(time, keys / gpu.memory_bandwidth)
