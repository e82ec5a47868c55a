"""Rules about one worker: sizes that its engine refuses, and memory that it has not."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.deploy.rules.memory import memory
from aiconf.deploy.rules.stated import Finding, Severity, Stated

# What limits a batch with a CUDA graph. vLLM's sizes count tokens: small prompts run in them too.
_BATCH = {
    "vllm": ("token_budget", "--max-num-batched-tokens"),
    "sglang": ("max_sequences", "--max-running-requests"),
    "trtllm": ("max_sequences", "max_batch_size"),
}


def alone(worker: Stated) -> Iterator[Finding]:
    """Yield the rules that one worker breaks."""
    for rule in (memory, _transfer_buffer, _graphs, _heads, _blocks, _budget, _context, _code):
        yield from rule(worker)


def _transfer_buffer(worker: Stated) -> Iterator[Finding]:
    """A buffer between prefill and decode that does not hold the longest sequence.

    Where requests are not known it may hold all that come: TensorRT-LLM's documents ask for the
    longest prompt (docs/source/features/disagg-serving.md, max_tokens_in_buffer).
    """
    tokens, longest = worker.transfer_tokens, worker.longest
    severity: Severity = "error"
    if longest is None:
        whole = worker.whole_prompts and worker.role != "decode"
        known = (worker.max_model_len, worker.token_budget if whole else None)
        longest, severity = min(filter(None, known), default=None), "warning"
    apart = worker.role in ("prefill", "decode")
    if apart and tokens and longest is not None and tokens < longest:
        yield Finding(
            "transfer-buffer", worker.name, severity,
            f"max_tokens_in_buffer {tokens} of the transfer buffer is less than a sequence can "
            f"have ({longest} tokens)",
            f"set cache_transceiver_config.max_tokens_in_buffer to {longest} or more",
        )  # fmt: skip


def _graphs(worker: Stated) -> Iterator[Finding]:
    """Graphs of batches that never run take memory and start-up time."""
    top = worker.graph_top
    field, named = _BATCH[worker.backend]
    most = getattr(worker, field)
    if top is not None and most is not None and top > most:
        yield Finding(
            "graph-size", worker.name, "warning",
            f"CUDA graphs up to {top}, and {named} {most} is the most that a batch of a rank "
            "can be",
            f"capture up to {most}: the rest costs memory and start-up time for nothing",
        )  # fmt: skip


def _heads(worker: Stated) -> Iterator[Finding]:
    """Heads are whole on each rank; KV heads are cut or copied evenly.

    vllm/config/model.py, verify_with_parallel_config; the attention classes of vLLM's and SGLang's
    models assert both; tensorrt_llm/_torch/modules/attention.py, and duplicate_kv_weight.
    """
    tp = worker.tp
    for count in worker.heads:
        if count % tp:
            yield Finding(
                "heads", worker.name, "error",
                f"tensor parallelism {tp} does not divide {count} attention heads",
                "use a size that divides them",
            )  # fmt: skip
            return
    for count in worker.kv_heads:
        if count % tp and tp % count:
            yield Finding(
                "heads", worker.name, "error",
                f"tensor parallelism {tp} neither divides nor is a multiple of {count} KV heads",
                f"use a divisor or a multiple of {count}",
            )  # fmt: skip
            return


def _blocks(worker: Stated) -> Iterator[Finding]:
    """KV blocks that the kernels of a model do not have.

    vllm/v1/worker/utils.py, select_common_block_size; DeepseekV4CacheManager of TensorRT-LLM.
    """
    size, unit = worker.kv_block_size, worker.block_unit
    if size is not None and size % unit:
        yield Finding(
            "kv-blocks", worker.name, "error",
            f"KV blocks of {size} tokens, and the model's kernels take multiples of {unit}, which "
            "is refused at start",
            f"use {unit}, or leave it to the engine",
        )  # fmt: skip


def _budget(worker: Stated) -> Iterator[Finding]:
    """A token budget that an engine refuses to start with.

    vllm/config/scheduler.py, SchedulerConfig; sglang, srt/server_args.py, check_server_args (of
    workers that prefill).
    """
    budget, most = worker.token_budget, worker.max_sequences
    if budget is None:
        return
    if worker.backend == "vllm" and most is not None and budget < most:
        yield Finding(
            "token-budget", worker.name, "error",
            f"{budget} tokens per iteration for {most} sequences, which is refused at start",
            f"set max-num-batched-tokens to {most} or more",
        )  # fmt: skip
    context = worker.max_model_len
    if worker.backend == "vllm" and worker.whole_prompts and context and budget < context:
        yield Finding(
            "token-budget", worker.name, "error",
            f"{budget} tokens per iteration for whole prompts of up to {context}, which is "
            "refused at start",
            f"set max-num-batched-tokens to {context} or more, or let prompts be split",
        )  # fmt: skip
    block = worker.kv_block_size
    cut = worker.backend == "sglang" and worker.role != "decode"
    if cut and block is not None and budget % block:
        yield Finding(
            "token-budget", worker.name, "error",
            f"{budget} tokens per iteration are no whole number of KV blocks of {block}",
            f"use a multiple of {block}",
        )  # fmt: skip


def _context(worker: Stated) -> Iterator[Finding]:
    """Lengths that the engine refuses: of requests, or of the model.

    vllm/config/model.py, _get_and_verify_max_len, and sglang, srt/configs/model_config.py,
    _derive_context_length, raise an error beyond the model's context.
    """
    most, longest, made = worker.max_model_len, worker.longest, worker.model_context
    if most is None:
        return
    if longest is not None and most < longest:
        yield Finding(
            "context", worker.name, "error",
            f"a context of {most} tokens refuses requests of {longest}",
            f"allow {longest} tokens or more",
        )  # fmt: skip
    if made is not None and most > made:
        refused = worker.backend in ("vllm", "sglang")
        told = "which is refused at start" if refused else "beyond which it was not made"
        yield Finding(
            "context", worker.name, "error" if refused else "warning",
            f"a context of {most} tokens for a model of {made}, {told}", f"use {made} or fewer",
        )  # fmt: skip


def _code(worker: Stated) -> Iterator[Finding]:
    """A model whose configuration or tokenizer is code, which no engine runs unless it is told to.

    transformers/dynamic_module_utils.py, resolve_trust_remote_code.
    """
    if worker.needs_code and worker.trusted is False:
        told = "trust_remote_code: true" if worker.backend == "trtllm" else "--trust-remote-code"
        yield Finding(
            "own-code", worker.name, worker.needs_code,
            "the configuration or tokenizer of the model is Python code in its repository, which "
            "is refused at start",
            f"review that code and set {told}",
        )  # fmt: skip
