"""A small manifest of each engine, written by hand, for tests to put one fault into."""

from __future__ import annotations

import copy
from typing import Any

from aiconf.deploy.validate.check import problems
from aiconf.deploy.validate.documents import Document

IMAGES = {"vllm": "vllm-runtime", "sglang": "sglang-runtime", "trtllm": "tensorrtllm-runtime"}
NIXL = '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
ARGS = {
    "vllm": ["--model", "a/b", "--tensor-parallel-size", "4", "--kv-transfer-config", NIXL],
    "sglang": ["--model-path", "a/b", "--tp-size", "4", "--page-size", "64"],
    "trtllm": ["--model-path", "a/b", "--extra-engine-args", "/engine/engine.yaml"],
}
ENGINE = """\
tensor_parallel_size: 4
max_batch_size: 64
max_num_tokens: 8192
max_seq_len: 8192
disable_overlap_scheduler: true
kv_cache_config: {dtype: fp8, tokens_per_block: 32}
cuda_graph_config: {max_batch_size: 64}
cache_transceiver_config: {backend: DEFAULT, max_tokens_in_buffer: 8192}
"""


def component(engine: str, role: str, release: str = "1.6.1") -> dict[str, Any]:
    """Return a v1beta1 component that runs ``engine`` on four GPUs."""
    container: dict[str, Any] = {
        "name": "main",
        "image": f"nvcr.io/nvidia/ai-dynamo/{IMAGES[engine]}:{release}",
    }
    if role != "frontend":
        mode = [] if role == "worker" else ["--disaggregation-mode", role]
        container["command"] = ["python3", "-m", f"dynamo.{engine}"]
        container["args"] = [*ARGS[engine], *mode]
        container["resources"] = {"limits": {"nvidia.com/gpu": "4"}}
    pod: dict[str, Any] = {"containers": [container]}
    if engine == "trtllm" and role != "frontend":
        container["volumeMounts"] = [{"name": "engine", "mountPath": "/engine"}]
        pod["volumes"] = [{"name": "engine", "configMap": {"name": "engine"}}]
    return {"name": role, "type": role, "replicas": 1, "podTemplate": {"spec": pod}}


def graph(engine: str = "vllm", *roles: str, release: str = "1.6.1") -> dict[str, Any]:
    """Return a DynamoGraphDeployment of a frontend and workers."""
    names = ("frontend", *(roles or ("worker",)))
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "mine"},
        "spec": {
            "backendFramework": engine,
            "components": [component(engine, role, release) for role in names],
        },
    }


def config_map(text: str = ENGINE) -> dict[str, Any]:
    """Return the ConfigMap that TensorRT-LLM workers mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "engine"},
        "data": {"engine.yaml": text},
    }


def main(body: dict[str, Any], index: int = 1) -> dict[str, Any]:
    """Return the main container of a component."""
    return body["spec"]["components"][index]["podTemplate"]["spec"]["containers"][0]


def found(*bodies: dict[str, Any], dynamo: str | None = None) -> list[str]:
    """Return what is wrong with documents of one file, each as ``level path: what; fix``."""
    documents = [Document("file", i, copy.deepcopy(body)) for i, body in enumerate(bodies)]
    return [f"{p.level} {p.path}: {p.what}; {p.fix}" for p in problems(documents, dynamo)]
