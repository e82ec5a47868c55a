"""``--planner``: the component, its ConfigMap and the profile folder beside the manifest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from crd_check import problems
from deploy_reference import REFERENCE, crd_schema
from test_matrix import CRDS, RELEASES
from test_planner import _built, _plan

from aiconf.cli import main
from aiconf.deploy import write_deployment
from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.planner import FOLDER
from aiconf.deploy.write import manifest


@pytest.mark.parametrize("release", RELEASES)
def test_manifest_with_a_planner(release):
    plan = _plan()
    deployment = build(plan, Options(dynamo=release), _built(plan))
    *_, config, graph = yaml.safe_load_all(manifest(deployment))
    assert config["kind"] == "ConfigMap"
    assert set(config["data"]) == {
        "planner_config.json", "prefill_raw_data.json", "decode_raw_data.json",
    }  # fmt: skip
    api = graph["apiVersion"].rpartition("/")[2]
    if api == "v1alpha1":
        service = graph["spec"]["services"]["planner"]
        assert (service["componentType"], service["replicas"]) == ("planner", 1)
        pod, main_container = service["extraPodSpec"], service["extraPodSpec"]["mainContainer"]
    else:
        component = graph["spec"]["components"][-1]
        assert (component["name"], component["type"]) == ("planner", "planner")
        pod = component["podTemplate"]["spec"]
        main_container = pod["containers"][0]
    assert main_container["args"] == ["--config", f"{FOLDER}/planner_config.json"]
    assert main_container["volumeMounts"][0]["mountPath"] == FOLDER
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    own = "dynamo-planner" if release >= "1.1" else "vllm-runtime"
    assert main_container["image"].endswith(f"/{own}:{deployment.runtime.dynamo}")
    if (REFERENCE / "crds").exists():
        assert problems(graph, crd_schema(CRDS[release])[api]) == []


def test_without_a_planner_nothing_of_it_is_written(tmp_path):
    plan = _plan()
    assert "planner" not in manifest(build(plan))
    write_deployment(plan, tmp_path / "out", planner=_built(plan))
    assert (tmp_path / "out" / "planner_profile").is_dir()
    write_deployment(plan, tmp_path / "out", force=True)
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_written_manifest_lints(tmp_path):
    linter = pytest.importorskip("yamllint.linter")
    from yamllint.config import YamlLintConfig

    config = YamlLintConfig("{extends: default, rules: {line-length: {max: 160}}}")
    plan = _plan()
    write_deployment(plan, tmp_path / "out", planner=_built(plan))
    text = (tmp_path / "out" / "deploy.yaml").read_text()
    assert list(linter.run(text, config)) == []
    write_deployment(plan, tmp_path / "again", planner=_built(plan))
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            other = tmp_path / "again" / path.relative_to(tmp_path / "out")
            assert other.read_bytes() == path.read_bytes()


def test_from_the_command_line(tmp_path, capsys):
    line = ["cli", "--model", "Qwen/Qwen3-32B-FP8", "--total-gpus", "8", "--system", "h200_sxm",
            "--isl", "2000", "--osl", "200", "--top", "1"]  # fmt: skip
    assert main([*line, "--planner"]) == 2
    assert "--planner is about the files" in capsys.readouterr().err
    line += ["--planner", "--dynamo-version", "1.1", "--save-dir", str(tmp_path / "o")]
    assert main(line) == 0
    for mode in ("agg", "disagg"):
        folder = tmp_path / "o" / mode
        *_, config, graph = yaml.safe_load_all((folder / "deploy.yaml").read_text())
        told = json.loads(config["data"]["planner_config.json"])
        assert (told["mode"], told["max_gpu_budget"]) == (mode, 8)
        assert (told["ttft"], told["itl"]) == (2000.0, 30.0)
        assert "planner" in graph["spec"]["services"]
        profile = folder / "planner_profile" / "selected_decode_interpolation"
        with np.load(profile / "raw_data.npz") as found:
            kept = json.loads(config["data"]["decode_raw_data.json"])
            np.testing.assert_array_equal(found["z_itl"], kept["z_itl"])
        assert "planner_profile/" in (folder / "README.md").read_text()


@pytest.mark.parametrize(("targets", "goal"), [(("--ttft", "500", "--tpot", "12"), "sla"),
                                               (("--ttft", "500"), "throughput"),
                                               ((), "throughput")])  # fmt: skip
def test_an_estimate_gives_the_planner_its_targets(targets, goal, tmp_path, capsys):
    line = ["estimate", "--model", "Qwen/Qwen3-32B-FP8", "--system", "h200_sxm", "--layout", "tp4",
            "--prefill-layout", "tp2", "--isl", "2000", "--osl", "200", "--concurrency", "8",
            "--planner", "--save-dir", str(tmp_path / "o"), *targets]  # fmt: skip
    assert main(line) == 0
    assert ("Targets" in capsys.readouterr().out) == bool(targets)
    *_, config, _ = yaml.safe_load_all((tmp_path / "o" / "disagg" / "deploy.yaml").read_text())
    told = json.loads(config["data"]["planner_config.json"])
    assert told["optimization_target"] == goal
    assert (told.get("ttft_ms"), told.get("itl_ms")) == ((500.0, 12.0) if goal == "sla" else
                                                        (None, None))  # fmt: skip


def test_targets_of_an_estimate_are_met_or_missed(capsys):
    line = ["estimate", "--model", "Qwen/Qwen3-32B-FP8", "--system", "h200_sxm", "--layout", "tp4"]
    for tpot, kept in (("20", "met"), ("1", "missed")):
        assert main([*line, "--tpot", tpot]) == 0
        said = capsys.readouterr().out
        assert f"Targets   mean TPOT ≤ {tpot} ms: {kept} (probability" in said
    assert main(["estimate", "--from", "a.csv", "--tpot", "3"]) == 2
    assert "--tpot is for one configuration, not for --from" in capsys.readouterr().err
