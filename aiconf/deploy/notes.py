"""What a user must know about a deployment beside its documents: one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from aiconf.deploy.launch import balanced_experts, expects_balance, served_model
from aiconf.deploy.options import Options
from aiconf.deploy.pods import PRODUCT, Part, gpu_products
from aiconf.deploy.rules import Finding
from aiconf.deploy.versions import Runtime
from aiconf.serving.plan import Plan


def notes(
    plan: Plan,
    engine: Runtime,
    options: Options,
    name: str,
    parts: Sequence[Part],
    found: Sequence[Finding],
) -> tuple[str, ...]:
    """Return what was corrected, what differs from the prediction, and what must be provided."""
    said = []
    if options.name and name != "-".join(filter(None, (options.name, options.suffix))):
        said.append(f"The name was corrected to {name}, which Kubernetes accepts.")
    said += [f"Memory and limits: {one}." for one in found]
    if plan.backend_version != engine.engine_version:
        said.append(
            f"The prediction rests on {plan.backend} {plan.backend_version}; "
            f"the image holds {engine.engine_version}: speeds may differ."
        )
    said += _cluster(plan, options, parts)
    said += _assumed(plan, options, parts)
    said += _images(plan)
    if plan.model.own_code:
        said.append(
            f"Engines and AIPerf run Python code from the repository of {plan.model.checkpoint}, "
            "whatever is there at start: review it, and pin the revision that you reviewed."
        )
    if served_model(plan) != plan.model.checkpoint:
        said.append(
            f"The model was read from the path {plan.model.checkpoint}: it must exist under this "
            "path inside the containers."
        )
    return tuple(said)


def _images(plan: Plan) -> list[str]:
    """What images bring along."""
    images = plan.workload.images
    if images is None:
        return []
    said = [
        f"Each request holds {images}: workers accept no more, and encode them before prefill; "
        "there is no encode worker. Decoding and resizing them on the CPU is not predicted.",
        "Requests with images pass the chat template, a few tokens that are not counted; Dynamo's "
        "own profiler knows no images and is asked for as many tokens of text.",
    ]
    if plan.backend != "vllm":
        said.append(
            "Dynamo's documentation names image URLs alone for this engine; AIPerf sends images "
            "inline as data URLs: try one request before the benchmark."
        )
    return said


def _cluster(plan: Plan, options: Options, parts: Sequence[Part]) -> list[str]:
    """What the cluster must offer."""
    said = []
    systems = sorted({part.worker.system.name for part in parts})
    if len(systems) > 1:
        unknown = [one for one in systems if one not in gpu_products()]
        said.append(
            f"Workers expect different GPU systems ({', '.join(systems)}): each is bound to nodes "
            f"with the label {PRODUCT} of its own."
            if not unknown
            else f"Workers expect different GPU systems ({', '.join(systems)}): add a nodeSelector "
            f"for {', '.join(unknown)}, whose product label is not known."
        )
    network = plan.disaggregated or any(part.nodes.count > 1 for part in parts)
    if network and not options.rdma_resource:
        said.append(
            "Pods talk over the network, and the prediction assumes RDMA: add your cluster's "
            "resource (for example rdma/ib) to the limits of each worker, one per GPU."
        )
    return said


def _assumed(plan: Plan, options: Options, parts: Sequence[Part]) -> list[str]:
    """What runs otherwise than the prediction assumed."""
    said = []
    reported = [part for part in parts if part.worker.role != "decode"]
    asked = options.router == "kv" or options.host_cache_gb is not None
    if asked and not all(part.worker.prefix_caching for part in reported):
        said.append(
            "The prediction counts on no reuse of KV blocks, which is on for the KV-aware router "
            "or the further tiers: reality is faster where prompts share beginnings."
        )
    if plan.backend == "trtllm" and options.host_cache_gb is not None:
        said.append(
            "KVBM runs TensorRT-LLM without CUDA graphs, which the prediction assumed: small "
            "batches decode slower than predicted."
        )
    for part in parts:
        if plan.backend == "trtllm" and expects_balance(plan, part.worker):
            said.append(
                f"The prediction takes the experts of the {part.component} workers as balanced, "
                "which TensorRT-LLM does only with its WIDEEP backend: uneven routing is slower."
            )
        if balanced_experts(plan, part.worker):
            said.append(
                f"The {part.component} workers keep one redundant expert per GPU and layer, whose "
                "weights the model of memory does not count."
            )
    return said
