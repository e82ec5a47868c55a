"""A worker as a ``dynamo.vllm`` command line (flags of vLLM 0.31 and how older ones spell them)."""

from __future__ import annotations

from typing import Any

from aiconf.deploy.launch import (
    Launch,
    Nodes,
    Setting,
    Site,
    balanced_experts,
    exchange_words,
    literal,
    own_code,
    per_rank,
    reuses,
    sequences_why,
    served_model,
    spelled,
    spread,
)
from aiconf.deploy.versions import require, spelling
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.serving.plan import Plan, Worker

_KV_DTYPE = {"bf16": "bfloat16", "fp8": "fp8"}


_EVENT_PORT = 20080  # of KV events; each attention rank adds its number
_KVBM = "kvbm.vllm_integration.connector"


def launch(plan: Plan, worker: Worker, site: Site) -> Launch:
    """Return the launch of ``worker``.

    Raises
    ------
    UserError
        A layout that vLLM cannot run.
    """
    nodes = spread(worker)
    _check(worker, nodes)
    engine = spelled(
        (
            Setting("model", literal(plan.model.checkpoint)),
            Setting("served-model-name", literal(served_model(plan))),
            *own_code(plan),
            *_parallel(plan, worker, site),
            *_scheduling(worker),
            *_cache(worker, site),
            *_images(plan),
            *_speculation(plan),
            *_transfer(worker, nodes, site),
            *_events(site),
        ),
        site,
    )
    role = [] if worker.role == "agg" else [Setting("disaggregation-mode", worker.role)]
    if plan.workload.images:
        role.append(Setting("enable-multimodal", True, "Dynamo refuses images without it"))
    return Launch(
        module="dynamo.vllm",
        dynamo=tuple(role),
        engine=engine,
        config={setting.flag: setting.value for setting in engine},
        config_why={(setting.flag,): setting.why for setting in engine if setting.why},
        env=kvbm_env(site),
    )


def kvbm_env(site: Site) -> dict[str, str]:
    """Return the sizes of KVBM's tiers as it reads them."""
    sizes = {
        "DYN_KVBM_CPU_CACHE_GB": site.host_cache_gb,
        "DYN_KVBM_DISK_CACHE_GB": site.disk_cache_gb,
    }
    return {name: f"{size:g}" for name, size in sizes.items() if size is not None}


def _check(worker: Worker, nodes: Nodes) -> None:
    layout = worker.parallel
    if layout.ep not in (1, layout.tp * layout.dp):
        raise UserError(
            f"vLLM splits experts over all {layout.tp * layout.dp} ranks or none, "
            f"not ep {layout.ep}: use ep 1 or ep {layout.tp * layout.dp}"
        )
    rank = layout.tp * layout.pp
    if layout.dp > 1 and nodes.gpus_per_pod % rank:
        raise UserError(
            f"{layout}: one vLLM attention rank takes {rank} GPUs, which do not fit whole into "
            f"pods of {nodes.gpus_per_pod}; use tp x pp that divides {nodes.gpus_per_pod}"
        )


def _parallel(plan: Plan, worker: Worker, site: Site) -> list[Setting]:
    layout = worker.parallel
    settings = [
        Setting("tensor-parallel-size", layout.tp, f"layout {layout}, chosen by the search"),
        Setting("pipeline-parallel-size", layout.pp),
        Setting("data-parallel-size", layout.dp),
    ]
    if plan.model.is_moe:
        experts = "enable-expert-parallel" if layout.ep > 1 else "no-enable-expert-parallel"
        settings.append(Setting(experts, True, f"experts over {layout.ep} ranks (tp x dp or 1)"))
    if worker.moe_backend:
        require(site.runtime, "moe-backend")
        settings.append(Setting("moe-backend", worker.moe_backend, "kernels predicted"))
    exchange = exchange_words(plan, worker)
    if not exchange and worker.exchange == "allgather_reducescatter":
        exchange = ["--all2all-backend", worker.exchange]
    if exchange:
        why = "how tokens reach experts in the prediction"
        settings.append(Setting(exchange[0].removeprefix("--"), exchange[1], why))
    redundant = balanced_experts(plan, worker)
    if redundant:
        why = "experts were predicted balanced: one redundant copy per rank"
        settings.append(Setting("enable-eplb", True, why))
        settings.append(Setting("eplb-config", {"num_redundant_experts": redundant}))
    return settings


def _scheduling(worker: Worker) -> list[Setting]:
    sizes = sorted(set(worker.graph_sizes))
    graphs: dict[str, Any] = (
        {"cudagraph_mode": "FULL_AND_PIECEWISE", "cudagraph_capture_sizes": sizes}
        if sizes
        else {"cudagraph_mode": "NONE"}
    )
    # The engine refuses a budget below one token per sequence.
    budget = max(worker.token_budget, per_rank(worker))
    return [
        Setting("max-model-len", worker.max_model_len, "prompt and output of the workload"),
        Setting("max-num-seqs", per_rank(worker), sequences_why(worker)),
        Setting("max-num-batched-tokens", budget, "tokens of one iteration and rank"),
        Setting("enable-chunked-prefill", True),
        Setting("compilation-config", graphs, "CUDA graphs the prediction assumed"),
    ]


def _cache(worker: Worker, site: Site) -> list[Setting]:
    reuse = "enable-prefix-caching" if reuses(worker, site) else "no-enable-prefix-caching"
    return [
        Setting(
            "gpu-memory-utilization",
            round(worker.memory_fraction, 4),
            "of the GPU: weights, activations and KV cache together",
        ),
        Setting("kv-cache-dtype", _KV_DTYPE[worker.kv_dtype]),
        Setting("block-size", worker.kv_block_size),
        Setting(reuse, True, site.reuse),
    ]


def _images(plan: Plan) -> list[Setting]:
    """What one prompt may hold, and how ranks share the tower."""
    images = plan.workload.images
    if images is None:
        return []
    vision = load_traits(plan.backend).vision
    name = vision.modalities.get(plan.model.architecture, "image")
    limit: dict[str, Any] = {name: images.count}
    if name == "image":  # the largest image that memory is set aside for
        size = {"width": images.width, "height": images.height}
        limit = {name: {"count": images.count, **size}, "video": 0}
    return [
        Setting("limit-mm-per-prompt", limit, "images of the workload"),
        Setting("mm-encoder-tp-mode", vision.parallel, "how ranks share the tower as predicted"),
    ]


def _speculation(plan: Plan) -> list[Setting]:
    if not plan.drafts:
        return []
    config: dict[str, Any] = {"method": "mtp", "num_speculative_tokens": plan.drafts}
    if plan.draft_model:
        config |= {"method": "eagle3", "model": literal(plan.draft_model)}
    return [Setting("speculative-config", config, f"{plan.drafts} drafts per iteration")]


def _transfer(worker: Worker, nodes: Nodes, site: Site) -> list[Setting]:
    tiers = site.host_cache_gb is not None
    if worker.role == "agg":
        own = [Setting("kv-transfer-config", _kvbm(), "KVBM keeps blocks in further tiers")]
        return [*own, _no_hybrid()] if tiers else []
    role = "kv_producer" if worker.role == "prefill" else "kv_consumer"
    config: dict[str, Any] = {
        "kv_connector": "NixlConnector",
        "kv_role": spelling(site.runtime, role)[0],
    }
    if tiers:
        config = {
            "kv_connector": "PdConnector",
            "kv_connector_module_path": _KVBM,
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"connectors": [_kvbm(), config]},
        }
    if worker.parallel.tp * worker.parallel.pp > nodes.gpus_per_pod:
        # Every node of one engine must present the same identity, every replica another one.
        config["engine_id"] = f"{site.name}{site.replica}"
    why = "KV blocks move from prefill to decode by NIXL"
    found = [Setting("kv-transfer-config", config, why)]
    return [*found, _no_hybrid()] if tiers else found


def _kvbm() -> dict[str, Any]:
    return {
        "kv_connector": "DynamoConnector",
        "kv_connector_module_path": _KVBM,
        "kv_role": "kv_both",
    }


def _no_hybrid() -> Setting:
    return Setting("disable-hybrid-kv-cache-manager", True, "KVBM holds one kind of block")


def _events(site: Site) -> list[Setting]:
    if not site.kv_events:
        return []
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "topic": "kv-events",
        "endpoint": f"tcp://*:{_EVENT_PORT + site.ports}",
    }
    return [Setting("kv-events-config", config, "the router learns which blocks are held")]
