"""One engine: a checkpoint under a layout on a system, with its time and its memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from aiconf.engine.calibration import Calibration, no_calibration
from aiconf.engine.capacity import Capacity, capacity
from aiconf.engine.step import StepModel
from aiconf.engine.traits import Traits
from aiconf.model.operators import Gemm
from aiconf.model.spec import ModelSpec, draft_model
from aiconf.parallel import Parallel
from aiconf.perf.tables import Reader, Tables
from aiconf.system.spec import System


@dataclass(frozen=True)
class Platform:
    """A system and an engine with the tables that were measured for the pair."""

    system: System
    traits: Traits
    tables: Tables
    version: str  # engine version of the tables; the traits' own where nothing was measured
    calibration: Calibration = field(default_factory=no_calibration)
    steps: dict[tuple[ModelSpec, Parallel, str], StepModel] = field(default_factory=dict)
    rooms: dict[tuple[object, ...], Capacity] = field(default_factory=dict)

    def step(self, spec: ModelSpec, parallel: Parallel, kv_dtype: str) -> StepModel:
        """Step model of a layout, built once."""
        key = (spec, parallel, kv_dtype)
        if key not in self.steps:
            self.steps[key] = StepModel(self.tables, spec, parallel, self.traits, kv_dtype)
        return self.steps[key]

    def draft(self, spec: ModelSpec, parallel: Parallel, kv_dtype: str) -> StepModel:
        """Step model of the layer that drafts for ``spec``: it runs on one pipeline stage."""
        model, stage = draft_model(spec), replace(parallel, pp=1)
        key = (model, stage, kv_dtype)
        if key not in self.steps:
            # It joins the hidden state of the model and an embedding: 2 hidden -> hidden.
            join = Gemm(spec.hidden, 2 * spec.hidden, "bf16", 1, "all", "dense")
            self.steps[key] = StepModel(
                self.tables, model, stage, self.traits, kv_dtype, beside=(join,)
            )
        return self.steps[key]

    def token_budget(self, dp: int = 1) -> int:
        """Engine's default tokens of one iteration on each of ``dp`` attention ranks."""
        return self.traits.token_budget(self.system.gpu.memory_bytes, self.system.gpu.sm, dp)

    def capacity(
        self,
        spec: ModelSpec,
        parallel: Parallel,
        *,
        token_budget: int,
        max_sequences: int,
        kv_dtype: str,
        fraction: float | None = None,
        drafting: bool = False,
        longest: int | None = None,
    ) -> Capacity:
        """Memory of one GPU (see ``capacity``), computed once."""
        key = (spec, parallel, token_budget, max_sequences, kv_dtype, fraction, drafting, longest)
        if key not in self.rooms:
            self.rooms[key] = capacity(
                spec,
                self.system,
                parallel,
                self.traits,
                token_budget=token_budget,
                max_sequences=max_sequences,
                kv_dtype=kv_dtype,
                fraction=fraction,
                drafting=drafting,
                longest=longest,
            )
        return self.rooms[key]


def tables_of(reader: Reader, system: System, traits: Traits) -> Tables:
    """Tables of ``reader`` for ``system``, read in the engine's order of kernels."""
    order = partial(_kernel_order, traits, system.gpu.sm)
    return Tables(
        reader, system, traits.name, order, traits.lent(system.gpu.sm),
        frozenset(traits.serial_prefill),
    )  # fmt: skip


def _kernel_order(traits: Traits, sm: int, choice: str) -> tuple[str, ...]:
    return traits.kernel_order(choice, sm)
