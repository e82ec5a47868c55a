"""Time of an iteration that verifies drafts: the whole model, then the layer that drafts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.engine.engine import Platform
from aiconf.engine.speculation import Speculation
from aiconf.engine.step import StepModel, StepTime
from aiconf.engine.traits import Traits
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel


@dataclass(frozen=True)
class Drafting:
    """An engine whose decoding sequences verify drafts: a ``StepModel`` for closed forms.

    The model computes one token and all drafts of each sequence. The first pass of the draft
    layer takes the same tokens, prompts too; each further pass takes one token of each sequence.
    ``simulate.timer.IterationTimer`` adds the same times up.
    """

    step: StepModel
    draft: StepModel
    speculation: Speculation

    @property
    def parallel(self) -> Parallel:
        """Layout of the model."""
        return self.step.parallel

    @property
    def traits(self) -> Traits:
        """Facts of the engine."""
        return self.step.traits

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration (see ``StepModel.seconds``)."""
        verify, once = self._passes(batch)
        gpu = self.step.operator_seconds(verify) + self.draft.operator_seconds(verify)
        further = self.speculation.drafts - 1
        if further:
            gpu = gpu + further * self.draft.operator_seconds(once)
        return gpu + self.step.host_seconds(verify, gpu)

    def time(self, batch: Batch) -> StepTime:
        """Seconds of each iteration with its parts and their origin."""
        verify, once = self._passes(batch)
        further = self.speculation.drafts - 1
        gpu = self.step.operator_time(verify) + self.draft.operator_time(verify)
        return self.step.whole(verify, gpu + further * self.draft.operator_time(once))

    def _passes(self, batch: Batch) -> tuple[Batch, Batch]:
        """The pass that verifies, and a further one of the draft layer."""
        ones = np.ones_like(batch.drafted)
        verify = replace(batch, drafted=ones * self.speculation.verified)
        return verify, replace(batch, prefill_tokens=np.zeros_like(ones), drafted=ones)


Step = StepModel | Drafting


def step_of(
    place: Platform, spec: ModelSpec, parallel: Parallel, kv_dtype: str,
    speculation: Speculation | None = None,
) -> Step:  # fmt: skip
    """Return what times the iterations of an engine, with or without drafts."""
    step = place.step(spec, parallel, kv_dtype)
    if speculation is None:
        return step
    return Drafting(step, place.draft(spec, parallel, kv_dtype), speculation)


def verified(step: Step) -> int:
    """Return the tokens that an iteration computes of each decoding sequence."""
    return step.speculation.verified if isinstance(step, Drafting) else 1


def decode_iterations(step: Step, tokens: float) -> float:
    """Return the mean decode iterations of a request for ``tokens`` more tokens."""
    return step.speculation.rounds(tokens) if isinstance(step, Drafting) else float(tokens)
