"""Linear attention of one iteration: prompts and decoding sequences, summed over the layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.model.operators import LinearScan, Operator
from aiconf.perf.linear import Recurrence, linear_origin, linear_seconds
from aiconf.perf.origin import Origin
from aiconf.perf.tables import Tables


class LinearTimer:
    """Times convolution and recurrence of a layout's linear-attention layers.

    scale: multiplies every time (see ``Traits.scales``).
    """

    def __init__(self, tables: Tables, stage: Sequence[Operator], scale: float = 1.0) -> None:
        self._tables = tables
        self._blocks = [
            (
                Recurrence(o.kind, o.key_heads, o.value_heads, o.key_dim, o.value_dim, o.taps),
                o.count * scale,
            )
            for o in stage
            if isinstance(o, LinearScan)
        ]

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def prompt_seconds(self, tokens: Array, sequences: Array) -> Array:
        """Seconds for ``tokens`` prompt tokens of ``sequences`` prompts in all; none for none."""
        total = np.zeros(tokens.shape)
        prompts = np.clip(sequences, 1.0, np.maximum(tokens, 1.0))
        for shape, count in self._blocks:
            time = linear_seconds(self._tables, "prefill", shape, prompts, tokens / prompts)
            total += np.where(tokens > 0, time * count, 0.0)
        return total

    def decode_seconds(self, rows: Array) -> Array:
        """Seconds for one token of each of ``rows`` sequences; none for none."""
        total = np.zeros(rows.shape)
        for shape, count in self._blocks:
            time = linear_seconds(self._tables, "decode", shape, rows)
            total += np.where(rows > 0, time * count, 0.0)
        return total

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration."""
        if not self._blocks:
            return np.zeros(len(batch))
        prompts = self.prompt_seconds(batch.prefill_tokens, batch.prefill_sequences)
        return prompts + self.decode_seconds(batch.decode * batch.drafted)

    def add(self, attention: Array, batch: Batch) -> None:
        """Add seconds to ``attention``, shape (origin, point), by where they came from."""
        tables, rows = self._tables, batch.decode * batch.drafted
        prompts = np.clip(batch.prefill_sequences, 1.0, np.maximum(batch.prefill_tokens, 1.0))
        chunk = batch.prefill_tokens / prompts
        for shape, count in self._blocks:
            for phase, there, n, length in (
                ("prefill", batch.prefill_tokens > 0, prompts, chunk),
                ("decode", rows > 0, rows, np.ones(len(batch))),
            ):
                time = linear_seconds(tables, phase, shape, n, length) * count
                origin = linear_origin(tables, phase, shape, n, length)
                for kind in Origin:
                    attention[kind] += np.where(there & (origin == kind), time, 0.0)
