"""A worker as a ``dynamo.vllm`` command line (flags of vLLM 0.31)."""

from __future__ import annotations

from typing import Any

from aiconf.deploy.launch import (
    Launch,
    Nodes,
    Setting,
    literal,
    per_rank,
    sequences_why,
    served_model,
    spread,
)
from aiconf.errors import UserError
from aiconf.serving.plan import Plan, Worker

_KV_DTYPE = {"bf16": "bfloat16", "fp8": "fp8"}


def launch(plan: Plan, worker: Worker, name: str) -> Launch:
    """Return the launch of ``worker``; ``name`` is unique to it inside the namespace.

    Raises
    ------
    UserError
        A layout that vLLM cannot run.
    """
    nodes = spread(worker)
    _check(worker, nodes)
    engine = (
        Setting("model", literal(plan.model.checkpoint)),
        Setting("served-model-name", literal(served_model(plan))),
        *_parallel(plan, worker),
        *_scheduling(worker),
        *_cache(worker),
        *_transfer(worker, nodes, name),
    )
    role = () if worker.role == "agg" else (Setting("disaggregation-mode", worker.role),)
    return Launch(
        module="dynamo.vllm",
        dynamo=role,
        engine=engine,
        config={setting.flag: setting.value for setting in engine},
        config_why={(setting.flag,): setting.why for setting in engine if setting.why},
    )


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


def _parallel(plan: Plan, worker: Worker) -> list[Setting]:
    layout = worker.parallel
    settings = [
        Setting("tensor-parallel-size", layout.tp, f"layout {layout}, chosen by the search"),
        Setting("pipeline-parallel-size", layout.pp),
        Setting("data-parallel-size", layout.dp),
    ]
    if plan.model.is_moe:
        experts = "enable-expert-parallel" if layout.ep > 1 else "no-enable-expert-parallel"
        settings.append(Setting(experts, True, f"experts over {layout.ep} ranks (tp x dp or 1)"))
    if worker.exchange == "allgather_reducescatter":
        why = "how tokens reach experts in the prediction"
        settings.append(Setting("all2all-backend", worker.exchange, why))
    return settings


def _scheduling(worker: Worker) -> list[Setting]:
    sizes = sorted(set(worker.graph_sizes))
    graphs: dict[str, Any] = (
        {"cudagraph_capture_sizes": sizes} if sizes else {"cudagraph_mode": "NONE"}
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


def _cache(worker: Worker) -> list[Setting]:
    reuse = "enable-prefix-caching" if worker.prefix_caching else "no-enable-prefix-caching"
    return [
        Setting(
            "gpu-memory-utilization",
            worker.memory_fraction,
            "of the GPU: weights, activations and KV cache together",
        ),
        Setting("kv-cache-dtype", _KV_DTYPE[worker.kv_dtype]),
        Setting("block-size", worker.kv_block_size),
        Setting(reuse, True),
    ]


def _transfer(worker: Worker, nodes: Nodes, name: str) -> list[Setting]:
    if worker.role == "agg":
        return []
    role = "kv_producer" if worker.role == "prefill" else "kv_consumer"
    config = {"kv_connector": "NixlConnector", "kv_role": role}
    if worker.parallel.tp * worker.parallel.pp > nodes.gpus_per_pod:
        # Every node of one engine must present the same identity, every replica another one;
        # Grove tells a pod the index of its replica.
        replica = "-$(GROVE_PCSG_INDEX)" if worker.replicas > 1 else ""
        config["engine_id"] = f"{name}{replica}"
    return [Setting("kv-transfer-config", config, "KV blocks move from prefill to decode by NIXL")]
