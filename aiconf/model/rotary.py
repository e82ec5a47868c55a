"""Tables of rotary angles: a row of cosines and sines for each position a model was made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aiconf.model.spec import ModelSpec

_MOST_FACTOR = 1024.0  # beyond what any checkpoint is stretched by


class _Figures(Protocol):
    def get(self, key: str) -> Any: ...


def rotary_rows(config: _Figures, positions: int) -> tuple[int, ...]:
    """Return the rows of each table that config.json asks for; empty: one of ``positions``.

    Angles that are stretched linearly need rows for all that they are stretched to; a base of
    its own for windowed layers (Gemma 3) is a table of its own.
    """
    stated = config.get("rope_parameters")  # one rope, or one for each kind of layer
    by_layer = stated.values() if isinstance(stated, Mapping) else ()
    kinds = [kind for kind in by_layer if isinstance(kind, Mapping)]
    if kinds:
        rows = tuple(int(positions * _stretched(kind)) for kind in kinds)
    else:
        rows = (int(positions * _stretched(stated or config.get("rope_scaling"))),)
        if config.get("rope_local_base_freq") is not None:
            rows = (*rows, positions)
    return () if rows == (positions,) else rows


def _stretched(rope: Any) -> float:
    if not isinstance(rope, Mapping) or rope.get("rope_type", rope.get("type")) != "linear":
        return 1.0
    factor = rope.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        return 1.0
    return float(factor) if 1.0 <= factor <= _MOST_FACTOR else 1.0


def rotary_bytes(spec: ModelSpec, element: float) -> float:
    """Bytes of the tables on one GPU, all layers of a kind sharing one.

    element: bytes of one cosine or sine; 0: the engine keeps no tables. A head is taken to be
    rotated whole where its rotated part is not known apart.
    """
    widths = [block.qk_rope_head_dim or block.head_dim for block, _ in spec.softmax]
    return element * sum(spec.rotary or (spec.max_context,)) * max(widths, default=0)
