"""What the rules look at, and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Stated:
    """What is known of one kind of worker; None or empty: not known. Counts are of one attention
    rank.

    pp: pipeline stages. heads: counts of heads that tensor parallelism must divide. kv_heads:
    counts that it must divide or be a multiple of. graph_top: largest batch with a CUDA graph.
    whole_prompts: prompts are not split over iterations. model_context: what the model was made
    for. longest: prompt and output tokens of a request that will come. kv_dtype: as the engine or
    the model of memory calls it. block_unit: tokens that a KV block must be a multiple of.
    transfer_tokens: what TensorRT-LLM's transfer buffer holds. sequence_bytes: KV of one sequence
    of ``longest``, of ``max_model_len`` where that is not known. kv_bytes: what
    becomes KV blocks on one GPU; kv_needed: of the sequences that are to run; memory_bytes: of the
    GPU. needs_code: how bad it is not to run Python code of the model's repository (None: there is
    no need); trusted: the engine may run it.
    """

    name: str
    role: str
    backend: str
    tp: int = 1
    pp: int = 1
    heads: tuple[int, ...] = ()
    kv_heads: tuple[int, ...] = ()
    max_sequences: int | None = None
    graph_top: int | None = None
    token_budget: int | None = None
    whole_prompts: bool = False
    max_model_len: int | None = None
    model_context: int | None = None
    longest: int | None = None
    kv_dtype: str | None = None
    kv_block_size: int | None = None
    block_unit: int = 1
    transfer_tokens: int | None = None
    sequence_bytes: float | None = None
    kv_bytes: float | None = None
    kv_needed: float | None = None
    memory_bytes: float | None = None
    needs_code: Severity | None = None
    trusted: bool | None = None


@dataclass(frozen=True)
class Finding:
    """One broken rule: an ``error`` crashes or stalls a worker, a ``warning`` may."""

    rule: str
    worker: str
    severity: Severity
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.worker}: {self.problem}; {self.fix}"
