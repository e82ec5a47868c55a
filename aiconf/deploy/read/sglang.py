"""Settings of a ``dynamo.sglang`` worker (flags of SGLang 0.5.9 to 0.5.21)."""

from __future__ import annotations

from aiconf.deploy.read.flags import Flags
from aiconf.deploy.read.stated import Stated, kv_dtype, role_of
from aiconf.errors import UserError

# Names, parsers, logs, ports and loading: neither the time of an iteration nor memory.
_NEUTRAL = (
    "trust-remote-code", "tokenizer-path", "skip-tokenizer-init", "dyn-tool-call-parser",
    "dyn-reasoning-parser", "reasoning-parser", "tool-call-parser", "chat-template",
    "custom-jinja-template", "kv-events-config", "load-format", "model-loader-extra-config",
    "host", "port", "config", "watchdog-timeout", "disaggregation-bootstrap-port",
    "disaggregation-ib-device", "stream-interval", "stream-output", "incremental-streaming-output",
    "decode-log-interval", "log-level", "enable-metrics", "enable-cache-report", "random-seed",
    "dist-init-addr", "nnodes", "node-rank", "use-sglang-tokenizer", "dtype", "revision",
    "weight-loader-prefetch-checkpoints", "weight-loader-prefetch-num-threads", "endpoint",
    "enable-multimodal", "disable-flashinfer-autotune", "load-balance-method", "quantization",
    "prefill-round-robin-balance", "max-prefill-tokens", "request-plane",
    "disaggregation-transfer-backend", "deepep-mode", "enable-dp-lm-head",
    "enable-mixed-chunk", "limit-mm-data-per-request",
)  # fmt: skip
_DEEPEP = {"auto": "deepep_auto", "normal": "deepep_ht", "low_latency": "deepep_ll"}


def stated(flags: Flags) -> Stated:
    """Return what ``flags`` say.

    Raises
    ------
    UserError
        A value that cannot be read, or a setting without which no prediction makes sense.
    """
    loose: list[str] = []
    ranks = flags.size("tensor-parallel-size", "tp-size", "tp") or 1
    copies = flags.size("data-parallel-size", "dp-size", "dp") or 1
    shared = bool(flags.switch("enable-dp-attention")) and copies > 1
    if shared and ranks % copies:
        raise UserError(f"{flags.where}: dp-size {copies} does not divide tp-size {ranks}")
    dp = copies if shared else 1
    exchange = _exchange(flags, loose)
    ep = flags.size("expert-parallel-size", "ep-size", "ep")
    sequences = flags.size("max-running-requests")
    chunk = flags.whole("chunked-prefill-size")
    if chunk is not None and chunk < 1:
        loose.append("chunked-prefill-size -1 (prompts are not split)")
        chunk = None
    drafts = flags.whole("speculative-num-draft-tokens")
    steps = flags.whole("speculative-num-steps")
    drafter = flags.text("speculative-algorithm", "speculative-algo") or ""
    branches = flags.whole("speculative-eagle-topk") or 1
    if drafter and branches > 1:
        drafter += f", a tree of {branches} branches"
    graphs, largest, prompts = _graphs(flags)
    if flags.switch("enable-mixed-chunk"):
        loose.append("enable-mixed-chunk")
    model = flags.text("model-path", "model") or ""
    role = role_of(flags, flags.text("disaggregation-mode"))
    overlap = flags.switch("disable-overlap-schedule")
    radix = flags.switch("disable-radix-cache")
    flags.skip(*_NEUTRAL)
    return Stated(
        model=model,
        served=flags.text("served-model-name"),
        role=role,
        tp=ranks // dp,
        pp=flags.size("pipeline-parallel-size", "pp-size", "pp") or 1,
        dp=dp,
        ep=ep or (ranks if exchange else 1),
        apart=1 if shared else copies,
        # Without attention DP every copy has the limits for itself.
        sequences=sequences if sequences is None or shared else sequences * copies,
        token_budget=None if chunk is None else max(chunk // dp, 1),
        max_model_len=flags.whole("context-length"),
        kv_dtype=kv_dtype(flags, flags.text("kv-cache-dtype")),
        kv_block_size=flags.size("page-size"),
        memory_fraction=flags.share("mem-fraction-static"),
        graphs=graphs,
        largest_graph=largest,
        prompt_graphs=prompts,
        overlap=False if overlap else None,
        prefix_caching=False if radix else None,
        exchange=exchange,
        vision="data" if flags.switch("mm-enable-dp-encoder") else None,
        drafts=(steps or (drafts - 1 if drafts else 1)) if drafter else 0,
        drafter=drafter,
        draft_model=flags.text("speculative-draft-model-path", "speculative-draft-model") or "",
        quantization=flags.text("quantization"),
        loose=(*loose, *flags.unread()),
    )


def _exchange(flags: Flags, loose: list[str]) -> str | None:
    backend = flags.text("moe-a2a-backend")
    if flags.switch("enable-deepep-moe"):
        backend = "deepep"
    mode = flags.text("deepep-mode") or "auto"
    if backend in (None, "none"):
        return None
    if backend == "deepep" and mode in _DEEPEP:
        return _DEEPEP[mode]
    loose.append(f"moe-a2a-backend {backend}")
    return None


def _graphs(flags: Flags) -> tuple[tuple[int, ...] | None, int | None, bool | None]:
    """Decode sizes, the bound of the engine's own list, and whether prompts use graphs."""
    off = flags.switch("disable-cuda-graph")
    sizes = flags.sizes("cuda-graph-bs-decode", "cuda-graph-bs")
    largest = flags.size("cuda-graph-max-bs-decode", "cuda-graph-max-bs")
    prompts = flags.text("cuda-graph-backend-prefill") == "disabled"
    prompts |= bool(flags.switch("disable-piecewise-cuda-graph"))
    if off or flags.text("cuda-graph-backend-decode") == "disabled":
        return (), None, False if off or prompts else None
    if sizes is not None and largest is not None:
        sizes = tuple(size for size in sizes if size <= largest)
    return sizes, None if sizes is not None else largest, False if prompts else None
