"""A worker as a ``dynamo.sglang`` command line (flags of SGLang 0.5.21).

Older spellings: ``templates/dynamo_versions.yaml``.
"""

from __future__ import annotations

from aiconf.deploy.launch import (
    Launch,
    Setting,
    Site,
    balanced_experts,
    exchange_words,
    graph_sizes,
    literal,
    own_code,
    per_rank,
    reuses,
    served_model,
    spelled,
    spread,
)
from aiconf.errors import UserError
from aiconf.serving.plan import Plan, Worker

_KV_DTYPE = {"bf16": "bfloat16", "fp8": "fp8_e4m3"}
_BOOTSTRAP_PORT = 12345  # where decode workers ask prefill workers; any free port, same for all


_EVENT_PORT = 5557  # of KV events; each attention rank adds its number


def launch(plan: Plan, worker: Worker, site: Site) -> Launch:
    """Return the launch of ``worker``.

    Raises
    ------
    UserError
        A tier of KV cache that SGLang does not have.
    """
    engine = spelled(
        (
            Setting("model-path", literal(plan.model.checkpoint)),
            Setting("served-model-name", literal(served_model(plan))),
            *own_code(plan),
            *_parallel(plan, worker),
            *_scheduling(worker),
            *_graphs(worker),
            *_cache(worker, site),
            *_images(plan),
            *_speculation(plan),
            *_transfer(worker, site),
            *_tiers(worker, site),
            *_events(site),
        ),
        site,
    )
    return Launch(
        module="dynamo.sglang",
        dynamo=(),
        engine=engine,
        config={setting.flag: setting.value for setting in engine},
        config_why={(setting.flag,): setting.why for setting in engine if setting.why},
    )


def _images(plan: Plan) -> list[Setting]:
    images = plan.workload.images
    if images is None:
        return []
    limit = {"image": images.count}
    return [
        Setting("enable-multimodal", True, "the vision tower is loaded"),
        Setting("limit-mm-data-per-request", limit, "images of the workload"),
    ]


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
    if worker.moe_backend:
        settings.append(Setting("moe-runner-backend", worker.moe_backend, "kernels predicted"))
    words = exchange_words(plan, worker)
    for flag, value, why in zip(
        words[::2], words[1::2], ("how tokens reach experts in the prediction", ""), strict=False
    ):
        settings.append(Setting(flag.removeprefix("--"), value, why))
    redundant = balanced_experts(plan, worker)
    if redundant:
        why = "experts were predicted balanced: one redundant copy per rank"
        settings.append(Setting("enable-eplb", True, why))
        settings.append(Setting("ep-num-redundant-experts", redundant))
    return settings


def _scheduling(worker: Worker) -> list[Setting]:
    from aiconf.engine.traits import load_traits

    dp = worker.parallel.dp
    # The scheduler asserts whole pages per chunk.
    pages = max(1, worker.token_budget // worker.kv_block_size)
    chunk = pages * worker.kv_block_size
    divided = f"; SGLang divides it by its {dp} attention ranks" if dp > 1 else ""
    # Chunks of several prompts share a batch up to this cap, which must hold one chunk.
    cap = max(load_traits("sglang").scheduler.prefill_token_cap or 0, chunk)
    return [
        Setting("context-length", worker.max_model_len, "prompt and output of the workload"),
        Setting(
            "max-running-requests",
            worker.max_sequences,
            "running sequences the prediction assumed" + divided,
        ),
        Setting("chunked-prefill-size", chunk * dp, "tokens of one iteration" + divided),
        Setting("max-prefill-tokens", cap, "prompt tokens of one batch at most"),
    ]


def _graphs(worker: Worker) -> list[Setting]:
    sizes = graph_sizes(worker, per_rank(worker))
    if worker.role == "prefill" or not sizes:
        return [Setting("cuda-graph-backend-decode", "disabled")]
    return [
        Setting("cuda-graph-max-bs-decode", sizes[-1], "batch sizes with a captured CUDA graph"),
        Setting("cuda-graph-bs-decode", sizes),
    ]


def _cache(worker: Worker, site: Site) -> list[Setting]:
    settings = [
        Setting(
            "mem-fraction-static",
            round(worker.memory_fraction, 4),
            "of the GPU: weights and KV cache, without activations",
        ),
        Setting("kv-cache-dtype", _KV_DTYPE[worker.kv_dtype]),
        Setting("page-size", worker.kv_block_size),
    ]
    if not reuses(worker, site):
        settings.append(Setting("disable-radix-cache", True, "no prefix reuse was assumed"))
    return settings


def _speculation(plan: Plan) -> list[Setting]:
    if not plan.drafts:
        return []
    own = [Setting("speculative-draft-model-path", literal(plan.draft_model))]
    return [
        Setting(
            "speculative-algorithm",
            "EAGLE3" if plan.draft_model else "NEXTN",
            f"{plan.drafts} drafts per iteration, in one chain",
        ),
        *(own if plan.draft_model else []),
        Setting("speculative-num-steps", plan.drafts),
        Setting("speculative-eagle-topk", 1),
        Setting("speculative-num-draft-tokens", plan.drafts + 1),
    ]


def _transfer(worker: Worker, site: Site) -> list[Setting]:
    if worker.role == "agg":
        return []
    return [
        Setting("disaggregation-mode", worker.role),
        Setting("disaggregation-transfer-backend", "nixl"),
        Setting("disaggregation-bootstrap-port", _BOOTSTRAP_PORT + site.ports),
        Setting("host", "0.0.0.0"),
    ]


def _tiers(worker: Worker, site: Site) -> list[Setting]:
    if site.host_cache_gb is None:
        return []
    if site.disk_cache_gb is not None:
        raise UserError("sglang keeps no KV cache on local disks: vllm and trtllm can (KVBM)")
    each = int(site.host_cache_gb / spread(worker).gpus_per_pod)
    if each < 1:
        raise UserError(
            f"a host cache of {site.host_cache_gb:g} GB is less than 1 GB for each of "
            f"{spread(worker).gpus_per_pod} GPUs, SGLang's least"
        )
    why = f"HiCache: GB of host memory per GPU, {site.host_cache_gb:g} per pod"
    return [Setting("enable-hierarchical-cache", True), Setting("hicache-size", each, why)]


def _events(site: Site) -> list[Setting]:
    if not site.kv_events:
        return []
    port = _EVENT_PORT + site.ports
    config = {"publisher": "zmq", "topic": "kv-events", "endpoint": f"tcp://*:{port}"}
    return [Setting("kv-events-config", config, "the router learns which blocks are held")]
