"""Crash patterns that are known: what the workers of one deployment must not say.

Each rule looks at what is stated and is silent about what is not, so that it serves for a plan
that is written out and for a manifest that was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from aiconf.engine.capacity import TIGHT

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Stated:
    """What is known of one kind of worker; None: not stated. Counts are of one attention rank.

    heads: attention heads. graph_top: largest batch with a CUDA graph. transfer_tokens: what
    TensorRT-LLM's transfer buffer holds. sequence_bytes: KV of one sequence of
    ``max_model_len``. kv_bytes: what becomes KV blocks on one GPU; kv_needed: of the sequences
    that are to run; memory_bytes: of the GPU. longest: prompt and output tokens of a request.
    """

    name: str
    role: str
    backend: str
    tp: int = 1
    heads: int | None = None
    max_sequences: int | None = None
    graph_top: int | None = None
    token_budget: int | None = None
    max_model_len: int | None = None
    longest: int | None = None
    kv_dtype: str | None = None
    kv_block_size: int | None = None
    transfer_tokens: int | None = None
    sequence_bytes: float | None = None
    kv_bytes: float | None = None
    kv_needed: float | None = None
    memory_bytes: float | None = None


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


def findings(workers: Sequence[Stated]) -> list[Finding]:
    """Return every rule that ``workers`` of one deployment break, errors first."""
    found = [one for worker in workers for rule in _ALONE for one in rule(worker)]
    by_role = sorted((w for w in workers if w.role in ("prefill", "decode")), key=lambda w: w.role)
    found += [one for pair in pairwise(by_role) for one in _together(*pair)]
    return sorted(found, key=lambda one: one.severity)


def _memory(worker: Stated) -> Iterator[Finding]:
    """KV cache that does not hold what is to run, or hardly."""
    kv, needed, total = worker.kv_bytes, worker.kv_needed, worker.memory_bytes
    if kv is None or total is None:
        return
    if kv <= 0 or (worker.sequence_bytes is not None and worker.sequence_bytes > kv):
        yield Finding(
            "kv-memory", worker.name, "error",
            f"{_gib(max(kv, 0.0))} of KV cache per GPU cannot hold one sequence of "
            f"{worker.max_model_len} tokens",
            "use more GPUs per worker, an fp8 KV cache or a shorter context",
        )  # fmt: skip
    elif needed is not None and needed > kv:
        # A decode worker has already promised room when a prompt's blocks arrive.
        severity: Severity = "error" if worker.role == "decode" else "warning"
        yield Finding(
            "kv-memory", worker.name, severity,
            f"{worker.max_sequences} sequences need {_gib(needed)} of KV cache per GPU, "
            f"{_gib(kv)} are there",
            f"run {int(worker.max_sequences * kv / needed)} sequences or fewer"
            if worker.max_sequences else "run fewer sequences",
        )  # fmt: skip
    elif kv - (needed or 0.0) < TIGHT * total:
        yield Finding(
            "tight-memory", worker.name, "warning",
            f"the model of memory leaves {_gib(kv - (needed or 0.0))} per GPU, less than "
            f"{TIGHT:.0%} of its memory",
            "watch the first start, or run fewer sequences",
        )  # fmt: skip


def _transfer_buffer(worker: Stated) -> Iterator[Finding]:
    """A buffer between prefill and decode that does not hold the longest sequence."""
    tokens, longest = worker.transfer_tokens, worker.longest or worker.max_model_len
    if tokens is not None and longest is not None and tokens < longest:
        yield Finding(
            "transfer-buffer", worker.name, "error",
            f"the transfer buffer holds {tokens} tokens, a sequence has up to {longest}",
            f"set cache_transceiver_config.max_tokens_in_buffer to {longest} or more",
        )  # fmt: skip


def _graphs(worker: Stated) -> Iterator[Finding]:
    """Graphs of batches that never run take memory and start-up time."""
    top, most = worker.graph_top, worker.max_sequences
    # vLLM's sizes count tokens, and small prompts run in the larger ones.
    if worker.backend != "vllm" and top is not None and most is not None and top > most:
        yield Finding(
            "graph-size", worker.name, "error",
            f"CUDA graphs up to batch {top}, beyond the {most} sequences that can run",
            f"capture no batch above {most}",
        )  # fmt: skip


def _heads(worker: Stated) -> Iterator[Finding]:
    if worker.heads is not None and worker.heads % worker.tp:
        yield Finding(
            "heads", worker.name, "error",
            f"tensor parallelism {worker.tp} does not divide {worker.heads} attention heads",
            "use a size that divides them",
        )  # fmt: skip


def _budget(worker: Stated) -> Iterator[Finding]:
    """A token budget that an engine refuses to start with."""
    budget, most = worker.token_budget, worker.max_sequences
    if budget is None:
        return
    if worker.backend == "vllm" and most is not None and budget < most:
        yield Finding(
            "token-budget", worker.name, "error",
            f"{budget} tokens per iteration for {most} sequences, which is refused at start",
            f"set max-num-batched-tokens to {most} or more",
        )  # fmt: skip
    block = worker.kv_block_size
    if block is not None and (budget < block or (worker.backend == "sglang" and budget % block)):
        yield Finding(
            "token-budget", worker.name, "error",
            f"{budget} tokens per iteration are no whole number of KV blocks of {block}",
            f"use a multiple of {block}",
        )  # fmt: skip


def _length(worker: Stated) -> Iterator[Finding]:
    most, longest = worker.max_model_len, worker.longest
    if most is not None and longest is not None and most < longest:
        yield Finding(
            "context", worker.name, "error",
            f"a context of {most} tokens refuses requests of {longest}",
            f"allow {longest} tokens or more",
        )  # fmt: skip


def _together(decode: Stated, prefill: Stated) -> Iterable[Finding]:
    """Cache that is handed over must look alike on both sides."""
    for rule, what, field in (
        ("block-size", "KV block size", "kv_block_size"),
        ("kv-dtype", "KV cache type", "kv_dtype"),
        ("context", "longest context", "max_model_len"),
    ):
        here, there = getattr(prefill, field), getattr(decode, field)
        if here is not None and there is not None and here != there:
            yield Finding(
                rule, f"{prefill.name} and {decode.name}", "error",
                f"prefill and decode workers differ in {field} ({what}): {here} and {there}",
                "they hand over KV cache, so give both the same",
            )  # fmt: skip


_ALONE = (_memory, _transfer_buffer, _graphs, _heads, _budget, _length)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
