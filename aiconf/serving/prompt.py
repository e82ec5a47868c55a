"""Time to compute prompts alone: whole iterations of prefill, chunk by chunk."""

from __future__ import annotations

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.step import StepModel
from aiconf.serving.point import Array
from aiconf.workload import Workload


class PromptTime:
    """Seconds for g prompts on the busiest rank, tabulated once over g per token budget."""

    def __init__(self, step: StepModel, workload: Workload, budget: Array) -> None:
        self._prompt = float(workload.new_tokens)
        self._budgets, self._place = np.unique(budget, return_inverse=True)
        self._counts = np.unique(np.round(np.geomspace(1.0, 1024.0, 21)))
        counts, budgets = np.meshgrid(self._counts, self._budgets)
        tokens = counts * self._prompt
        rounds = np.ceil(tokens / budgets)
        chunk = tokens / rounds
        sequences = np.maximum(chunk / self._prompt, 1.0)
        own = np.ceil(self._prompt / budgets)
        past = workload.prefix + (own - 1.0) / 2.0 * np.minimum(self._prompt, budgets)
        each = step.seconds(
            Batch.of(
                prefill_tokens=chunk.ravel(),
                prefill_sequences=sequences.ravel(),
                prefill_past=past.ravel(),
                prefill_ranks=step.parallel.dp,
            )
        ).reshape(chunk.shape)
        self._seconds = each * (1.0 + (rounds - 1.0) / step.parallel.pp)

    def seconds(self, count: Array) -> Array:
        """Time of ``count`` prompts at once; one entry per budget given at construction."""
        found = np.empty(count.shape)
        for place in range(len(self._budgets)):
            mask = self._place == place
            found[mask] = np.interp(count[mask], self._counts, self._seconds[place])
        return found
