"""A worker as a ``dynamo.sglang`` command line (flags of SGLang 0.5.21)."""

from __future__ import annotations

from aiconf.deploy.launch import (
    Launch,
    Setting,
    graph_sizes,
    literal,
    per_rank,
    served_model,
)
from aiconf.serving.plan import Plan, Worker

_KV_DTYPE = {"bf16": "bfloat16", "fp8": "fp8_e4m3"}
_BOOTSTRAP_PORT = 12345  # where decode workers ask prefill workers; any free port, same for all


def launch(plan: Plan, worker: Worker, name: str) -> Launch:
    """Return the launch of ``worker`` (``name`` is not needed by SGLang)."""
    engine = (
        Setting("model-path", literal(plan.model.checkpoint)),
        Setting("served-model-name", literal(served_model(plan))),
        *_parallel(plan, worker),
        *_scheduling(worker),
        *_graphs(worker),
        *_cache(worker),
        *_transfer(worker),
    )
    return Launch(
        module="dynamo.sglang",
        dynamo=(),
        engine=engine,
        config={setting.flag: setting.value for setting in engine},
        config_why={(setting.flag,): setting.why for setting in engine if setting.why},
    )


def _parallel(plan: Plan, worker: Worker) -> list[Setting]:
    layout = worker.parallel
    why = f"layout {layout}, chosen by the search"
    if layout.dp > 1:
        why += "; SGLang counts the attention ranks inside tp-size"
    settings = [
        Setting("tp-size", layout.tp * layout.dp, why),
        Setting("pp-size", layout.pp),
    ]
    if layout.dp > 1:
        settings += [Setting("dp-size", layout.dp), Setting("enable-dp-attention", True)]
    if plan.model.is_moe:
        settings.append(Setting("ep-size", layout.ep, "ranks that the experts are divided over"))
    if worker.exchange == "deepep_auto":
        settings += [
            Setting("moe-a2a-backend", "deepep", "how tokens reach experts in the prediction"),
            Setting("deepep-mode", "auto"),
        ]
    return settings


def _scheduling(worker: Worker) -> list[Setting]:
    dp = worker.parallel.dp
    # The scheduler asserts whole pages per chunk.
    pages = max(1, worker.token_budget // worker.kv_block_size)
    chunk = pages * worker.kv_block_size
    divided = f"; SGLang divides it by its {dp} attention ranks" if dp > 1 else ""
    return [
        Setting("context-length", worker.max_model_len, "prompt and output of the workload"),
        Setting(
            "max-running-requests",
            worker.max_sequences,
            "running sequences the prediction assumed" + divided,
        ),
        Setting("chunked-prefill-size", chunk * dp, "tokens of one iteration" + divided),
    ]


def _graphs(worker: Worker) -> list[Setting]:
    sizes = graph_sizes(worker, per_rank(worker))
    if worker.role == "prefill" or not sizes:
        return [Setting("cuda-graph-backend-decode", "disabled")]
    return [
        Setting("cuda-graph-max-bs-decode", sizes[-1], "batch sizes with a captured CUDA graph"),
        Setting("cuda-graph-bs-decode", sizes),
    ]


def _cache(worker: Worker) -> list[Setting]:
    settings = [
        Setting(
            "mem-fraction-static",
            worker.memory_fraction,
            "of the GPU: weights and KV cache, without activations",
        ),
        Setting("kv-cache-dtype", _KV_DTYPE[worker.kv_dtype]),
        Setting("page-size", worker.kv_block_size),
    ]
    if not worker.prefix_caching:
        settings.append(Setting("disable-radix-cache", True, "no prefix reuse was assumed"))
    return settings


def _transfer(worker: Worker) -> list[Setting]:
    if worker.role == "agg":
        return []
    return [
        Setting("disaggregation-mode", worker.role),
        Setting("disaggregation-transfer-backend", "nixl"),
        Setting("disaggregation-bootstrap-port", _BOOTSTRAP_PORT),
        Setting("host", "0.0.0.0"),
    ]
