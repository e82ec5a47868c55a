"""What the webhook and Kubernetes refuse beyond structure."""

from __future__ import annotations

import pytest
from manifests import found, graph, main


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"volumeMounts": [{"name": "no", "mountPath": "/a"}]}, "mounts volume 'no'"),
        (
            {"resources": {"claims": [{"name": "no"}], "limits": {"nvidia.com/gpu": 4}}},
            "claim 'no'",
        ),
        ({"resources": {"requests": {"nvidia.com/gpu": "4"}}}, "without a limit"),
        (
            {"resources": {"requests": {"nvidia.com/gpu": 2}, "limits": {"nvidia.com/gpu": "4"}}},
            "requests 2 of nvidia.com/gpu, limits 4",
        ),
        ({"env": [{"name": "1A", "value": "x"}]}, "environment variable"),
    ],
)
def test_pods_that_kubernetes_refuses(change, said):
    body = graph()
    main(body).update(change)
    (problem,) = found(body)
    assert said in problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g["metadata"].update(name="A_b"), "a-b"),
        (lambda g: g["metadata"].update(labels={"a": 1}), "put quotes"),
        (lambda g: g["spec"].update(components=[]), "no component"),
        (lambda g: g["spec"]["components"][1].update(type="epp"), "eppConfig"),
        (lambda g: g["spec"]["components"][1].update(frontendSidecar="x"), "no container 'x'"),
        (lambda g: g["spec"]["components"][1].update(name="w" * 44), "Grove takes 45"),
        (lambda g: main(g).pop("image"), "no image"),
        (lambda g: main(g).update(image="a/b:my-tag"), "cannot read a version"),
        (lambda g: main(g).update(image="a/b:${TAG}"), "placeholder"),
        (
            lambda g: g["metadata"].update(annotations={"nvidia.com/workload-provider": "x"}),
            "component, grove",
        ),
        (
            lambda g: g["spec"]["components"][0].update(
                experimental={"gpuMemoryService": {"mode": "IntraPod"}}
            ),
            "only workers",
        ),
        (
            lambda g: g["spec"]["components"][1].update(experimental={"failover": {}}),
            "failover needs gpuMemoryService",
        ),
        (
            lambda g: g["spec"]["components"][1].update(topologyConstraint={"packDomain": "rack"}),
            "clusterTopologyName",
        ),
    ],
)
def test_rules_of_the_webhook(change, said):
    body = graph()
    change(body)
    assert any(said in problem for problem in found(body)), found(body)


def test_grove_takes_longer_names_since_the_operator_cuts_them():
    body = graph(release="1.6.1")
    body["metadata"]["name"] = "a" * 42
    assert found(body) == []
    body["apiVersion"] = "nvidia.com/v1alpha1"
    service = {"componentType": "frontend", "extraPodSpec": {"mainContainer": {"image": "a:1.0.2"}}}
    body["spec"] = {"services": {"Frontend": service}}
    assert "Grove takes 45" in found(body, dynamo="1.0.2")[0]


def test_requests():
    body = {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeploymentRequest",
        "metadata": {"name": "mine"},
        "spec": {"model": "a/b", "image": "a/b:1.6.1", "searchStrategy": "thorough"},
    }
    assert "thorough needs one engine" in found(body)[0]
    body["spec"]["backend"] = "vllm"
    assert found(body) == []
