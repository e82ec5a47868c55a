"""What lies beside the manifest: Jobs, request, scripts, llm-d values; hostile words in them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import replace

import pytest
import yaml
from crd_check import problems
from deploy_plans import DENSE, GB200, H200, many_plans, plan, worker
from deploy_reference import crd_schema

from aiconf.deploy import docker, jobs, llmd, write_deployment
from aiconf.deploy.dgd import build
from aiconf.deploy.nodes import placement
from aiconf.deploy.options import Options
from aiconf.deploy.request import deployment_request
from aiconf.deploy.write import contents
from aiconf.errors import UserError
from aiconf.workload import Sla, Workload

PLANS = many_plans()
HOSTILE = "/models/$(touch owned) `touch owned` \"x\" 'y'; touch owned #&|*{{ 1 }}: -"


@pytest.mark.parametrize("one", PLANS[::5], ids=lambda p: p.backend)
def test_the_request_is_accepted(one):
    document = deployment_request(build(one, Options(model_cache="weights")))
    assert problems(document, crd_schema("1.5", "dynamographdeploymentrequests")["v1beta1"]) == []
    assert document["spec"]["autoApply"] is False
    assert document["spec"]["hardware"]["totalGpus"] == one.gpus


def flags_of(words):
    found = {}
    for index, word in enumerate(words):
        if word.startswith("--"):
            following = words[index + 1] if index + 1 < len(words) else ""
            found.setdefault(word, []).append("" if following.startswith("--") else following)
    return found


@pytest.mark.parametrize("prefix", [0, 1500])
def test_the_benchmark_is_the_predicted_point(prefix):
    one = replace(plan(), workload=Workload(4000, 700, prefix), concurrency=48)
    flags = flags_of(jobs.measure(one, "http://x:8000"))
    shared = int(flags.get("--prefix-prompt-length", ["0"])[0])
    assert int(flags["--isl"][0]) + shared == 4000
    assert shared == prefix and ("--num-prefix-prompts" in flags) == (prefix > 0)
    assert flags["--osl"] == ["700"] and "min_tokens:700" in flags["--extra-inputs"]
    assert "ignore_eos:true" in flags["--extra-inputs"]
    assert flags["--concurrency"] == ["48"]
    # No prompt is sent twice, so that only the prefix is reused.
    sent = int(flags["--request-count"][0]) + int(flags["--warmup-request-count"][0])
    assert int(flags["--num-dataset-entries"][0]) >= sent


def test_the_cache_is_filled_before_it_is_used():
    deployment = build(plan(), Options(model_cache="my.weights"))
    claim, job = jobs.model_cache(deployment)
    assert claim["metadata"]["name"] == "my.weights"
    pod = job["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "my.weights"
    assert pod["containers"][0]["command"][-1] == DENSE.checkpoint
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert size > jobs.checkpoint_bytes(DENSE) / 2**30
    readme = contents(deployment)["README.md"]
    assert readme.index("-f model-cache.yaml") < readme.index("-f deploy.yaml")
    assert "model-cache.yaml" not in contents(build(plan()))


@pytest.mark.parametrize("one", PLANS, ids=lambda p: f"{p.backend}")
def test_every_rank_has_its_own_gpus(one):
    """No GPU twice, no node beyond its size, all GPUs of the plan, whole replicas."""
    nodes = placement(build(one).parts)
    taken = [(node.index, gpu) for node in nodes for each in node.placed for gpu in each.gpus]
    assert len(taken) == len(set(taken)) == one.gpus
    for node in nodes:
        assert all(gpu < node.system.gpus_per_node for each in node.placed for gpu in each.gpus)
        assert all(each.part.worker.system.name == node.system.name for each in node.placed)
    ranks = [
        (each.part.component, each.replica, each.rank, each.leader)
        for node in nodes
        for each in node.placed
    ]
    assert len(ranks) == len(set(ranks))
    for part in build(one).parts:
        mine = [rank for rank in ranks if rank[0] == part.component]
        assert len(mine) == part.worker.replicas * part.nodes.count


def run_scripts(folder, tmp_path, nodes):
    """Run the scripts with a Docker that only records; return its calls by node."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    tools = tmp_path / "tools"
    tools.mkdir()
    record = tmp_path / "calls"
    stub = tools / "docker"
    stub.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\0" "$@" >>"$RECORD"; printf "\\n\\0" >>"$RECORD"\n'
    )
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    calls = {}
    for script in sorted(folder.glob("launch_node_*.sh")):
        assert os.access(script, os.X_OK)
        record.write_bytes(b"")
        env = {"PATH": f"{tools}:{os.environ['PATH']}", "RECORD": str(record), "HOME": "/h"}
        env |= {"HEAD": "10.0.0.10"} | {f"NODE_{i}": f"10.0.0.1{i}" for i in range(1, nodes)}
        done = subprocess.run(
            [str(script)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        words = record.read_bytes().decode().split("\0")[:-1]
        text = "\0".join(words).split("\0\n")
        calls[script.name] = [call.strip("\0").split("\0") for call in text if call.strip("\0")]
    return calls


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_scripts_start_every_rank(backend, tmp_path):
    sides = worker("prefill", "tp4"), worker("decode", "tp16", replicas=1)
    write_deployment(plan(backend, *sides), tmp_path / "out", options=Options(router="kv"))
    calls = run_scripts(tmp_path / "out", tmp_path, 3)
    assert len(calls) == 3  # 16 GPUs on two nodes, 2 x 4 on a third
    started = [call for name in sorted(calls) for call in calls[name]]
    names = [call[call.index("--name") + 1] for call in started]
    prefix = "qwen3-32b-fp8-"
    assert names == [
        f"{prefix}{what}"
        for what in ("etcd", "nats", "frontend", "decode-0", "decode-0", "prefill-0", "prefill-1")
    ]
    first, second = started[3], started[4]
    for rank, call in enumerate((first, second)):
        assert call[call.index("--node-rank") + 1] == str(rank)
        assert "10.0.0.10" in call[call.index("--nnodes") - 1] + " ".join(call)
    if backend == "vllm":
        assert "--headless" in second and "--headless" not in first
    ports = [next(w for w in call if w.startswith("DYN_SYSTEM_PORT")) for call in started[5:]]
    assert len(set(ports)) == 2
    events = [next(w for w in call if '"endpoint"' in w) for call in started[5:]]
    assert len({json.loads(event)["endpoint"] for event in events}) == 2


def test_workers_over_the_network_get_its_cards(tmp_path):
    apart = plan("vllm", worker("prefill"), worker("decode"))
    for one, network in ((apart, True), (plan("vllm", worker("agg", "tp16")), True), (plan(), 0)):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_deployment(one, folder / "out")
        script = folder / "out" / "launch_node_0.sh"
        assert ("/dev/infiniband" in script.read_text()) == bool(network)
        assert ("/dev/infiniband" in (folder / "out" / "README.md").read_text()) == bool(network)
        if not network:
            continue
        for here in (tmp_path, tmp_path / "none"):  # a node with the device, and one without
            text = script.read_text().replace("-e /dev/infiniband", f"-e {here}")
            ran = folder / here.name
            ran.mkdir()
            (ran / "launch_node_0.sh").write_text(text)
            (ran / "launch_node_0.sh").chmod(0o755)
            started = run_scripts(ran, ran, 2)["launch_node_0.sh"]
            workers = [call for call in started if "dynamo.vllm" in call]
            assert workers
            for call in workers:
                assert "memlock=-1" in call
                assert ("/dev/infiniband" in call and "IPC_LOCK" in call) == (here == tmp_path)


def test_a_node_without_cards_is_told(tmp_path):
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    texts = contents(build(plan("vllm", worker("prefill"), worker("decode"))))
    text = texts["launch_node_0.sh"].replace("-e /dev/infiniband", "-e /none")
    stub = "docker() { :; }\n"
    done = subprocess.run(
        ["bash", "-c", stub + text], env={"HOME": "/h"}, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("warning: no /dev/infiniband") == 1


def test_the_readme_says_how_scripts_are_called_and_ended():
    wide = contents(build(plan("sglang", worker("agg", "tp16"))))  # two replicas, four nodes
    readme = wide["README.md"]
    assert "HEAD=ADDRESS_OF_NODE_0 HF_TOKEN=YOUR_TOKEN ./launch_node_0.sh" in readme
    for number in range(4):
        line = next(one for one in readme.splitlines() if f"./launch_node_{number}.sh " in one)
        asked = {f"NODE_{one}=" for one in range(4) if f"${{NODE_{one}:?" in
                 wide[f"launch_node_{number}.sh"]}  # fmt: skip
        assert all(name in line for name in asked)
    assert any("NODE_2=ADDRESS_OF_NODE_2" in line for line in readme.splitlines())
    label = "label=aiconf=qwen3-32b-fp8"
    assert f"--filter {label} | xargs --no-run-if-empty docker rm --force" in readme
    for name, text in wide.items():
        if name.endswith(".sh"):
            started = text.replace("\\\n", " ").splitlines()
            calls = [line for line in started if line.startswith("docker run")]
            assert calls and all("--label aiconf=qwen3-32b-fp8 " in call for call in calls)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_scripts_name_engine_files_where_they_are_used(backend):
    text = contents(build(plan(backend)))["launch_node_0.sh"]
    assert ("engine files" in text) == ("engine_worker.yaml" in text) == (backend == "trtllm")


def test_the_request_has_the_targets():
    for targets, wanted in (
        (Sla(), None),
        (Sla(ttft=0.6), {"ttft": 600.0}),
        (Sla(0.6, 0.025, 9.0), {"ttft": 600.0, "itl": 25.0}),
        (Sla(latency=9.0), {"e2eLatency": 9000.0}),
    ):
        deployment = build(plan(), Options(targets=targets))
        document = deployment_request(deployment)
        assert document["spec"].get("sla") == wanted
        assert ("Add spec.sla" in contents(deployment)["request.yaml"]) == (wanted is None)
    schema = crd_schema("1.5", "dynamographdeploymentrequests")["v1beta1"]
    assert problems(document, schema) == []


def test_attention_ranks_over_nodes(tmp_path):
    write_deployment(plan("vllm", worker("agg", "tp2dp8ep16", replicas=1)), tmp_path / "out")
    calls = run_scripts(tmp_path / "out", tmp_path, 2)
    starts = [
        call[call.index("--data-parallel-start-rank") + 1]
        for found in calls.values()
        for call in found
        if "--data-parallel-start-rank" in call
    ]
    assert starts == ["0", "4"]


def test_hostile_words_stay_single_arguments(tmp_path):
    """Nothing that a user gave is run by a shell, wherever it is written."""
    model = replace(DENSE, name=HOSTILE, checkpoint=HOSTILE)
    for backend in ("vllm", "sglang", "trtllm"):
        folder = tmp_path / backend
        folder.mkdir()
        one = plan(backend, worker("agg", "tp2"), model=model)
        write_deployment(one, folder / "out")
        for path in (folder / "out").glob("*.yaml"):
            list(yaml.safe_load_all(path.read_text()))
        calls = run_scripts(folder / "out", folder, 1)
        started = calls["launch_node_0.sh"][-1]
        assert HOSTILE in started
        assert not list(folder.rglob("owned"))
        job = yaml.safe_load((folder / "out" / "benchmark.yaml").read_text())
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert HOSTILE not in container["command"][2]
        assert HOSTILE.replace("$(", "$$(") in container["args"]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "$(touch owned); `x` ' \""},
        {"image": 'repo/"x":1.6.1; touch owned'},
        {"image": "repo/x:1.6.1\ny"},
        {"image": "repo/x:1.5.1"},
        {"image": "Repo/x:1.6.1"},
        {"image": "repo/sglang-runtime:1.6.1"},
        {"token_secret": "x'; touch owned"},
        {"model_cache": "$(touch owned)"},
        {"rdma_resource": "rdma/ib: {a: b}"},
        {"router": "kv; x"},
        {"dynamo": "1.6.1; x"},
        {"disk_cache_gb": 5.0},
        {"host_cache_gb": float("nan")},
    ],
)
def test_hostile_options_are_corrected_or_refused_in_one_line(options, tmp_path):
    try:
        deployment = build(plan(), Options(**options))
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert list(options) == ["name"]
    assert deployment.name == "touch-owned-x"
    write_deployment(plan(), tmp_path / "out", options=Options(**options))
    run_scripts(tmp_path / "out", tmp_path, 1)
    assert not list(tmp_path.rglob("owned"))


def test_an_own_image_is_used_everywhere(tmp_path):
    own = "registry.local:5000/team/vllm:1.6.1"
    texts = contents(build(plan(), Options(image=own, model_cache="w")))
    for name in ("deploy.yaml", "launch_node_0.sh", "model-cache.yaml"):
        assert own in texts[name] and "vllm-runtime" not in texts[name]


def test_scripts_that_cannot_be_written_are_explained():
    wide = build(plan("trtllm", worker("agg", "tp16")))
    assert docker.why_not(wide) and llmd.why_not(wide)
    files = contents(wide)
    assert not any(name.startswith("launch") or name.startswith("llm-d") for name in files)
    assert "MPI launcher" in files["README.md"] and "starts vLLM, not trtllm" in files["README.md"]


def test_llm_d_workers_are_the_same_workers():
    sides = worker("prefill", "tp2", system=H200), worker("decode", "tp4", system=GB200)
    deployment = build(plan("vllm", *sides))
    found = llmd.values(deployment)
    assert found["routing"]["proxy"]["enabled"] is True
    for part in deployment.parts:
        side = found[part.component]
        assert side["replicas"] == part.worker.replicas
        assert side["acceleratorTypes"]["labelValues"]
        container = side["containers"][0]
        args = container["args"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == str(part.nodes.gpus_per_pod)
        for setting in part.launch.engine:
            if setting.flag not in ("model", "served-model-name"):
                assert f"--{setting.flag}" in args
        assert not any("disaggregation-mode" in word for word in args)
    ports = [found[side]["containers"][0]["args"][2] for side in ("prefill", "decode")]
    assert ports == ["8000", "8200"]
    alone = llmd.values(build(plan()))
    assert alone["prefill"] == {"create": False, "replicas": 0}
    assert alone["routing"]["proxy"]["enabled"] is False
