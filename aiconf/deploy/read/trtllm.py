"""Settings of a ``dynamo.trtllm`` worker: its command line, and the engine file laid over it.

The file wins over the command line, as in Dynamo's own wrapper (``extra_engine_args`` is merged
over the arguments, ``override_engine_args`` over both).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiconf.deploy.read.flags import Flags, named
from aiconf.deploy.read.overrides import DOTTED, NO_GRAPHS, laid_over, nested
from aiconf.deploy.read.stated import Stated, kv_dtype, role_of
from aiconf.errors import UserError

_NEUTRAL = (
    "trust-remote-code", "backend", "print-iter-log", "stream-interval", "served-model-name",
    "extra-engine-args", "override-engine-args", "publish-kv-events", "publish-metrics",
    "publish-events-and-metrics", "request-plane", "dyn-tool-call-parser", "dyn-reasoning-parser",
    "custom-jinja-template", "enable-iter-perf-stats", "enable-iter-req-stats", "modality",
    "return-perf-metrics", "kv-block-size", "gpus-per-node", "tokenizer",
    "load-format", "model-loader-extra-config", "log-level", "num-postprocess-workers",
    "postprocess-tokenizer-dir", "garbage-collection-gen0-threshold", "allreduce-strategy",
    "batch-wait-timeout-ms", "batch-wait-timeout-iters", "batch-wait-max-tokens-ratio",
    "perf-metrics-max-requests", "enable-multimodal", "guided-decoding-backend",
)  # fmt: skip
_KV_NEUTRAL = ("event-buffer-max-size", "enable-partial-reuse", "copy-on-partial-reuse")


def stated(flags: Flags) -> Stated:
    """Return what ``flags`` say: the command line with the fields of the engine file.

    Raises
    ------
    UserError
        A value that cannot be read, or a setting without which no prediction makes sense.
    """
    loose: list[str] = []
    ranks = flags.size("tensor-parallel-size") or 1
    dp = ranks if flags.switch("enable-attention-dp") else 1
    pp = flags.size("pipeline-parallel-size") or 1
    experts = flags.whole("moe-expert-parallel-size", "expert-parallel-size") or 0
    split = flags.whole("moe-tensor-parallel-size") or 0
    if experts < 1:
        experts = ranks // split if split > 0 and ranks % split == 0 else 1
    batch = flags.size("max-batch-size")
    cache, moe = flags.inside("kv-cache-config"), flags.inside("moe-config")
    moe_backend = moe.text("backend")
    drafter, drafts, draft_model = _drafts(flags, loose)
    graphs, largest = _graphs(flags, loose)
    fraction = cache.share("free-gpu-memory-fraction")
    default = flags.share("free-gpu-memory-fraction")
    dtype = kv_dtype(cache, cache.text("dtype"))
    reuse = cache.switch("enable-block-reuse")
    block = cache.size("tokens-per-block")
    transfer = flags.mapping("cache-transceiver-config")
    if transfer.get("backend") in ("MPI",):
        loose.append(f"cache_transceiver_config.backend {transfer['backend']}")
    loose += [f"moe_config.{name.replace('-', '_')}" for name in moe.unread()]
    if cache.raw("host-cache-size"):
        loose.append("kv_cache_config.host_cache_size")
    if flags.mapping("attention-dp-config"):
        loose.append("attention_dp_config")
    if flags.mapping("scheduler-config"):
        loose.append("scheduler_config")
    cache.skip(*_KV_NEUTRAL)
    loose += [f"kv_cache_config.{name.replace('-', '_')}" for name in cache.unread()]
    role = role_of(flags, flags.text("disaggregation-mode"))
    overlap = flags.switch("disable-overlap-scheduler")
    model = flags.text("model", "model-path") or ""
    served = flags.text("served-model-name")
    flags.skip(*_NEUTRAL)
    return Stated(
        model=model,
        served=served,
        role=role,
        tp=ranks // dp,
        pp=pp,
        dp=dp,
        ep=experts,
        # One such batch per attention rank and pipeline stage.
        sequences=None if batch is None else batch * dp * pp,
        token_budget=flags.size("max-num-tokens"),
        max_model_len=flags.whole("max-seq-len"),
        kv_dtype=dtype,
        kv_block_size=block,
        memory_fraction=default if fraction is None else fraction,
        graphs=graphs,
        largest_graph=largest,
        overlap=False if overlap and role != "prefill" else None,
        prefix_caching=reuse,
        moe_backend=moe_backend,
        drafts=drafts,
        drafter=drafter,
        draft_model=draft_model,
        whole_prompts=not flags.switch("enable-chunked-prefill"),
        loose=(*loose, *flags.unread()),
    )


def merged(
    line: Mapping[str, Any], file: Mapping[str, Any], env: Mapping[str, str], where: str
) -> dict[str, Any]:
    """Return the command line with the engine file over it, and the overrides over both.

    Parameters
    ----------
    env
        Variables of the worker: Dynamo reads the overrides there too.

    Raises
    ------
    UserError
        The overrides cannot be read, or are given in both of their forms.
    """
    found = {**line, **named(file)}
    dotted = {name: found.pop(name) for name in line if name.startswith(DOTTED)}
    text = line.get("override-engine-args", env.get("DYN_TRTLLM_OVERRIDE_ENGINE_ARGS"))
    if dotted and text:
        raise UserError(f"{where}: --override-engine-args and --trtllm.* exclude each other")
    told = Flags({"override-engine-args": text} if text else {}, where)
    over = nested(dotted, where) if dotted else told.mapping("override-engine-args")
    return laid_over(found, over)


def _graphs(flags: Flags, loose: list[str]) -> tuple[tuple[int, ...] | None, int | None]:
    """Captured sizes, or their bound; the PyTorch backend captures up to 128 by itself."""
    if flags.raw("cuda-graph-config") == NO_GRAPHS:
        return (), None
    config = flags.inside("cuda-graph-config")
    if config.switch("enable-padding") is False:
        loose.append("cuda_graph_config.enable_padding")
    found = config.sizes("batch-sizes"), config.size("max-batch-size")
    loose += [f"cuda_graph_config.{name.replace('-', '_')}" for name in config.unread()]
    return found


def _drafts(flags: Flags, loose: list[str]) -> tuple[str, int, str]:
    """Method, drafts per iteration, and the checkpoint that drafts."""
    config = flags.inside("speculative-config")
    kind = config.text("decoding-type")
    count = config.size("max-draft-len") or config.size("num-nextn-predict-layers")
    if kind is None and count is None and not config.unread():
        return "", 0, ""
    folder = config.text("speculative-model-dir", "speculative-model")
    loose += [f"speculative_config.{name.replace('-', '_')}" for name in config.unread()]
    return kind or "draft model", count or 1, folder or ""
