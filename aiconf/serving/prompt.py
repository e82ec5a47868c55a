"""Time to compute prompts alone: whole iterations of prefill, chunk by chunk."""

from __future__ import annotations

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.drafting import Step
from aiconf.serving.point import Array
from aiconf.workload import Workload

_COUNTS: Array = np.unique(np.round(np.geomspace(1.0, 1024.0, 21)))  # prompts at once


class PromptTime:
    """Seconds for g prompts on the busiest rank, tabulated once over g per token budget."""

    def __init__(self, step: Step, workload: Workload, budget: Array) -> None:
        self._prompt = float(workload.new_tokens)
        self._budgets, self._place = np.unique(budget, return_inverse=True)
        self._counts = _COUNTS
        counts, budgets = np.meshgrid(self._counts, self._budgets)
        tokens = counts * self._prompt
        rounds = np.ceil(tokens / budgets)
        chunk = tokens / rounds
        sequences = np.maximum(chunk / self._prompt, 1.0)
        own = np.ceil(self._prompt / budgets)
        past = workload.prefix + (own - 1.0) / 2.0 * np.minimum(self._prompt, budgets)
        self._ranks = step.parallel.dp
        self._stages = step.parallel.pp
        self._chunked = self._stages > 1 and bool((rounds > 1.0).any())
        self._tables = []
        self._behind = []  # what chunks behind the first take where they do not overlap
        for ranks in sorted({1, self._ranks}):
            each = step.seconds(
                Batch.of(
                    prefill_tokens=chunk.ravel(),
                    prefill_sequences=sequences.ravel(),
                    prefill_past=past.ravel(),
                    prefill_ranks=ranks,
                    images=workload.images_in(chunk.ravel()),
                    patches=workload.patches,
                )
            ).reshape(chunk.shape)
            self._tables.append(each * (1.0 + (rounds - 1.0) / self._stages))
            self._behind.append(each * (rounds - 1.0))

    def seconds(
        self, count: Array, ranks: Array | None = None, share: Array | None = None
    ) -> Array:
        """Time of ``count`` prompts on the busiest rank; one entry per budget at construction.

        ranks: attention ranks that prefill at once, linear between one and all; None: all.
        share: ``engine.stages.chunk_share``; None: that of stages which nobody else uses.
        """
        found = self._between(self._tables, count, ranks)
        if share is None or not self._chunked:
            return found
        return found + self._between(self._behind, count, ranks) * (share - 1.0 / self._stages)

    def _between(self, tables: list[Array], count: Array, ranks: Array | None) -> Array:
        busy = self._interpolated(tables[-1], count)
        if ranks is None or self._ranks == 1:
            return busy
        share = np.clip((ranks - 1.0) / (self._ranks - 1.0), 0.0, 1.0)
        return busy * share + self._interpolated(tables[0], count) * (1.0 - share)

    def _interpolated(self, table: Array, count: Array) -> Array:
        found = np.empty(count.shape)
        for place in range(len(self._budgets)):
            mask = self._place == place
            found[mask] = np.interp(count[mask], self._counts, table[place])
        return found


def in_flight(pp: int, workload: Workload, budget: Array) -> Array:
    """How many prompts a pipeline has in flight at once: its stages, less what chunks use.

    ``PromptTime`` already overlaps the chunks of one prompt over the stages.
    """
    rounds = np.ceil(workload.new_tokens / budget)
    return pp * (1.0 + (rounds - 1.0) / pp) / rounds
