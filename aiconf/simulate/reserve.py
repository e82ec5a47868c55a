"""Room for outputs that an engine keeps in its cache when it admits a request.

vLLM keeps none and preempts; TensorRT-LLM keeps all, and never does. SGLang asks for the whole
output of the new request, but for those that run only for a share of what they may still write:
the share sinks with every decode iteration that went well, and after a preemption it is what the
sequences have written so far of all that they may (sgl-project/sglang 0.5.14,
srt/managers/scheduler.py, update_running_batch; schedule_policy.py, PrefillAdder;
schedule_batch.py, retract_decode).
"""

from __future__ import annotations

from dataclasses import dataclass

_AHEAD = 20  # tokens of each sequence that retract_decode looks ahead (SGLANG_RETRACT_DECODE_STEPS)


@dataclass(frozen=True)
class Reserve:
    """fresh: share of a new request's output, of ``cap`` tokens at most (None: of all). running:
    share of the outputs of running sequences that are still to come, from an idle engine on.
    floor: what of that share remains after ``steps`` decode iterations; 0 steps: all, for good.
    """

    fresh: float = 0.0
    running: float = 0.0
    floor: float = 1.0
    steps: int = 0
    cap: int | None = None

    @property
    def least(self) -> float:
        """The share below which that of running sequences does not sink."""
        return self.running * self.floor if self.steps else self.running

    @property
    def decay(self) -> float:
        """By how much one decode iteration lowers the share."""
        return (self.running - self.least) / self.steps if self.steps else 0.0

    def of_new(self, output: float) -> float:
        """Tokens that a new request of ``output`` tokens asks for beside its prompt."""
        return self.fresh * (output if self.cap is None else min(output, self.cap))

    def after_preemption(self, share: float, written: float, total: float, sequences: int) -> float:
        """The share when a sequence had to leave: of ``total`` tokens ``written`` are."""
        if not self.steps:
            return share
        return min(1.0, (written + _AHEAD * sequences) / (total + 1.0))


NO_RESERVE = Reserve()
