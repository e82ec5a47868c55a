"""The documents: accepted by Dynamo's schema, right in their arithmetic, flags that exist."""

from __future__ import annotations

import copy
import json
import random
import re
from dataclasses import replace

import pytest
import yaml
from crd_check import problems
from deploy_plans import DENSE, GB200, MOE, many_plans, plan, worker

from aiconf.deploy.dgd import Options, build, deployment_name
from aiconf.deploy.validate.check import problems as validated
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.versions import releases
from aiconf.deploy.write import manifest
from aiconf.errors import UserError

PLANS = many_plans()
# Flags of Dynamo's own wrappers (ai-dynamo 1.6.1, dynamo/vllm and dynamo/trtllm backend_args.py).
WRAPPER = {
    "vllm": {"--disaggregation-mode"},
    "sglang": set(),
    "trtllm": {
        "--model",
        "--served-model-name",
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--expert-parallel-size",
        "--enable-attention-dp",
        "--kv-block-size",
        "--max-batch-size",
        "--max-num-tokens",
        "--max-seq-len",
        "--extra-engine-args",
        "--disaggregation-mode",
    },
}


def _documents(deployment):
    return list(yaml.safe_load_all(manifest(deployment)))


def _graph(deployment):
    return _documents(deployment)[-1]


def _args(component):
    return component["podTemplate"]["spec"]["containers"][0].get("args", [])


def _flags(words):
    flags, name = {}, None
    for word in words:
        if word.startswith("--"):
            name = word
            flags[name] = []
        else:
            flags[name].append(word)
    return flags


def _ids(one):
    layouts = "-".join(f"{w.role}{w.parallel}" for w in one.workers)
    return f"{one.backend}-{layouts}"


def test_accepted_by_the_schema(graph_schema):
    for one in PLANS:
        for options in (Options(), Options(model_cache="cache", rdma_resource="rdma/ib")):
            assert problems(_graph(build(one, options)), graph_schema) == [], _ids(one)


def test_checker_refuses_mutants(graph_schema):
    document = _graph(build(PLANS[-1]))
    assert not problems(document, graph_schema)
    mutants = {
        "unknown": lambda d: d["spec"].update(services={}),
        "type": lambda d: d["spec"]["components"][0].update(type="engine"),
        "replicas": lambda d: d["spec"]["components"][0].update(replicas="2"),
        "framework": lambda d: d["spec"].update(backendFramework="tgi"),
        "nodes": lambda d: d["spec"]["components"][1].update(multinode={"nodeCount": 1}),
        "name": lambda d: d["spec"]["components"][1].update(name="a_b"),
        "twice": lambda d: d["spec"]["components"].append(d["spec"]["components"][0]),
    }
    for name, change in mutants.items():
        mutant = copy.deepcopy(document)
        change(mutant)
        assert problems(mutant, graph_schema), name


@pytest.mark.parametrize("one", PLANS, ids=_ids)
def test_gpus_per_pod_times_nodes(one):
    graph = _graph(build(one))
    assert graph["spec"]["components"][0]["type"] == "frontend"
    for each, component in zip(one.workers, graph["spec"]["components"][1:], strict=True):
        nodes = component.get("multinode", {}).get("nodeCount", 1)
        container = component["podTemplate"]["spec"]["containers"][0]
        per_pod = int(container["resources"]["limits"]["nvidia.com/gpu"])
        assert nodes * per_pod == each.parallel.gpus
        assert per_pod <= each.system.gpus_per_node
        assert nodes == -(-each.parallel.gpus // each.system.gpus_per_node)
        assert component["replicas"] == each.replicas
        length = len(graph["metadata"]["name"]) + len(component["name"])
        assert length + (4 if nodes > 1 else 0) <= 45
        claims = component["podTemplate"]["spec"].get("resourceClaims")
        assert bool(claims) == (nodes > 1 and each.system is GB200)


def _check_values(flag, values, action):
    is_switch = action.get("nargs") == "0" or action["default"] in ("False", "True")
    if is_switch:
        assert values == [], flag
    elif action.get("nargs") == "+" or flag == "--cuda-graph-bs-decode":
        assert values, flag
    else:
        assert len(values) == 1, flag
    if action.get("type") in ("int", "human_readable_int"):
        assert all(int(value) > 0 for value in values), flag
    if action["choices"]:
        assert set(values) <= set(map(str, action["choices"])), flag


@pytest.mark.parametrize("one", [p for p in PLANS if p.backend != "trtllm"], ids=_ids)
def test_flags_exist_in_the_engine(one, engine_flags):
    known = engine_flags[one.backend]
    for component in _graph(build(one))["spec"]["components"][1:]:
        for flag, values in _flags(_args(component)).items():
            if flag in WRAPPER[one.backend]:
                continue
            assert flag in known, flag
            _check_values(flag, values, known[flag])


@pytest.mark.parametrize("one", [p for p in PLANS if p.backend == "trtllm"], ids=_ids)
def test_engine_file_fields_exist(one, llm_args):
    def check(value, wanted, path):
        if isinstance(wanted, dict):
            for key, item in (value or {}).items():
                assert key in wanted, f"{path}.{key}"
                check(item, wanted[key], f"{path}.{key}")
        elif isinstance(wanted, list):
            assert value in wanted, path
        else:
            kinds = {"bool": bool, "int": int, "float": (int, float), "list": list, "str": str}
            assert isinstance(value, kinds[re.match(r"[a-z]+", wanted)[0]]), path

    deployment = build(one)
    files = next(d for d in _documents(deployment) if d["kind"] == "ConfigMap")["data"]
    mounted = set()
    for component in _graph(deployment)["spec"]["components"][1:]:
        flags = _flags(_args(component))
        assert set(flags) <= WRAPPER["trtllm"]
        path = flags["--extra-engine-args"][0]
        mounted.add(path.rpartition("/")[2])
        engine = yaml.safe_load(files[path.rpartition("/")[2]])
        check(engine, llm_args, "")
        assert flags["--tensor-parallel-size"] == [str(engine["tensor_parallel_size"])]
        for size in ("max_batch_size", "max_num_tokens", "max_seq_len"):
            assert flags[f"--{size.replace('_', '-')}"] == [str(engine[size])]
        block = engine["kv_cache_config"]["tokens_per_block"]
        assert flags["--kv-block-size"] == [str(block)]
        assert engine["disable_overlap_scheduler"] == (component["type"] == "prefill")
    assert mounted == set(files)


@pytest.mark.parametrize("one", PLANS, ids=_ids)
def test_engine_sizes_mean_what_the_plan_says(one):
    deployment = build(one)
    for part in deployment.parts:
        each, layout = part.worker, part.worker.parallel
        flags = _flags([w for s in part.launch.settings for w in s.arguments()])
        config = part.launch.config
        if one.backend == "vllm":
            ranks = int(flags["--data-parallel-size"][0])
            gpus = ranks * int(flags["--tensor-parallel-size"][0])
            gpus *= int(flags["--pipeline-parallel-size"][0])
            sequences = int(flags["--max-num-seqs"][0]) * ranks
            budget = int(flags["--max-num-batched-tokens"][0])
        elif one.backend == "sglang":
            ranks = int(flags.get("--dp-size", ["1"])[0])
            tp = int(flags["--tp-size"][0])
            assert tp % ranks == 0 and tp % int(flags.get("--ep-size", ["1"])[0]) == 0
            gpus = tp * int(flags["--pp-size"][0])
            sequences = int(flags["--max-running-requests"][0])
            budget = int(flags["--chunked-prefill-size"][0]) // ranks
            assert budget % each.kv_block_size == 0
            assert ("--enable-dp-attention" in flags) == (ranks > 1)
        else:
            gpus = config["tensor_parallel_size"] * config["pipeline_parallel_size"]
            ranks = config["tensor_parallel_size"] if config["enable_attention_dp"] else 1
            sequences = config["max_batch_size"] * ranks * layout.pp
            sizes = (config["cuda_graph_config"] or {}).get("batch_sizes", [0])
            assert max(sizes) in (0, config["max_batch_size"])
            budget = config["max_num_tokens"]
        assert (gpus, ranks) == (layout.gpus, layout.dp)
        assert sequences == each.max_sequences
        assert budget == each.token_budget


def test_vllm_budget_holds_every_sequence():
    deployment = build(plan("vllm", worker(token_budget=2048, max_sequences=4096)))
    settings = {s.flag: s.value for s in deployment.parts[0].launch.engine}
    assert settings["max-num-batched-tokens"] == settings["max-num-seqs"] == 4096


def test_vllm_engine_identity_over_nodes():
    """All nodes of one engine share an identity, and no two replicas do."""
    deployment = build(
        plan("vllm", worker("prefill", "tp16"), worker("decode", "tp16", replicas=1))
    )
    configs = []
    for component in _graph(deployment)["spec"]["components"][1:]:
        configs.append(json.loads(_flags(_args(component))["--kv-transfer-config"][0]))
    assert [c["kv_role"] for c in configs] == ["kv_producer", "kv_consumer"]
    assert "$(GROVE_PCSG_INDEX)" in configs[0]["engine_id"]
    assert configs[1]["engine_id"] == f"{deployment.name}-decode"
    single = build(plan("vllm", worker("prefill"), worker("decode")))
    assert "engine_id" not in manifest(single)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (plan("vllm", worker(layout="dp8ep4")), "ep 1 or ep 8"),
        (plan("vllm", worker(layout="tp16dp2ep32")), "tp x pp"),
        (plan("trtllm", worker(layout="tp2dp4ep8")), "tp1dp8"),
        (
            plan(
                "trtllm",
                worker(kv_dtype="bf16"),
                model=replace(DENSE, quantization=replace(DENSE.quantization, kv="fp8")),
            ),
            "kv dtype fp8",
        ),
        (plan("sglang", worker(layout="tp9")), "multiple of 8"),
        (plan("vllm", worker("prefill")), "one prefill and one decode"),
        (plan("vllm", worker("prefill"), worker("decode", kv_block_size=16)), "KV block size"),
        (plan("vllms", worker()), "did you mean vllm"),
        (plan("vllm", worker(layout="tp16"), model=replace(DENSE, checkpoint="a b/c")), "shell"),
        (plan("vllm", worker(), model=replace(DENSE, checkpoint="--help")), "--help"),
        (plan("vllm", worker(), model=replace(DENSE, checkpoint="a\nb")), "cannot be passed"),
    ],
)
def test_impossible_plans_are_refused_in_one_line(one, words):
    with pytest.raises(UserError) as caught:
        build(one)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"token_secret": "a; rm -rf /"},
        {"model_cache": "$(id)"},
        {"rdma_resource": "rdma"},
        {"image": "repo/name:latest"},
        {"dynamo": "9.9.9"},
    ],
)
def test_hostile_or_unknown_options_are_refused(options):
    with pytest.raises(UserError) as caught:
        build(plan(), Options(**options))
    assert "\n" not in str(caught.value)


def test_names_are_corrected_and_said():
    deployment = build(plan(), Options(name="My Model_v2!" + "x" * 60))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", deployment.name)
    assert any("corrected" in note for note in deployment.notes)
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(draw.choice("aZ9-_./ é$`\n") for _ in range(draw.randrange(80)))
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", deployment_name(text))


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("apart", [False, True])
def test_long_names_pass_our_own_checks(release, apart):
    """Over several nodes Grove counts a component's name twice: the longest name that is left."""
    roles = ("prefill", "decode") if apart else ("agg",)
    wide = plan("vllm", *(worker(role, "tp8pp2") for role in roles))
    deployment = build(wide, Options(dynamo=release, name="a" * 60))
    longest = max(len(part.component) for part in deployment.parts)
    assert len(deployment.name) + 2 * longest + len("-ldr") <= 45
    documents = [Document("file", i, body) for i, body in enumerate(deployment.documents)]
    assert validated(documents, release) == []


def test_hostile_model_path_stays_one_argument():
    path = "/models/$(HOME) `id` \"x\" 'y' # {{ 1 }}: *a"
    deployment = build(plan("vllm", worker(), model=replace(DENSE, checkpoint=path)))
    args = _args(_graph(deployment)["spec"]["components"][1])
    assert args[args.index("--model") + 1] == path.replace("$(", "$$(")


def test_experts_only_for_mixtures():
    for backend, word in (("vllm", "expert"), ("sglang", "ep-size"), ("trtllm", "expert")):
        assert word not in manifest(build(plan(backend, worker())))
        assert word in manifest(build(plan(backend, worker(), model=MOE)))
