"""A worker as a ``dynamo.trtllm`` command line and engine file (TensorRT-LLM 1.3.0rc29)."""

from __future__ import annotations

from typing import Any

from aiconf.deploy.launch import (
    OWN_CODE,
    Launch,
    Setting,
    Site,
    exchange_words,
    graph_sizes,
    literal,
    per_rank,
    reuses,
    sequences_why,
    served_model,
    spelled,
)
from aiconf.deploy.versions import has, require
from aiconf.deploy.vllm import kvbm_env
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.model.cache import cache_kind
from aiconf.serving.plan import Plan, Worker

CONFIG_FOLDER = "/etc/aiconf"  # where the engine file is mounted in the container


def launch(plan: Plan, worker: Worker, site: Site) -> Launch:
    """Return the launch of ``worker``: its engine file is mounted from a ConfigMap.

    Sizes that the Dynamo wrapper registers itself are on the command line as well.

    Raises
    ------
    UserError
        A layout or KV precision that TensorRT-LLM cannot run, attention that the release does
        not know, or blocks to be reused of a model whose blocks are not.
    """
    layout = worker.parallel
    if layout.dp > 1 and layout.tp > 1:
        raise UserError(
            f"{layout}: TensorRT-LLM's attention DP has one attention rank per GPU: "
            f"use tp1dp{layout.tp * layout.dp}"
        )
    kind = cache_kind(plan.model)
    require(site.runtime, kind)
    if kind in load_traits(plan.backend).kv.no_reuse and reuses(worker, site):
        raise UserError(
            f"TensorRT-LLM reuses no KV blocks of {plan.model.name}: leave out the cached prefix, "
            "the KV router and further tiers of cache"
        )
    return Launch(
        module="dynamo.trtllm",
        dynamo=spelled((*_wrapper(worker, site), *_images(plan, site)), site),
        engine=_engine(plan, worker),
        config=engine_config(plan, worker, site),
        config_why=_reasons(worker, site),
        mounted=True,
        env=kvbm_env(site) | _exchange(plan, worker),
    )


def _exchange(plan: Plan, worker: Worker) -> dict[str, str]:
    """Return the variable that holds the engine to the exchange that was predicted."""
    return dict(word.split("=", 1) for word in exchange_words(plan, worker))


def _engine(plan: Plan, worker: Worker) -> tuple[Setting, ...]:
    layout = worker.parallel
    settings = [
        Setting("model", literal(plan.model.checkpoint)),
        Setting("served-model-name", literal(served_model(plan))),
        Setting("tensor-parallel-size", layout.tp * layout.dp),
        Setting("pipeline-parallel-size", layout.pp),
    ]
    if plan.model.is_moe:
        settings.append(Setting("expert-parallel-size", layout.ep))
    if layout.dp > 1:
        settings.append(Setting("enable-attention-dp", True))
    return tuple(settings)


def _images(plan: Plan, site: Site) -> tuple[Setting, ...]:
    if plan.workload.images is None:
        return ()
    found = [Setting("modality", "multimodal", "the vision tower is loaded")]
    if has(site.runtime, "enable-multimodal"):
        found.append(Setting("enable-multimodal", True, "Dynamo refuses images without it"))
    return tuple(found)


def _wrapper(worker: Worker, site: Site) -> tuple[Setting, ...]:
    settings = [
        Setting("max-batch-size", _batch(worker), "the wrapper tells router and planner its own"),
        Setting("max-num-tokens", worker.token_budget),
        Setting("max-seq-len", worker.max_model_len),
        Setting("kv-block-size", worker.kv_block_size, "equals tokens_per_block of the file"),
        Setting("extra-engine-args", f"{CONFIG_FOLDER}/{config_file(worker)}", "all settings"),
    ]
    if worker.role != "agg":
        settings.append(Setting("disaggregation-mode", worker.role))
    if site.kv_events:
        why = "the router learns which blocks are held"
        settings.append(Setting("publish-kv-events", True, why))
    if site.host_cache_gb is not None:
        settings.append(Setting("connector", "kvbm", "KVBM keeps blocks in further tiers"))
    return tuple(settings)


def config_file(worker: Worker) -> str:
    """Return the name of the worker's engine file inside its ConfigMap."""
    return "worker.yaml" if worker.role == "agg" else f"{worker.role}.yaml"


def engine_config(plan: Plan, worker: Worker, site: Site) -> dict[str, Any]:
    """Return the engine file: every field that the prediction assumed (PyTorch backend)."""
    layout, batch = worker.parallel, _batch(worker)
    # The engine's connector interface, which KVBM uses, does not work inside CUDA graphs.
    sizes = graph_sizes(worker, batch) if site.host_cache_gb is None else []
    config: dict[str, Any] = {
        "backend": "pytorch",
        "tensor_parallel_size": layout.tp * layout.dp,
        "pipeline_parallel_size": layout.pp,
        **({"trust_remote_code": True} if plan.model.own_code else {}),
    }
    if plan.model.is_moe:
        config["moe_expert_parallel_size"] = layout.ep
        config["moe_tensor_parallel_size"] = layout.moe_tp
    if worker.moe_backend:
        config["moe_config"] = {"backend": worker.moe_backend}
    config |= _sparse(plan, worker, site) | {
        "enable_attention_dp": layout.dp > 1,
        "max_batch_size": batch,
        "max_num_tokens": worker.token_budget,
        "max_seq_len": worker.max_model_len,
        "enable_chunked_prefill": True,
        # The engine does not overlap host and GPU work in prefill-only workers.
        "disable_overlap_scheduler": worker.role == "prefill",
        "kv_cache_config": {
            "dtype": _kv_dtype(plan, worker),
            "tokens_per_block": worker.kv_block_size,
            "enable_block_reuse": reuses(worker, site),
            **({"enable_partial_reuse": False} if site.host_cache_gb is not None else {}),
            "free_gpu_memory_fraction": round(worker.memory_fraction, 4),
        },
        "cuda_graph_config": {"batch_sizes": sizes, "enable_padding": True} if sizes else None,
    }
    if worker.role != "agg":
        blocks = -(-worker.max_model_len // worker.kv_block_size)
        config["cache_transceiver_config"] = {
            "backend": "DEFAULT",
            "max_tokens_in_buffer": blocks * worker.kv_block_size,
        }
    if plan.drafts:
        config["speculative_config"] = _speculation(plan, site)
    return config


def _sparse(plan: Plan, worker: Worker, site: Site) -> dict[str, Any]:
    """Sparse attention that the engine does not find in the checkpoint by itself."""
    traits = load_traits(plan.backend)
    told = traits.sparse_setting(cache_kind(plan.model), worker.system.gpu.sm)
    if told.get("implementation"):
        require(site.runtime, told["implementation"])
    return {"sparse_attention_config": dict(told)} if told else {}


def _speculation(plan: Plan, site: Site) -> dict[str, Any]:
    if not plan.draft_model:
        return {"decoding_type": "MTP", "num_nextn_predict_layers": plan.drafts}
    require(site.runtime, "eagle")
    return {
        "decoding_type": "Eagle3",
        "max_draft_len": plan.drafts,
        "speculative_model": plan.draft_model,
    }


def _batch(worker: Worker) -> int:
    """Return the sequences of one iteration: the engine keeps one such batch per pipeline stage."""
    return -(-per_rank(worker) // worker.parallel.pp)


def _kv_dtype(plan: Plan, worker: Worker) -> str:
    """The engine accepts only auto and lower precisions; auto follows the checkpoint."""
    if worker.kv_dtype == "fp8":
        return "fp8"
    if plan.model.quantization.kv == "bf16":
        return "auto"
    raise UserError(
        f"TensorRT-LLM cannot keep a bf16 KV cache for {plan.model.name}, whose checkpoint "
        f"states {plan.model.quantization.kv}: use kv dtype {plan.model.quantization.kv}"
    )


def _reasons(worker: Worker, site: Site) -> dict[tuple[str | int, ...], str]:
    pp = worker.parallel.pp
    stages = f", in {pp} batches (one per pipeline stage)" if pp > 1 else ""
    reasons: dict[tuple[str | int, ...], str] = {
        ("trust_remote_code",): OWN_CODE,
        ("tensor_parallel_size",): f"layout {worker.parallel}, chosen by the search",
        ("max_batch_size",): sequences_why(worker) + stages,
        ("max_num_tokens",): "tokens of one iteration and rank",
        ("max_seq_len",): "prompt and output of the workload",
        ("kv_cache_config", "dtype"): f"{worker.kv_dtype} was assumed",
        ("kv_cache_config", "free_gpu_memory_fraction"): "of what weights leave free",
        ("cuda_graph_config",): "batch sizes with a captured CUDA graph",
    }
    if site.reuse:
        reasons["kv_cache_config", "enable_block_reuse"] = site.reuse
    if site.host_cache_gb is not None:
        reasons[("cuda_graph_config",)] = "KVBM works without graphs only: slower than predicted"
    if worker.role != "agg":
        reasons["cache_transceiver_config", "max_tokens_in_buffer"] = "holds the longest sequence"
    return reasons
