"""One view of both versions of a graph."""

from __future__ import annotations

from manifests import config_map, graph, main

from aiconf.deploy.validate.documents import Document
from aiconf.deploy.validate.graph import graphs

ALPHA = {
    "apiVersion": "nvidia.com/v1alpha1",
    "kind": "DynamoGraphDeployment",
    "metadata": {"name": "mine"},
    "spec": {
        "envs": [{"name": "MODEL", "value": "a/b"}],
        "services": {
            "Frontend": {"componentType": "frontend"},
            "Decode": {
                "componentType": "worker",
                "subComponentType": "decode",
                "replicas": 3,
                "multinode": {"nodeCount": 2},
                "resources": {"limits": {"gpu": "8"}},
                "extraPodSpec": {
                    "mainContainer": {
                        "image": "a/vllm-runtime:1.1.1",
                        "command": ["/bin/sh", "-c"],
                        "args": ["exec python3 -m dynamo.vllm --model $MODEL"],
                    }
                },
            },
        },
    },
}


def _view(*bodies, source="file"):
    return graphs([Document(source, i, body) for i, body in enumerate(bodies)])


def test_services():
    (view,) = _view(ALPHA)
    assert (view.name, view.api, view.framework) == ("mine", "v1alpha1", "vllm")
    frontend, decode = view.components
    assert (frontend.role, frontend.process, frontend.gpus_per_pod) == ("frontend", None, None)
    assert (decode.role, decode.replicas, decode.nodes, decode.gpus_per_pod) == ("decode", 3, 2, 8)
    assert decode.words == ("--model", "a/b")
    assert decode.where == ("spec", "services", "Decode")


def test_components_and_their_files():
    (view,) = _view(config_map(), graph("trtllm", "worker"))
    worker = view.components[1]
    assert (worker.role, worker.gpus_per_pod, worker.nodes) == ("worker", 4, 1)
    assert list(worker.files) == ["/engine/engine.yaml"]
    assert worker.container == ("spec", "components", 1, "podTemplate", "spec", "containers", 0)


def test_files_of_other_manifests_only_where_names_are_unique():
    ours = Document("a", 0, graph("trtllm", "worker"))
    others = [Document(name, 0, config_map(name)) for name in "bc"]
    assert graphs([ours, others[0]])[0].components[1].files == {"/engine/engine.yaml": "b"}
    assert graphs([ours, *others])[0].components[1].files == {}


def test_role_that_only_the_engine_is_told():
    body = graph("vllm", "worker")
    main(body)["args"] += ["--disaggregation-mode", "prefill"]
    assert _view(body)[0].components[1].role == "prefill"


def test_nothing_fails_on_nonsense():
    for spec in (None, 3, [], {"components": [3, None, {}]}, {"services": {"a": 1, "b": {}}}):
        for broken in (spec, {"components": spec, "services": spec}):
            (view,) = _view({"kind": "DynamoGraphDeployment", "metadata": [], "spec": broken})
            assert view.framework is None
