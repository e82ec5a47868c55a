"""Prompts held until every attention-DP rank has one (TensorRT-LLM's balanced attention DP).

An iteration with prompt tokens on one rank holds up all ranks, so it pays to prefill on all at
once. Behaviour of tensorrt_llm/_torch/pyexecutor/py_executor.py, _balance_adp_requests (1.2):
prompts wait until every rank has one, ``wait`` iterations at most, counted since prompts were
last let through, whether any waited or not; then ``more`` further iterations. They do not wait
when a rank has nothing to decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Rank(Protocol):
    """What is looked at in an attention rank."""

    running: int

    @property
    def has_prompts(self) -> bool:
        """Whether a prompt waits or is under way."""


class Balance:
    """Counters of one engine; ``wait`` 0: prompts are never held."""

    def __init__(self, wait: int, more: int, max_sequences: int) -> None:
        self._wait, self._more, self._most = wait, more, max_sequences
        self._waited = self._gathered = 0

    def holds(self, ranks: Sequence[Rank]) -> bool:
        """Whether the next iteration must leave the prompts of ``ranks`` alone."""
        if not self._wait or not all(rank.running for rank in ranks):
            self._waited = self._gathered = 0
            return False
        if self._everywhere(ranks):
            self._waited = 0
            if self._gathered < self._more:
                return True
            self._gathered = 0
            return False
        if self._waited >= self._wait:
            self._waited = 0
            return False
        return True

    def most_steps(self, ranks: Sequence[Rank]) -> int:
        """Decode iterations after which held prompts may be let through."""
        if not self._wait or not any(rank.has_prompts for rank in ranks):
            return 1 << 60
        left = self._wait - self._waited
        return max(1, self._more - self._gathered if self._everywhere(ranks) else left)

    def passed(self, ranks: Sequence[Rank], steps: int) -> None:
        """``steps`` decode iterations have gone by."""
        if not self._wait:
            return
        if self._everywhere(ranks):
            self._gathered += steps
        else:
            self._waited += steps
            if not any(rank.has_prompts for rank in ranks):
                self._waited %= self._wait  # the counter ran out with nothing to let through

    def _everywhere(self, ranks: Sequence[Rank]) -> bool:
        return all(rank.has_prompts and rank.running < self._most for rank in ranks)
