"""Seconds as a function of a token count, by part of the model and by origin."""

from __future__ import annotations

import numpy as np

from aiconf.engine.batch import Array
from aiconf.perf.origin import Origin, Origins

PARTS = ("gemm", "attention", "moe", "communication", "memory", "overhead", "vision")
PART = {name: place for place, name in enumerate(PARTS)}

# Token counts at which the curves are kept: every measured m up to 512 matters for decode
# batches; beyond, an eighth of an octave follows the curves within their noise.
TOKENS: Array = np.unique(
    np.concatenate(
        [np.arange(1, 17), np.arange(24, 257, 8), np.round(2.0 ** np.arange(8, 19.01, 0.125))]
    )
).astype(np.float64)


class Curves:
    """Seconds on a token grid, by part and by origin (rows: part x origin)."""

    def __init__(self) -> None:
        self.values = np.zeros((len(PARTS), len(Origin), len(TOKENS)))
        self.total: Array = np.zeros(len(TOKENS))

    def add(self, part: str, seconds: Array, origin: Origins) -> None:
        """Add seconds on the token grid, each to the origin it came from."""
        for kind in Origin:
            self.values[PART[part], kind] += np.where(origin == kind, seconds, 0.0)

    def close(self) -> None:
        """Sum up for ``total_at`` once nothing more is added."""
        self.total = self.values.sum(axis=(0, 1))

    def total_at(self, tokens: Array) -> Array:
        """Seconds of all parts at ``tokens``; none for no tokens, in proportion beyond the grid."""
        found = np.interp(tokens, TOKENS, self.total) * np.maximum(tokens / TOKENS[-1], 1.0)
        return np.where(tokens > 0, found, 0.0)

    def at(self, tokens: Array) -> Array:
        """Interpolate at ``tokens``; shape (part, origin, point). Zero tokens take no time."""
        place = np.clip(np.searchsorted(TOKENS, tokens, side="right") - 1, 0, len(TOKENS) - 2)
        left, right = TOKENS[place], TOKENS[place + 1]
        weight = np.clip((tokens - left) / (right - left), 0.0, 1.0)
        found = self.values[..., place] * (1.0 - weight) + self.values[..., place + 1] * weight
        return np.where(tokens > 0, found * np.maximum(tokens / TOKENS[-1], 1.0), 0.0)
