"""Settings of a ``dynamo.vllm`` worker (flags of vLLM 0.16 to 0.31)."""

from __future__ import annotations

from typing import Any

from aiconf.deploy.read.flags import Flags
from aiconf.deploy.read.stated import Stated, kv_dtype, role_of
from aiconf.serving.plan import Role

# Names, parsers, logs, ports and loading: neither the time of an iteration nor memory.
_NEUTRAL = (
    "trust-remote-code", "tokenizer", "tokenizer-mode", "dyn-tool-call-parser",
    "dyn-reasoning-parser", "reasoning-parser", "reasoning-parser-plugin", "reasoning-config",
    "tool-call-parser", "enable-auto-tool-choice", "chat-template", "custom-jinja-template",
    "kv-events-config", "load-format", "model-loader-extra-config", "safetensors-load-strategy",
    "download-dir", "revision", "seed", "no-enable-log-requests", "enable-log-requests",
    "disable-log-requests", "disable-log-stats", "host", "port", "config",
    "distributed-executor-backend", "data-parallel-hybrid-lb", "data-parallel-external-lb",
    "data-parallel-size-local", "data-parallel-rpc-port", "data-parallel-address",
    "data-parallel-backend", "data-parallel-start-rank", "nnodes", "node-rank", "master-addr",
    "master-port", "headless", "cpu-distributed-timeout-seconds", "hf-overrides", "dtype",
    "connector", "endpoint", "stream-interval", "skip-mm-profiling", "enable-multimodal",
    "language-model-only", "limit-mm-per-prompt", "scheduler-cls", "enable-sleep-mode",
    "enable-cumem-allocator", "no-disable-hybrid-kv-cache-manager",
    "enable-flashinfer-autotune", "no-enable-flashinfer-autotune", "kernel-config", "numa-bind",
    "enable-prompt-tokens-details", "no-scheduler-reserve-full-isl", "request-plane", "log-level",
    "store-kv", "event-plane", "discovery-backend", "dump-config-to",
)  # fmt: skip
_EXCHANGES = {
    "deepep_high_throughput": "deepep_ht", "deepep_low_latency": "deepep_ll",
    "allgather_reducescatter": "allgather_reducescatter", "naive": "allgather_reducescatter",
}  # fmt: skip
_CONNECTORS = ("NixlConnector", "NixlPushConnector", "MooncakeConnector", "P2pNcclConnector")


def stated(flags: Flags) -> Stated:
    """Return what ``flags`` say.

    Raises
    ------
    UserError
        A value that cannot be read, or a setting without which no prediction makes sense.
    """
    flags.skip(*_NEUTRAL)
    loose: list[str] = []
    tp, dp = _sizes(flags)
    expert = flags.switch("enable-expert-parallel", "ep")
    sequences = flags.size("max-num-seqs")
    graphs = _graphs(flags, loose)
    exchange = flags.text("all2all-backend")
    if exchange not in (None, *_EXCHANGES):
        loose.append(f"all2all-backend {exchange}")
    whole = flags.switch("enable-chunked-prefill") is False
    if whole:
        loose.append("no-enable-chunked-prefill (prompts are not split)")
    vision = flags.text("mm-encoder-tp-mode")
    if vision not in (None, "weights", "data"):
        loose.append(f"mm-encoder-tp-mode {vision}")
        vision = None
    drafter, drafts, draft_model = _drafts(flags, loose)
    role = _role(flags)
    _connectors(flags, loose)
    return Stated(
        model=flags.text("model") or "",
        served=_served(flags),
        role=role,
        tp=tp,
        pp=flags.size("pipeline-parallel-size", "pp") or 1,
        dp=dp,
        ep=tp * dp if expert else 1,
        sequences=None if sequences is None else sequences * dp,
        token_budget=flags.size("max-num-batched-tokens"),
        max_model_len=flags.whole("max-model-len"),
        kv_dtype=kv_dtype(flags, flags.text("kv-cache-dtype")),
        kv_block_size=flags.size("block-size"),
        memory_fraction=flags.share("gpu-memory-utilization"),
        overlap=flags.switch("async-scheduling"),
        prefix_caching=flags.switch("enable-prefix-caching"),
        exchange=_EXCHANGES.get(exchange or ""),
        vision=vision,
        drafts=drafts,
        drafter=drafter,
        draft_model=draft_model,
        whole_prompts=whole,
        quantization=flags.text("quantization"),
        **graphs,
        loose=(*loose, *flags.unread()),
    )


def _sizes(flags: Flags) -> tuple[int, int]:
    return (
        flags.size("tensor-parallel-size", "tp") or 1,
        flags.size("data-parallel-size", "dp") or 1,
    )


def _served(flags: Flags) -> str | None:
    """The first of several names."""
    value = flags.raw("served-model-name")
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def _role(flags: Flags) -> Role | None:
    old: tuple[tuple[str, Role], ...] = (
        ("is-prefill-worker", "prefill"), ("is-decode-worker", "decode"),
    )  # fmt: skip
    for name, role in old:
        if flags.switch(name):
            return role
    return role_of(flags, flags.text("disaggregation-mode"))


def _graphs(flags: Flags, loose: list[str]) -> dict[str, Any]:
    """Captured sizes: ``--enforce-eager``, ``--compilation-config`` and flags of their own."""
    config = flags.inside("compilation-config", "O")
    inside = config.sizes("cudagraph-capture-sizes")
    sizes = flags.sizes("cudagraph-capture-sizes") or inside
    most = config.size("max-cudagraph-capture-size")
    largest = flags.size("max-cudagraph-capture-size") or most
    mode = (config.text("cudagraph-mode") or "FULL_AND_PIECEWISE").upper()
    config.skip("custom-ops", "cudagraph-num-of-warmups")
    loose += [f"compilation-config {name.replace('-', '_')}" for name in config.unread()]
    if flags.switch("enforce-eager") or mode == "NONE":
        return {"graphs": ()}
    return {
        "graphs": sizes,
        "largest_graph": largest if sizes is None else None,
        "prompt_graphs": False if mode in ("FULL_DECODE_ONLY", "FULL") else None,
    }


def _drafts(flags: Flags, loose: list[str]) -> tuple[str, int, str]:
    """Method, drafts per iteration, and the checkpoint that drafts."""
    config = flags.inside("speculative-config", "sc")
    method = config.text("method") or flags.text("spec-method")
    count = config.size("num-speculative-tokens") or flags.size("spec-tokens")
    if method is None and count is None and not config.unread():
        return "", 0, ""
    model = config.text("model") or ""
    loose += [f"speculative-config {name.replace('-', '_')}" for name in config.unread()]
    return method or "draft model", count or 1, model


def _connectors(flags: Flags, loose: list[str]) -> None:
    """KV transfer by NIXL is modelled; tiers behind another connector are not."""
    config = flags.mapping("kv-transfer-config")
    extra = config.get("kv_connector_extra_config")
    inner = extra.get("connectors") if isinstance(extra, dict) else None
    for one in [config, *(inner if isinstance(inner, list) else [])]:
        name = one.get("kv_connector") if isinstance(one, dict) else None
        if name and name not in (*_CONNECTORS, "PdConnector", "MultiConnector"):
            loose.append(f"kv-transfer-config {name}")
    if config.get("kv_buffer_device", "cuda") != "cuda":
        loose.append(f"kv-transfer-config kv_buffer_device {config['kv_buffer_device']}")
