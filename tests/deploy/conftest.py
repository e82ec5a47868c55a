"""Public reference files as fixtures; tests are skipped where they are not at hand."""

from __future__ import annotations

import json

import pytest
from deploy_reference import REFERENCE, crd_schema, needs


@pytest.fixture(scope="session", params=["1.2.0", "1.5"])
def graph_schema(request):
    """Return the v1beta1 schema of DynamoGraphDeployment of two releases."""
    return crd_schema(request.param)["v1beta1"]


@pytest.fixture(scope="session")
def engine_flags():
    """Return the actions of the real parsers by backend and flag."""
    flags = {}
    for backend, name in (("vllm", "vllm_0.31.0"), ("sglang", "sglang_0.5.21")):
        actions = json.loads(needs(REFERENCE / "flags" / f"{name}_flags.json").read_text())
        flags[backend] = {flag: action for action in actions for flag in action["flags"]}
    return flags


@pytest.fixture(scope="session")
def llm_args():
    """Return the fields of TensorRT-LLM's engine file with their types or choices."""
    return json.loads(needs(REFERENCE / "flags" / "trtllm_llm_args_allowlist.json").read_text())
