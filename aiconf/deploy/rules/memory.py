"""The rule about memory: a KV cache that does not hold what is to run, or hardly."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.deploy.rules.stated import Finding, Severity, Stated
from aiconf.engine.capacity import TIGHT


def memory(worker: Stated) -> Iterator[Finding]:
    """Yield what a worker's KV cache does not hold.

    Where no request is known, only vLLM refuses to start with less than one sequence of its
    context (vllm/v1/core/kv_cache_utils.py, check_enough_kv_cache_memory), and what the model of
    memory may miss is no error: other engines serve what fits.
    """
    kv, needed, total = worker.kv_bytes, worker.kv_needed, worker.memory_bytes
    if kv is None or total is None:
        return
    one, sure = worker.sequence_bytes, worker.longest is not None
    if kv <= (0.0 if sure else -TIGHT * total):
        yield _short(worker, "error", kv)
    elif one is not None and one > kv:
        refused = sure or (worker.backend == "vllm" and one > kv + TIGHT * total)
        yield _short(worker, "error" if refused else "warning", kv)
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


def _short(worker: Stated, severity: Severity, kv: float) -> Finding:
    longest = worker.longest or worker.max_model_len
    return Finding(
        "kv-memory", worker.name, severity,
        f"{_gib(max(kv, 0.0))} of KV cache per GPU cannot hold one sequence of {longest} tokens",
        "use more GPUs per worker, an fp8 KV cache or a shorter context",
    )  # fmt: skip


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
