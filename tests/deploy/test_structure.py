"""Structure: our types and the CustomResourceDefinitions of four releases agree."""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import yaml
from crd_check import problems as crd_problems
from deploy_plans import many_plans
from mutate import example, mutant

from aiconf.deploy.dgd import build
from aiconf.deploy.validate.notation import release, types
from aiconf.deploy.validate.structure import findings
from aiconf.deploy.write import manifest

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "dynamo"
GRAPH, REQUEST, ADAPTER = (
    f"DynamoGraphDeployment{suffix}" for suffix in ("", "Request", "ScalingAdapter")
)
DEFINITIONS = [
    ("1.0.2", GRAPH, "v1alpha1"),
    ("1.2.0", GRAPH, "v1alpha1"),
    ("1.2.0", GRAPH, "v1beta1"),
    ("1.4.0", GRAPH, "v1alpha1"),
    ("1.4.0", GRAPH, "v1beta1"),
    ("1.5", GRAPH, "v1alpha1"),
    ("1.5", GRAPH, "v1beta1"),
    ("1.5", REQUEST, "v1alpha1"),
    ("1.5", REQUEST, "v1beta1"),
    ("1.5", ADAPTER, "v1alpha1"),
    ("1.5", ADAPTER, "v1beta1"),
]
MUTANTS = 500
RANDOM = 60  # documents to mutate
ALPHA = {
    "backendFramework": "vllm",
    "services": {
        "Frontend": {
            "componentType": "frontend",
            "replicas": 1,
            "extraPodSpec": {"mainContainer": {"image": "repository/frontend:1.1.0"}},
        },
        "Worker": {
            "componentType": "worker",
            "subComponentType": "decode",
            "replicas": 2,
            "multinode": {"nodeCount": 2},
            "envFromSecret": "token",
            "sharedMemory": {"size": "80Gi"},
            "resources": {"limits": {"gpu": "8", "custom": {"rdma/ib": "8"}}},
            "extraPodSpec": {
                "volumes": [{"name": "engine", "configMap": {"name": "engine"}}],
                "mainContainer": {
                    "image": "repository/vllm:1.1.0",
                    "command": ["python3", "-m", "dynamo.vllm"],
                    "args": ["--model", "a/b"],
                    "env": [{"name": "A", "value": "1"}],
                    "volumeMounts": [{"name": "engine", "mountPath": "/engine"}],
                    "startupProbe": {"httpGet": {"path": "/health", "port": 9090}},
                },
            },
        },
    },
}


@cache
def _schema(version, kind, api):
    path = REFERENCE / "crds" / f"{version}-nvidia.com_{kind.lower()}s.yaml.gz"
    if not path.exists():
        pytest.skip(f"reference file {path.name} is not here")
    text = gzip.decompress(path.read_bytes())
    versions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == api)
    return json.loads(json.dumps(schema))


def _document(kind, api, spec):
    return {
        "apiVersion": f"nvidia.com/{api}",
        "kind": kind,
        "metadata": {"name": "a"},
        "spec": spec,
    }


def _bases(kind, api, schema, rng):
    """Documents to mutate, all accepted: ours, one by hand, and random ones of all fields."""
    made = (_document(kind, api, example(schema["properties"]["spec"], rng)) for _ in range(9999))
    accepted = (one for one in made if not crd_problems(one, schema))
    bases = list(islice(accepted, RANDOM))
    if kind == GRAPH and api == "v1beta1":
        ours = [list(yaml.safe_load_all(manifest(build(one))))[-1] for one in many_plans()[::7]]
        bases += ours * (RANDOM // len(ours) // 4)
    if kind == GRAPH and api == "v1alpha1":
        bases += [_document(kind, api, ALPHA)] * (RANDOM // 4)
    return bases


@pytest.mark.parametrize(("version", "kind", "api"), DEFINITIONS, ids=str)
def test_mutants_are_judged_alike(version, kind, api):
    pytest.importorskip("celpy")
    schema, at = _schema(version, kind, api), release(version)
    rng = random.Random(f"{version} {kind} {api}")
    bases = _bases(kind, api, schema, rng)
    refused = 0
    for _ in range(MUTANTS):
        document = mutant(rng.choice(bases), schema, rng)
        theirs = crd_problems(document, schema)
        ours = list(findings(kind, api, document, at))
        assert bool(ours) == bool(theirs), (document, ours[:3], theirs[:3])
        refused += bool(theirs)
    assert MUTANTS * 0.3 < refused < MUTANTS * 0.9, "mutants must be of both kinds"


def _same(spec, schema, path, at):
    """Hold a type against its schema, field by field, and yield where they differ."""
    known = types().types
    if spec.base in known:
        fields = {k: s for k, s in known[spec.base].fields.items() if s.since <= at}
        theirs = schema.get("properties", {})
        if not theirs and path.endswith("metadata"):
            return  # releases before 1.2 say only that it is an object
        yield from (f"{path}.{key}" for key in fields.keys() ^ theirs.keys())
        for key in fields.keys() & theirs.keys():
            yield from _same(fields[key], theirs[key], f"{path}.{key}", at)
        return
    if spec.base in ("list", "map"):
        yield from _same(
            spec.of, schema.get("items") or schema["additionalProperties"], f"{path}[]", at
        )
    elif schema.get("type") == "string":
        if spec.base != "str":
            yield path
        if schema.get("pattern") != (spec.pattern.pattern if spec.pattern else None):
            yield f"{path} pattern"
    limits = [schema[key] for key in ("maximum", "maxItems", "maxProperties") if key in schema]
    if schema.get("minimum") != spec.minimum or limits not in ([], [spec.maximum]):
        yield f"{path} limits"
    if tuple(schema.get("x-kubernetes-list-map-keys", ())) != spec.keys:
        yield f"{path} keys"


@pytest.mark.parametrize(("version", "kind", "api"), DEFINITIONS, ids=str)
def test_fields_are_those_of_the_definition(version, kind, api):
    schema, at = _schema(version, kind, api), release(version)
    top = types().types[types().documents[kind][api].name]
    spec = schema["properties"]["spec"]
    assert list(_same(top.fields["spec"], spec, "spec", at)) == []


def _findings(document, at=(1, 6)):
    return [what for _, what, _ in findings(document["kind"], "v1beta1", document, at)]


def test_what_is_said():
    component = {"name": "worker", "type": "engine", "replicas": "2", "replica": 1}
    document = _document(GRAPH, "v1beta1", {"components": [component, component]})
    found = list(findings(GRAPH, "v1beta1", document, (1, 6)))
    by_path = {path: (what, fix) for path, what, fix in found}
    base = ("spec", "components", 0)
    assert "frontend" in by_path[(*base, "type")][0]
    assert by_path[(*base, "replicas")] == ("'2' is not a whole number", "remove the quotes: 2")
    assert by_path[(*base, "replica")] == ("unknown field", "did you mean replicas?")
    assert "twice" in by_path["spec", "components", 1][0]


def test_fields_have_a_release():
    component = {"name": "worker", "minAvailable": 1, "replicas": 1}
    document = _document(GRAPH, "v1beta1", {"components": [component]})
    assert _findings(document, (1, 6)) == []
    assert _findings(document, (1, 2)) == ["Dynamo 1.2 does not know this field"]
    assert _findings(document, (1, 1)) == ["nvidia.com/v1beta1 is not served by Dynamo 1.1"]
