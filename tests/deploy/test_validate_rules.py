"""Checks beyond structure: each rule finds its fault, and nothing else is found."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from deploy_plans import many_plans
from manifests import ENGINE, config_map, found, graph, main

from aiconf.deploy.dgd import Options, build
from aiconf.deploy.validate.check import check, problems
from aiconf.deploy.validate.documents import Document, parse
from aiconf.deploy.write import manifest
from aiconf.errors import UserError

# Faults in github.com/ai-dynamo/dynamo as of 21 August 2026, each looked at: prefill workers
# without a connector, components without an image, a name that Grove refuses, a folded script
# whose backslashes glue a space to every flag, a decode worker without the connector that its
# prefill worker, and all its sister examples, have.
UPSTREAM_FAULTS = {
    "examples/backends/vllm/deploy/xpu/disagg_router_xpu_dra.yaml": 1,
    "examples/deployments/GKE/vllm/disagg.yaml": 1,
    "examples/global_planner/global-planner-gpu-budget.yaml": 1,
    "examples/global_planner/global-planner-vllm-test.yaml": 1,
    "examples/power-aware-budget/dgd.yaml": 3,
    "recipes/deepseek-v4/deepseek-v4-pro/vllm/disagg/gb200/deploy.yaml": 1,
    "recipes/qwen3-vl-32b-fp8/vllm/agg/deploy.yaml": 1,
}


def _args(body, *words, index=1):
    main(body, index)["args"] += words
    return body


@pytest.mark.parametrize("roles", [("worker",), ("prefill", "decode")])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_good_manifests_are_clean(engine, roles):
    assert found(graph(engine, *roles), config_map()) == []


def test_what_we_write_is_clean():
    for made in many_plans():
        # With experts it is smaller than the checkpoint whose id it has.
        name = "someone/experts" if made.model.is_moe else made.model.checkpoint
        plan = replace(made, model=replace(made.model, checkpoint=name))
        for options in (Options(), Options(model_cache="cache", rdma_resource="rdma/ib")):
            text = manifest(build(plan, options))
            documents = [Document("ours", i, body) for i, body in enumerate(parse(text, "ours"))]
            # Pipeline stages are what the choice of layouts must leave out, not the writer.
            staged = any(one.parallel.pp > 1 for one in plan.workers)
            found_here = [one.what for one in problems(documents)]
            assert all(staged and "pipeline stages" in what for what in found_here)


@pytest.mark.parametrize(
    ("engine", "words", "said"),
    [
        ("vllm", ["--max-num-seq", "8"], "did you mean --max-num-seqs?"),
        ("vllm", ["--max-num-seqs", "many"], "not a whole number"),
        ("vllm", ["--max-num-seqs"], "needs a value"),
        ("vllm", ["--kv-cache-dtype", "fp7"], "none of"),
        ("vllm", ["--enable-expert-parallel=true"], "takes no value"),
        ("vllm", ["--swap-space", "4"], "Dynamo 1.0.2"),
        ("vllm", ["--speculative-config", "{method: mtp}"], "not valid JSON"),
        ("vllm", ["--is-prefill-worker"], "no flag of vLLM 0.31.0"),
        ("vllm", ["stray"], "belongs to no flag"),
        ("sglang", ["--cuda-graph-bs", "1", "2"], "could be --cuda-graph-bs-decode"),
        ("sglang", ["--max_running_requests", "8"], "--max-running-requests"),
        ("trtllm", ["--publish-events-and-metric"], "no flag of dynamo.trtllm"),
    ],
)
def test_flags_that_parsers_refuse(engine, words, said):
    problems = found(_args(graph(engine), *words), config_map())
    assert len(problems) == 1
    assert problems[0].startswith("error spec.components[1].podTemplate.spec.containers[0].args")
    assert said in problems[0]


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("vllm", ["--max_num_seqs=8", "--compilation-config.mode", "3", "-dcp", "1"]),
        ("vllm", ["--max-num-batched-tokens", "8K", "--no-enable-prefix-caching"]),
        ("vllm", ["--hf-overrides", "$(OVERRIDES)"]),
        ("sglang", ["--mem-fraction", "0.8", "--cuda-graph-bs-decode", "1", "2", "4"]),
        ("trtllm", ["--trtllm.kv_cache_config.dtype", "fp8", "--publish-kv-events"]),
    ],
)
def test_spellings_that_parsers_accept(engine, words):
    assert found(_args(graph(engine), *words), config_map()) == []


def test_unknown_images_raise_no_false_alarm():
    body = _args(graph(), "--is-prefill-worker", "--new-flag", "1")
    main(body)["image"] = "registry/vllm-runtime:1.6.1-model-dev.1"
    problems = found(body)
    assert len(problems) == 1, "a flag of some release is none"
    assert problems[0].startswith("warning")
    assert "--new-flag" in problems[0]
    assert "nearest known" in problems[0]


def test_flags_of_the_release_in_the_image():
    body = _args(graph("sglang", release="1.3.0"), "--cuda-graph-max-bs", "64")
    assert found(body) == []
    assert "--cuda-graph-max-bs" in found(_args(graph("sglang"), "--cuda-graph-max-bs", "64"))[0]


@pytest.mark.parametrize(
    ("engine", "gpus", "nodes", "words", "said"),
    [
        ("vllm", 4, 1, ["--data-parallel-size", "2"], "needs 8 GPUs (tensor 4 x data 2)"),
        ("vllm", 16, 2, ["-tp", "16"], "there are 32 (2 pods of 16)"),
        ("vllm", 8, 1, [], "warning"),
        ("sglang", 4, 2, [], "there are 8 (2 pods of 4)"),
        ("sglang", 4, 1, ["--dp-size", "3", "--enable-dp-attention"], "does not divide"),
        ("trtllm", 2, 1, [], "needs 4 GPUs"),
    ],
)
def test_gpus_of_pods_are_those_of_the_layout(engine, gpus, nodes, words, said):
    body = _args(graph(engine), *words)
    main(body)["resources"]["limits"]["nvidia.com/gpu"] = str(gpus)
    if nodes > 1:
        body["spec"]["components"][1]["multinode"] = {"nodeCount": nodes}
    (problem,) = found(body, config_map())
    assert said in problem


def test_attention_dp_is_inside_tensor_parallel():
    body = _args(graph("sglang"), "--dp-size", "4", "--enable-dp-attention", "--ep-size", "4")
    assert found(body) == []


def test_operator_sets_multinode_flags():
    body = _args(graph(), "--nnodes", "2")
    main(body)["resources"]["limits"]["nvidia.com/gpu"] = "2"
    body["spec"]["components"][1]["multinode"] = {"nodeCount": 2}
    (problem,) = found(body)
    assert "the operator sets it" in problem


@pytest.mark.parametrize(
    ("engine", "words", "said"),
    [
        ("vllm", ["--block-size", "64"], "KV block size"),
        ("vllm", ["--kv-cache-dtype", "fp8"], "KV cache type"),
        ("sglang", ["--page-size", "16"], "prefill 'prefill' has 64, decode 'decode' 16"),
        ("sglang", ["--disaggregation-transfer-backend", "nixl"], "transfer backend"),
    ],
)
def test_prefill_and_decode_share_the_cache(engine, words, said):
    (problem,) = found(_args(graph(engine, "prefill", "decode"), *words, index=2))
    assert said in problem


def test_connector_of_prefill_workers():
    body = graph("vllm", "prefill", "decode")
    place = main(body)["args"].index("--kv-transfer-config")
    del main(body)["args"][place : place + 2]
    (problem,) = found(body)
    assert "without --kv-transfer-config" in problem
    body = graph("vllm", "prefill", "decode")
    consumer = '{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'
    main(body)["args"][main(body)["args"].index("--kv-transfer-config") + 1] = consumer
    assert "kv_consumer" in found(body)[0]
    main(body)["args"][main(body)["args"].index("--kv-transfer-config") + 1] = '{"kv_role": 1}'
    assert any("no kv_connector" in problem for problem in found(body))


def test_router_hashes_in_the_workers_blocks():
    body = graph("sglang")
    frontend = main(body, 0)
    frontend["command"] = ["python3", "-m", "dynamo.frontend"]
    frontend["args"] = ["--router-mode", "kv", "--kv-cache-block-size", "16"]
    assert "block sizes (64)" in found(body)[0]
    frontend["args"][-1] = "64"
    assert found(body) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("tensor_parallel_sise: 4", "did you mean tensor_parallel_size?"),
        ("max_batch_size: many", "not of type int"),
        ("kv_cache_config: {dtype: fp7}", "none of"),
        ("cuda_graph_config: {max_batch_size: 512}", "CUDA graphs up to 512"),
        ("cache_transceiver_config: {max_tokens_in_buffer: 512}", "max_tokens_in_buffer 512"),
        ("a: [", "not YAML"),
    ],
)
def test_engine_files_of_tensorrt_llm(change, said):
    key = change.partition(":")[0]
    lines = [line for line in ENGINE.splitlines() if not line.startswith(f"{key}:")]
    problems = found(graph("trtllm", "prefill", "decode"), config_map("\n".join([*lines, change])))
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("engine", "words", "said"),
    [
        ("trtllm", ["--kv-block-size", "64"], "tokens_per_block 32"),
        (
            "vllm",
            ["--max-num-batched-tokens", "256", "--cudagraph-capture-sizes", "1", "512"],
            "CUDA graphs up to 512",
        ),
        (
            "vllm",
            [
                "--max-num-batched-tokens=256",
                '--compilation-config={"max_cudagraph_capture_size": 512}',
            ],
            "CUDA graphs up to 512",
        ),
        (
            "sglang",
            ["--max-running-requests", "8", "--cuda-graph-max-bs-decode", "16"],
            "--max-running-requests 8",
        ),
    ],
)
def test_sizes_that_depend(engine, words, said):
    (problem,) = found(_args(graph(engine), *words), config_map())
    assert said in problem


def test_files_of_sglang():
    body = graph("sglang")
    container = main(body)
    container["args"] = ["--model-path", "a/b", "--config", "/engine/engine.yaml"]
    container["volumeMounts"] = [{"name": "engine", "mountPath": "/engine"}]
    pod = body["spec"]["components"][1]["podTemplate"]["spec"]
    pod["volumes"] = [{"name": "engine", "configMap": {"name": "engine"}}]
    assert found(body, config_map("tensor-parallel-size: 4\nep-size: 2\n")) == []
    (problem,) = found(body, config_map("tensor-parallel-size: 8\n"))
    assert "needs 8 GPUs" in problem
    assert found(body) == [], "a file that is not there says nothing"


@pytest.mark.parametrize("key", ["cache_transceiver_config", "disable_overlap_scheduler"])
def test_engine_files_of_prefill_workers(key):
    lines = [line for line in ENGINE.splitlines() if not line.startswith(key)]
    problems = found(graph("trtllm", "prefill", "decode"), config_map("\n".join(lines)))
    assert problems
    assert all(key.split("_")[-1] in problem for problem in problems)


def test_ports():
    events = '{"publisher":"zmq","endpoint":"tcp://*:9090"}'
    (problem,) = found(_args(graph(), "--kv-events-config", events))
    assert "both listen on port 9090" in problem
    (problem,) = found(_args(graph("sglang"), "--disaggregation-bootstrap-port", "70000"))
    assert "70000 is no port" in problem


def test_planner_config_is_json():
    body = graph()
    main(body)["command"] = ["python3", "-m", "dynamo.planner"]
    main(body)["args"] = ["--config", '{"mode": }']
    assert "not valid JSON" in found(body)[0]


def test_scripts_that_start_nothing():
    body = graph()
    main(body)["command"] = ["/bin/sh", "-c"]
    main(body)["args"] = ["ulimit -l unlimited \\ python3 -m dynamo.vllm --model a/b"]
    assert any("not the start of a command" in problem for problem in found(body))
    main(body)["args"] = ["python3 -m dynamo.vllm \\ --model a/b \\ --max-num-seqs 8"]
    assert sum("begins with a space" in problem for problem in found(body)) == 1


def test_unknown_release():
    with pytest.raises(UserError, match="Dynamo release"):
        check([Path(__file__)], "9.9")


def test_upstream_manifests():
    """AICONF_MANIFESTS: a checkout of github.com/ai-dynamo/dynamo, of which only YAML is read."""
    folder = os.environ.get("AICONF_MANIFESTS")
    if not folder:
        pytest.skip("AICONF_MANIFESTS names no checkout of Dynamo")
    parts = [Path(folder) / name for name in ("recipes", "examples")]
    done = check([path for path in parts if path.is_dir()])
    assert done.documents >= 40
    errors = [problem for problem in done.problems if problem.level == "error"]
    counts = Counter(str(Path(one.source).relative_to(folder)) for one in errors)
    assert counts == UPSTREAM_FAULTS
