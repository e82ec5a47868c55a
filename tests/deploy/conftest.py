"""Plans to deploy, made by hand, and the public reference files where they are at hand."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest
import yaml

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "dynamo"


def _needs(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"reference file {path.name} is not here")
    return path


@cache
def crd_schema(release, kind="dynamographdeployments"):
    """Return the schemas of a definition of a release, by API version."""
    name = f"{release}-nvidia.com_{kind}.yaml.gz"
    text = gzip.decompress(_needs(REFERENCE / "crds" / name).read_bytes())
    versions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    return {v["name"]: v["schema"]["openAPIV3Schema"] for v in versions}


@pytest.fixture(scope="session", params=["1.2.0", "1.5"])
def graph_schema(request):
    """Return the v1beta1 schema of DynamoGraphDeployment of two releases."""
    return crd_schema(request.param)["v1beta1"]


@pytest.fixture(scope="session")
def engine_flags():
    """Return the actions of the real parsers by backend and flag."""
    flags = {}
    for backend, name in (("vllm", "vllm_0.31.0"), ("sglang", "sglang_0.5.21")):
        actions = json.loads(_needs(REFERENCE / "flags" / f"{name}_flags.json").read_text())
        flags[backend] = {flag: action for action in actions for flag in action["flags"]}
    return flags


@pytest.fixture(scope="session")
def llm_args():
    """Return the fields of TensorRT-LLM's engine file with their types or choices."""
    return json.loads(_needs(REFERENCE / "flags" / "trtllm_llm_args_allowlist.json").read_text())
