"""What a deployment was predicted for: written as annotations, and read back from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from crd_check import problems
from deploy_plans import GB200, plan, worker
from deploy_reference import crd_schema

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.read.manifest import asked_lengths
from aiconf.deploy.write import manifest
from aiconf.errors import UserError
from aiconf.manifests import read_manifest
from aiconf.workload import Workload


def written(one, tmp_path, **options):
    path = tmp_path / "deploy.yaml"
    path.write_text(manifest(build(one, Options(**options))))
    return path


@pytest.mark.parametrize("release", ["1.0.2", "1.6.1"])
def test_systems_and_lengths_come_back(release, tmp_path):
    apart = plan("vllm", worker("prefill", "tp2"), worker("decode", "tp4", system=GB200))
    apart = replace(apart, workload=Workload(3000, 70, 500))
    for one in (apart, plan("sglang")):
        path = written(one, tmp_path, dynamo=release)
        asked = asked_lengths(path)
        assert Workload(**asked) == one.workload
        found = read_manifest(path, **asked).plan
        systems = [each.system.name for each in one.workers]
        assert [each.system.name for each in found.workers] == systems


def test_options_come_before_annotations(tmp_path):
    path = written(plan(), tmp_path)
    assert read_manifest(path, system="b200_sxm").plan.workers[0].system.name == "b200_sxm"


@pytest.mark.parametrize("text", ["many", "-1", "0", "\u0663"])
def test_lengths_that_are_none_are_refused(text, tmp_path):
    path = written(plan(), tmp_path)
    body = list(yaml.safe_load_all(path.read_text()))[-1]
    body["metadata"]["annotations"]["aiconf/isl"] = text
    path.write_text(yaml.safe_dump(body, allow_unicode=True))
    with pytest.raises(UserError, match="isl") as caught:
        asked_lengths(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    del body["metadata"]["annotations"]
    path.write_text(yaml.safe_dump(body))
    assert asked_lengths(path) == {}


@pytest.mark.parametrize(("release", "crd"), [("1.0.2", "1.0.2"), ("1.2.1", "1.2.0"),
                                              ("1.4.0", "1.4.0"), ("1.6.1", "1.5")])  # fmt: skip
def test_further_tiers_ask_for_their_room(release, crd):
    """Host and disk tiers are requested where they are kept, in both API versions."""
    apart = plan("vllm", worker("prefill", "tp2"), worker("decode", "tp4"))
    deployment = build(apart, Options(dynamo=release, host_cache_gb=100.0, disk_cache_gb=250.5))
    text = manifest(deployment)
    body = list(yaml.safe_load_all(text))[-1]
    if release == "1.0.2":
        sides = body["spec"]["services"]
        sides = {name: sides[name]["resources"] for name in ("prefill", "decode")}
        wanted = {"memory": "132Gi", "custom": {"ephemeral-storage": "251Gi"}}
    else:
        sides = {
            one["name"]: one["podTemplate"]["spec"]["containers"][0].get("resources")
            for one in body["spec"]["components"]
        }
        wanted = {"memory": "132Gi", "ephemeral-storage": "251Gi"}
    assert sides["prefill"]["requests"] == wanted  # 100 and 16 for each of two GPUs
    assert "requests" not in sides["decode"]
    assert "100 GB of KV cache, and 16 per GPU for the engine itself" in text
    assert "250.5 GB of KV cache in the container's /tmp" in text
    assert "requests:" not in manifest(build(apart, Options(dynamo=release)))
    api = body["apiVersion"].rpartition("/")[2]
    assert problems(body, crd_schema(crd)[api]) == []
