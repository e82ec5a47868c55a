"""What a graph says in several places and must say alike, and what no release knows."""

from __future__ import annotations

import pytest
from manifests import NIXL, config_map, found, graph, main

from aiconf.deploy.validate.connectors import known
from aiconf.deploy.versions import engines

PAIR = ("prefill", "decode")


def _only(problems):
    (problem,) = problems
    return problem


def _set(body, index, flag, value):
    args = main(body, index)["args"]
    args[args.index(flag) + 1] = value


def _drop(body, index, flag):
    args = main(body, index)["args"]
    place = args.index(flag)
    del args[place : place + 2]


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_engines_need_gpus(engine):
    body = graph(engine)
    resources = main(body).pop("resources")
    problem = _only(found(body, config_map()))
    assert problem.startswith("error")
    assert problem.endswith('; nvidia.com/gpu: "4"')
    resources["limits"]["nvidia.com/gpu"] = "0"
    main(body)["resources"] = resources
    assert "has no GPU" in _only(found(body, config_map()))
    main(body)["resources"] = {"claims": [{"name": "gpus"}]}
    pod = body["spec"]["components"][1]["podTemplate"]["spec"]
    pod["resourceClaims"] = [{"name": "gpus", "resourceClaimTemplateName": "gpus"}]
    assert found(body, config_map()) == []


@pytest.mark.parametrize(
    "limits", [{"amd.com/gpu": "4"}, {"gpu.intel.com/xe": "4"}, {"nvidia.com/mig-1g.10gb": "1"}]
)
def test_other_devices_are_gpus_too(limits):
    body = graph()
    main(body)["resources"] = {"limits": limits}
    assert not any("no GPU" in problem for problem in found(body))


def test_modules_of_dynamo():
    body = graph()
    main(body)["command"][-1] = "dynamo.vlm"
    assert _only(found(body)).endswith("Dynamo has no module dynamo.vlm; dynamo.vllm")
    main(body)["image"] = "mine/runtime:1.6.1-dev.1"
    assert _only(found(body)).startswith("warning")
    main(body)["command"][-1] = "mine.worker"
    assert found(body) == []


def test_image_holds_the_engine():
    body = graph()
    main(body)["image"] = "nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.6.1"
    problem = _only(found(body))
    assert "sglang-runtime does not hold the engine of dynamo.vllm; vllm-runtime" in problem


def test_framework_is_the_command_s():
    body = graph("sglang")
    body["spec"]["backendFramework"] = "vllm"
    assert "'worker' starts dynamo.sglang; sglang" in _only(found(body))


def test_kinds():
    body = graph() | {"kind": "DynamoGraphDeploymnt"}
    assert _only(found(body)).endswith("'DynamoGraphDeploymnt'; DynamoGraphDeployment")
    for kind in ("DynamoComponentDeployment", "DynamoModel", "DynamoCheckpoint",
                 "DynamoWorkerMetadata", "ClusterPolicy"):  # fmt: skip
        assert found(graph() | {"kind": kind}) == []


def test_connectors_that_vllm_does_not_have():
    body = graph("vllm", *PAIR)
    _set(body, 1, "--kv-transfer-config", NIXL.replace("NixlC", "NixelC"))
    assert _only(found(body)).endswith("is given; NixlConnector")
    _set(body, 1, "--kv-transfer-config", NIXL)
    outside = '{"kv_connector":"Mine","kv_connector_module_path":"a.b","kv_role":"kv_both"}'
    for index in (1, 2):
        _set(body, index, "--kv-transfer-config", outside)
    assert found(body) == []


def test_connectors_of_each_version():
    for release in engines().values():
        assert "NixlConnector" in known(release["vllm"])
    assert "P2pNcclConnector" in known("0.23.0")
    assert "P2pNcclConnector" not in known("0.26.0")
    assert "HiSparseConnector" not in known("0.28.0")


def test_connectors_of_a_pair_are_one():
    body = graph("vllm", *PAIR)
    _set(body, 2, "--kv-transfer-config", NIXL.replace("NixlConnector", "LMCacheConnectorV1"))
    problem = _only(found(body))
    assert "connector NixlConnector, decode 'decode' LMCacheConnectorV1" in problem
    several = (
        '{"kv_connector":"MultiConnector","kv_role":"kv_both","kv_connector_extra_config":'
        f'{{"connectors":[{NIXL},{NIXL.replace("Nixl", "Offloading")}]}}}}'
    )
    _set(body, 2, "--kv-transfer-config", several)
    assert found(body) == []
    _drop(body, 2, "--kv-transfer-config")
    assert "decode 'decode' has none" in _only(found(body))


@pytest.mark.parametrize(
    ("index", "role", "said"),
    [
        (1, "kv_producer", "the first stage only"),
        (2, "kv_consumer", "does not start"),
        (2, "kv_both", "does not support it"),
    ],
)
def test_pipeline_stages_and_nixl(index, role, said):
    body = graph("vllm", *PAIR)
    main(body, index)["args"] += ["--pipeline-parallel-size", "2"]
    main(body, index)["resources"]["limits"]["nvidia.com/gpu"] = "8"
    _set(body, index, "--kv-transfer-config", NIXL.replace("kv_both", role))
    problem = _only(found(body))
    assert problem.startswith("error")
    assert said in problem
    older = graph("vllm", *PAIR, release="1.4.0")
    main(older, 2)["args"] += ["--pipeline-parallel-size", "2"]
    main(older, 2)["resources"]["limits"]["nvidia.com/gpu"] = "8"
    _set(older, 2, "--kv-transfer-config", NIXL.replace("kv_both", "kv_consumer"))
    assert "does not start" in _only(found(older)), "vLLM 0.26 refuses it, too"
    pushed = NIXL.replace("NixlConnector", "NixlPushConnector").replace("kv_both", "kv_producer")
    for place in (1, 2):
        _set(body, place, "--kv-transfer-config", pushed.replace("producer", "both"))
    assert (found(body) == []) == (index == 1), "the pushing producer may have stages"


@pytest.mark.parametrize(
    ("engine", "index"), [("vllm", 1), ("sglang", 1), ("sglang", 2), ("trtllm", 1), ("trtllm", 2)]
)
def test_engines_are_told_their_role(engine, index):
    body = graph(engine, *PAIR)
    _drop(body, index, "--disaggregation-mode")
    assert any(
        one.startswith("error") and one.endswith(f"; --disaggregation-mode {PAIR[index - 1]}")
        for one in found(body, config_map())
    )


def test_decode_workers_that_aggregate():
    body = graph("vllm", *PAIR)
    _drop(body, 2, "--disaggregation-mode")
    assert found(body) == [], "as several of Dynamo's recipes do"
    _set(body, 2, "--kv-transfer-config", NIXL.replace("kv_both", "kv_consumer"))
    assert _only(found(body)).startswith("warning")
    alone = graph("sglang", "decode")
    _drop(alone, 1, "--disaggregation-mode")
    assert found(alone) == [], "aggregated by another name"


@pytest.mark.parametrize(("role", "other"), [PAIR, PAIR[::-1]])
def test_halves(role, other):
    problem = _only(found(graph("sglang", role)))
    assert problem.startswith("warning")
    assert f"no {other} worker in the graph" in problem


@pytest.mark.parametrize(
    ("engine", "flag", "value"),
    [
        ("vllm", "--gpu-memory-utilization", "1.92"),
        ("vllm", "--gpu-memory-utilization", "0"),
        ("vllm", "--max-num-seqs", "0"),
        ("sglang", "--mem-fraction-static", "1.0"),
        ("trtllm", "--free-gpu-memory-fraction", "1.5"),
    ],
)
def test_ranges(engine, flag, value):
    body = graph(engine)
    main(body)["args"] += [flag, value]
    assert f"{flag} {value} is out of range" in _only(found(body, config_map()))
    main(body)["args"][-1] = "1" if flag == "--max-num-seqs" else "0.9"
    assert found(body, config_map()) == []


@pytest.mark.parametrize(("engine", "flag"), [("vllm", "--model"), ("sglang", "--model-path")])
def test_a_pair_has_one_model(engine, flag):
    body = graph(engine, *PAIR)
    _set(body, 2, flag, "a/c")
    assert "model a/c, prefill 'prefill' a/b; --model" in _only(found(body))


def test_a_pair_has_one_name():
    body = graph("vllm", *PAIR)
    for index, name in ((1, "one"), (2, "two")):
        main(body, index)["args"] += ["--served-model-name", name]
    assert "name two, prefill 'prefill' one" in _only(found(body))


def test_one_name_is_one_model():
    body = graph("sglang", "worker", "worker")
    body["spec"]["components"][2]["name"] = "other"
    _set(body, 2, "--model-path", "a/c")
    assert found(body) == []
    for index in (1, 2):
        main(body, index)["args"] += ["--served-model-name", "mine"]
    assert "both under the name mine" in _only(found(body))


def test_releases_of_one_graph():
    body = graph("sglang", *PAIR)
    main(body, 2)["image"] = "nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.5.1"
    problem = _only(found(body))
    assert problem.startswith("warning")
    assert "Dynamo 1.5.1, and 'prefill' has 1.6.1" in problem


@pytest.mark.parametrize(
    ("tag", "near"),
    [("1.9.9", "1.6.1"), ("1.6.7", "1.6.1"), ("1.3.0", None), ("0.9.0", None)],
)
def test_releases_that_do_not_exist(tag, near):
    body = graph(release=tag)
    said = [one for one in found(body) if "no known release" in one]
    assert bool(said) == (near is not None)
    assert all(one.startswith("warning") and one.endswith(f"; {near}") for one in said)
    assert len(said) <= 1, "one line for the frontend and the worker"


def test_names_of_labels_and_secrets():
    body = graph()
    body["metadata"]["name"] = "a" * 63
    assert found(body) == []
    body["metadata"]["name"] = "a" * 64
    assert "64 characters" in _only(found(body))
    body = graph()
    main(body)["envFrom"] = [{"secretRef": {"name": "HF Token"}}]
    problem = _only(found(body))
    assert "envFrom[0].secretRef.name" in problem
    assert problem.endswith("; hf-token")
    main(body)["envFrom"] = [{"secretRef": {"name": "${SECRET}"}}]
    assert found(body) == []


def test_hints_are_values_that_work():
    body = graph("vllm", *PAIR)
    main(body, 1)["args"] += ["--block-size", "17"]
    main(body, 2)["args"] += ["--block-size", "33"]
    assert _only(found(body)).endswith("give both --block-size 16")
    body = graph("vllm", *PAIR)
    main(body, 1)["args"] += ["--kv-cache-dtype", "bfloat16"]
    main(body, 2)["args"] += ["--kv-cache-dtype", "float8"]
    problem = _only(found(body))
    assert "'float8' is none of" in problem
    assert problem.endswith("; bfloat16"), "what the prefill worker has"


def test_a_whole_flag_wins_over_the_start_of_another():
    body = graph("vllm", *PAIR)
    _set(body, 1, "--model", "a/c")
    assert any("model a/b" in one for one in found(body)), "--model is not --model-express-url"
