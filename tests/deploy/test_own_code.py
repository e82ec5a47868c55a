"""Models that bring their own code: what is written for them, and what is said of manifests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from deploy_plans import DENSE, plan, worker
from manifests import config_map, found, graph, main

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.rules import alone
from aiconf.deploy.rules.of_plan import stated
from aiconf.deploy.validate.check import problems
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.versions import releases
from aiconf.deploy.write import contents
from aiconf.model import load_model

BACKENDS = ("vllm", "sglang", "trtllm")
FLAG, TOKENIZER = "--trust-remote-code", "--tokenizer-trust-remote-code"
KIMI = "moonshotai/Kimi-K2-Instruct"
WHY = "Python code of the checkpoint's repository"


def coded(backend, *workers):
    return plan(backend, *workers, model=replace(DENSE, own_code=True))


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def worker_args(files):
    (dgd,) = [d for d in documents(files["deploy.yaml"]) if d["kind"] != "ConfigMap"]
    components = [c for c in dgd["spec"]["components"] if c["type"] != "frontend"]
    return [c["podTemplate"]["spec"]["containers"][0]["args"] for c in components]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_written(backend):
    disaggregated = (worker("prefill"), worker("decode"))
    for workers in ((worker(),), disaggregated):
        files = contents(build(coded(backend, *workers)))
        engines = [yaml.safe_load(t) for n, t in files.items() if n.startswith("engine_")]
        for args in worker_args(files):
            assert args.count(FLAG) == (backend != "trtllm")
        key = "trust_remote_code" if backend == "trtllm" else "trust-remote-code"
        assert [engine[key] for engine in engines] == [True] * len(workers)
        (job,) = documents(files["benchmark.yaml"])
        assert TOKENIZER in job["spec"]["template"]["spec"]["containers"][0]["args"]
        script = files["launch_node_0.sh"]
        started = sum(one.replicas for one in workers)
        assert script.count(f" {FLAG} ") == (started if backend != "trtllm" else 0)
        assert WHY in script and WHY in files["benchmark.yaml"] and WHY in files["deploy.yaml"]
        assert all(WHY in text for name, text in files.items() if name.startswith("engine_"))
        if backend == "vllm":
            values = yaml.safe_load(files["llm-d-values.yaml"])
            assert FLAG in values["decode"]["containers"][0]["args"]
            assert WHY in files["llm-d-values.yaml"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_changes_for_other_models(backend):
    for text in contents(build(plan(backend))).values():
        assert "trust" not in text and WHY not in text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_note_asks_to_review(backend):
    (note,) = [one for one in build(coded(backend)).notes if "Python code" in one]
    assert DENSE.checkpoint in note and "pin the revision" in note
    assert not [one for one in build(plan(backend)).notes if "Python code" in one]


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("backend", BACKENDS)
def test_validate_takes_what_is_written(backend, release):
    model = replace(load_model("Qwen3-32B"), own_code=True)
    bodies = build(plan(backend, model=model), Options(dynamo=release)).documents
    written = [Document("written", i, body) for i, body in enumerate(bodies)]
    assert [p.what for p in problems(written, release) if p.level == "error"] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rule_on_plans(backend):
    one = coded(backend)
    (part,) = build(one).parts
    facts = stated(one, part.worker, "worker", part.launch)
    assert not [f for f in alone(facts) if f.rule == "own-code"]
    (broken,) = [f for f in alone(replace(facts, trusted=False)) if f.rule == "own-code"]
    assert broken.severity == "error"


def manifest(engine, model, *words):
    made = graph(engine)
    args = main(made, 1)["args"]
    args[args.index("--model" if engine == "vllm" else "--model-path") + 1] = model
    args += words
    return made


def said(*documents):
    return [one for one in found(*documents) if "Python code in its repository" in one]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_validate_asks_for_the_flag(engine):
    (problem,) = said(manifest(engine, KIMI))
    assert problem.startswith("error") and KIMI in problem
    assert not said(manifest(engine, KIMI, FLAG))
    assert not said(manifest(engine, KIMI, "$(EXTRA)"))
    assert not said(manifest(engine, "Qwen/Qwen3-32B"))
    assert not said(manifest(engine, "deepseek-ai/DeepSeek-V3"))
    (problem,) = said(manifest(engine, "/models/Kimi-K2-Instruct"))
    assert problem.startswith("warning")


def test_validate_asks_for_the_field_of_tensorrt_llm():
    without = "tensor_parallel_size: 4\n"
    (problem,) = said(manifest("trtllm", KIMI), config_map(without))
    assert problem.startswith("error")
    assert not said(manifest("trtllm", KIMI), config_map(f"{without}trust_remote_code: true\n"))
    (problem,) = said(manifest("trtllm", KIMI), config_map(f"{without}trust_remote_code: false\n"))
    assert not said(manifest("trtllm", KIMI, "--trtllm.trust_remote_code", "true"),
                    config_map(without))  # fmt: skip
