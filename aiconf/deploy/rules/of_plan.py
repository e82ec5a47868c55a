"""What a plan states of its workers, for the rules: sizes of one attention rank, and memory."""

from __future__ import annotations

from aiconf.deploy.launch import Launch, graph_sizes, per_rank
from aiconf.deploy.rules.stated import Stated
from aiconf.engine.capacity import capacity
from aiconf.engine.traits import load_traits
from aiconf.model.layout import head_counts
from aiconf.serving.plan import Plan, Worker

_TRUST = {"trtllm": "trust_remote_code"}  # how engine files spell it


def stated(plan: Plan, worker: Worker, name: str, launch: Launch) -> Stated:
    """Return what ``worker`` says of itself, in the engine's own division of memory."""
    most = per_rank(worker)
    room = capacity(
        plan.model,
        worker.system,
        worker.parallel,
        load_traits(plan.backend),
        token_budget=worker.token_budget,
        max_sequences=most,
        kv_dtype=worker.kv_dtype,
        fraction=worker.memory_fraction,
        drafting=plan.drafts > 0,
        longest=worker.max_model_len,
    )
    work = plan.workload
    # A prefill worker lets go of a sequence when its output begins.
    running = (work.isl, 0) if worker.role == "prefill" else (work.isl, work.osl)
    transfer = launch.config.get("cache_transceiver_config", {}) if launch.mounted else {}
    budget = launch.config.get("chunked-prefill-size", worker.token_budget * worker.parallel.dp)
    heads, kv_heads = head_counts(plan.model)
    return Stated(
        name=name,
        role=worker.role,
        backend=plan.backend,
        tp=worker.parallel.tp,
        pp=worker.parallel.pp,
        heads=heads,
        kv_heads=kv_heads,
        max_sequences=most,
        graph_top=max(graph_sizes(worker, most), default=None),
        token_budget=max(int(budget) // worker.parallel.dp, most if plan.backend == "vllm" else 0),
        max_model_len=worker.max_model_len,
        longest=work.isl + work.osl,
        kv_dtype=worker.kv_dtype,
        kv_block_size=worker.kv_block_size,
        transfer_tokens=transfer.get("max_tokens_in_buffer"),
        sequence_bytes=float(room.sequence_bytes(work.isl + work.osl)),
        kv_bytes=room.lasting,
        # Rounding to whole sequences and ranks may have added one that never runs.
        kv_needed=room.held(max(most - 1, 1), *running),
        memory_bytes=room.total,
        needs_code="error" if plan.model.own_code else None,
        trusted=bool(launch.config.get(_TRUST.get(plan.backend, "trust-remote-code"))),
    )
