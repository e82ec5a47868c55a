"""Every combination that can be deployed, in four Dynamo releases: documents that are accepted."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
from crd_check import problems
from deploy_plans import DENSE, GB200, H200, plan, worker
from deploy_reference import REFERENCE, crd_schema

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.planner import planner
from aiconf.deploy.validate.check import problems as validated
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.versions import releases
from aiconf.deploy.write import manifest
from aiconf.engine.platform import platform
from aiconf.errors import UserError
from aiconf.model.library import checkpoints
from aiconf.workload import Sla

BACKENDS = ("vllm", "sglang", "trtllm")
RELEASES = ("1.0.2", "1.2.1", "1.4.0", "1.6.1")
# The definitions at hand that hold for a release: that of the release or the next one known.
CRDS = {"1.0.2": "1.0.2", "1.2.1": "1.2.0", "1.4.0": "1.4.0", "1.6.1": "1.5"}
# Model and its layouts: inside a node, over several nodes.
MODELS = {
    "Qwen3-0.6B": ("tp1", "tp1pp16"),
    "QWEN3_32B": ("tp2", "tp8pp2"),
    "Llama-3.1-70B": ("tp4", "tp8pp2"),
    "gpt-oss-120b": ("tp2", "dp16ep16"),
    "Qwen3-235B-A22B": ("dp8ep8", "dp16ep16"),
    "DeepSeek-R1": ("dp8ep8", "dp16ep16"),
}
CASES = list(product(BACKENDS, (False, True), (False, True), ("round-robin", "kv"), MODELS))


@cache
def checkpoint(name):
    return checkpoints(name)[0]


def planned(backend, apart, several, model):
    spec = checkpoint(model)
    layout = MODELS[model][several]
    layout = layout if layout.startswith("tp") else f"tp1{layout}"
    common = {
        "layout": layout,
        "max_sequences": 32,
        "kv_dtype": spec.quantization.kv,
        "max_model_len": 5008,
    }
    if not apart:
        return plan(backend, worker("agg", **common), model=spec)
    return plan(backend, worker("prefill", **common), worker("decode", **common), model=spec)


def graph_of(deployment):
    return deployment.graph.document()


@cache
def combinations(release):
    """3 backends x 2 modes x 2 sizes x 2 routers x 6 models, in one release."""
    return [
        build(planned(backend, apart, several, model), Options(dynamo=release, router=router))
        for backend, apart, several, router, model in CASES
    ]


@cache
def scaled(backend, apart, several, model, release):
    """Return the planner of a plan, with the profile that it starts from."""
    one = planned(backend, apart, several, model)
    place = platform("h200_sxm", backend)
    places = {worker.role: place for worker in one.workers}
    return planner(one, places, Sla(2.0, 0.03), 64, release)


@cache
def with_planner(release):
    """The same combinations, each with the SLA planner."""
    return [
        build(
            planned(backend, apart, several, model),
            Options(dynamo=release, router=router),
            scaled(backend, apart, several, model, release),
        )
        for backend, apart, several, router, model in CASES
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_every_combination_with_a_planner_is_clean(release):
    for case, deployment in zip(CASES, with_planner(release), strict=True):
        documents = [Document("file", i, body) for i, body in enumerate(deployment.documents)]
        assert validated(documents, release) == [], case
        kept = [one for one in documents if "planner_config.json" in one.body.get("data", {})]
        assert len(kept) == 1, case


@pytest.mark.parametrize("release", RELEASES)
def test_every_combination_with_a_planner_is_accepted(release):
    schema = crd_schema(CRDS[release])
    for case, deployment in zip(CASES, with_planner(release), strict=True):
        document = graph_of(deployment)
        assert problems(document, schema[document["apiVersion"].rpartition("/")[2]]) == [], case
        assert "planner" in str(document), case


@pytest.mark.parametrize("release", releases())
def test_every_combination_is_clean(release):
    """Our own manifests pass our own checks, as the operator of the same release would run them."""
    for case, deployment in zip(CASES, combinations(release), strict=True):
        documents = [Document("file", i, body) for i, body in enumerate(deployment.documents)]
        assert validated(documents, release) == [], case


@pytest.mark.parametrize("release", RELEASES)
def test_every_combination_has_the_api_of_its_release(release):
    for case, deployment in zip(CASES, combinations(release), strict=True):
        document = graph_of(deployment)
        api = "v1alpha1" if release < "1.2" else "v1beta1"
        assert document["apiVersion"] == f"nvidia.com/{api}"
        multinode = str(document).count("nodeCount")
        several = case[2]
        assert multinode == (len(deployment.parts) if several else 0), case


@pytest.mark.parametrize("release", RELEASES)
def test_every_combination_is_accepted(release):
    """By the definitions of Dynamo; skipped where they are not at hand."""
    schema = crd_schema(CRDS[release])
    for case, deployment in zip(CASES, combinations(release), strict=True):
        document = graph_of(deployment)
        assert problems(document, schema[document["apiVersion"].rpartition("/")[2]]) == [], case


def test_manifest_text_says_what_the_document_says():
    import yaml

    for backend, apart, several, router, model in CASES[::7]:
        for release in ("1.0.2", "1.6.1"):
            deployment = build(
                planned(backend, apart, several, model), Options(dynamo=release, router=router)
            )
            read = list(yaml.safe_load_all(manifest(deployment)))
            assert read == deployment.documents


def _containers(document):
    """Main containers by component, with resources and environment of either API."""
    found = {}
    spec = document["spec"]
    for component in spec.get("components", ()):
        main = component["podTemplate"]["spec"]["containers"][0]
        env = {one["name"]: one["value"] for one in main.get("env", ())}
        limits = main.get("resources", {}).get("limits", {})
        found[component["name"]] = (main, env, limits.get("nvidia.com/gpu"))
    for name, service in spec.get("services", {}).items():
        env = {one["name"]: one["value"] for one in service.get("envs", ())}
        gpus = service.get("resources", {}).get("limits", {}).get("gpu")
        found[name] = (service["extraPodSpec"]["mainContainer"], env, gpus)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("release", ["1.0.2", "1.6.1"])
def test_both_apis_say_the_same(backend, release):
    one = planned(backend, True, True, "QWEN3_32B")
    options = Options(router="kv", model_cache="weights", rdma_resource="rdma/ib")
    old = _containers(graph_of(build(one, replace(options, dynamo="1.1"))))
    new = _containers(graph_of(build(one, replace(options, dynamo="1.2"))))
    assert list(old) == list(new) == ["frontend", "prefill", "decode"]
    for name in new:
        (before, env, gpus), (after, env_after, gpus_after) = old[name], new[name]
        assert (env, gpus) == (env_after, gpus_after)
        assert before.get("volumeMounts") == after.get("volumeMounts")
        assert before.get("command") == after.get("command")
    assert old["frontend"][1] == {"DYN_ROUTER_MODE": "kv", "HF_HOME": "/model-cache"}


EVENTS = {"vllm": "--kv-events-config", "sglang": "--kv-events-config", "trtllm": "kv-events"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_events_come_from_the_workers_that_are_chosen(backend):
    options = Options(router="kv")
    apart = _containers(graph_of(build(planned(backend, True, False, "QWEN3_32B"), options)))
    together = _containers(graph_of(build(planned(backend, False, False, "QWEN3_32B"), options)))
    assert EVENTS[backend] in str(apart["prefill"][0]["args"])
    assert EVENTS[backend] not in str(apart["decode"][0]["args"])
    assert EVENTS[backend] in str(together["worker"][0]["args"])
    plain = graph_of(build(planned(backend, True, False, "QWEN3_32B")))
    assert EVENTS[backend] not in str(plain) and "DYN_ROUTER_MODE" not in str(plain)


def test_older_releases_get_their_own_words():
    def words(backend, release, **options):
        apart = planned(backend, True, False, "QWEN3_32B")
        found = _containers(graph_of(build(apart, Options(dynamo=release, **options))))
        return found["prefill"][0]["args"], found["decode"][0]["args"]

    prefill, decode = words("sglang", "1.2.1")
    assert "--disable-cuda-graph" in prefill and "--cuda-graph-backend-decode" not in prefill
    assert "--cuda-graph-bs" in decode and "--cuda-graph-max-bs" in decode
    prefill, decode = words("sglang", "1.3.1")
    assert prefill[prefill.index("--cuda-graph-backend-decode") + 1] == "disabled"
    assert "--cuda-graph-bs-decode" in decode and "--cuda-graph-bs" not in decode
    assert "--publish-events-and-metrics" in words("trtllm", "1.2.1", router="kv")[0]
    assert "--publish-kv-events" in words("trtllm", "1.3.1", router="kv")[0]
    assert '"kv_role":"kv_both"' in str(words("vllm", "1.5.1")[0])
    assert '"kv_role":"kv_producer"' in str(words("vllm", "1.6.1")[0])


@pytest.mark.parametrize("release", ["1.0.2", "1.6.1"])
def test_orchestrator_of_several_nodes(release):
    several, single = (planned("vllm", False, wide, "QWEN3_32B") for wide in (True, False))
    lws = Options(dynamo=release, orchestrator="lws")

    def told(one, options):
        return graph_of(build(one, options))["metadata"]["annotations"].get(grove)

    grove = "nvidia.com/enable-grove"
    assert told(several, lws) == "false"
    assert told(single, lws) is None
    assert told(several, Options(dynamo=release)) is None


def test_each_side_on_its_own_gpus():
    """Other systems per side: pods are bound to nodes of theirs, and the comment says so."""
    sides = (
        worker("prefill", "tp2", system=H200),
        worker("decode", "tp4", system=GB200),
    )
    for release in ("1.0.2", "1.6.1"):
        deployment = build(plan("vllm", *sides), Options(dynamo=release))
        text = manifest(deployment)
        assert "NVIDIA-H200" in text and "NVIDIA-GB200" in text
        assert "# only nodes of h200_sxm" in text
        if (REFERENCE / "crds").exists():  # the rest of the test needs none
            schemas = crd_schema(CRDS[release])
            document = graph_of(deployment)
            assert problems(document, schemas[document["apiVersion"][11:]]) == []
    assert "affinity" not in manifest(build(plan("vllm", worker("prefill"), worker("decode"))))


def drafting(backend, drafts, model=""):
    one = plan(backend, worker("agg", "tp2"), model=replace(DENSE, mtp_layers=1))
    return replace(one, drafts=drafts, draft_model=model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_speculative_decoding(backend):
    def settings(one):
        (part,) = build(one).parts
        return {s.flag: s.value for s in part.launch.settings}, part.launch.config

    own, own_file = settings(drafting(backend, 2))
    other, other_file = settings(drafting(backend, 3, "org/eagle3"))
    none, none_file = settings(drafting(backend, 0))
    if backend == "vllm":
        assert own["speculative-config"] == {"method": "mtp", "num_speculative_tokens": 2}
        assert other["speculative-config"]["model"] == "org/eagle3"
    elif backend == "sglang":
        assert (own["speculative-algorithm"], own["speculative-num-draft-tokens"]) == ("NEXTN", 3)
        assert other["speculative-draft-model-path"] == "org/eagle3"
        assert other["speculative-num-steps"] == 3
    else:
        wanted = {"decoding_type": "MTP", "num_nextn_predict_layers": 2}
        assert own_file["speculative_config"] == wanted
        assert other_file["speculative_config"]["max_draft_len"] == 3
    assert not any("speculative" in word for word in {*none, *none_file})


def test_what_a_release_cannot_do_is_said_in_one_line():
    for one, options, words in (
        (drafting("trtllm", 3, "org/eagle3"), Options(dynamo="1.3.1"), "use Dynamo 1.6.1"),
        (replace(drafting("vllm", 3), model=DENSE), Options(), "name a draft model"),
        (
            plan("vllm", worker("agg", "tp2dp4ep8", moe_backend="triton")),
            Options(dynamo="1.0"),
            "use Dynamo 1.6.1, 1.5.1, 1.4.0, 1.3.1, 1.2.1, 1.1.1",
        ),
        (plan("sglang"), Options(host_cache_gb=9, disk_cache_gb=9), "vllm and trtllm can"),
        (plan(), Options(dynamo="0.9"), "known: 1.6.1"),
    ):
        with pytest.raises(UserError) as caught:
            build(one, options)
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("apart", [False, True])
def test_further_tiers_of_cache(backend, apart):
    options = Options(host_cache_gb=120, disk_cache_gb=None if backend == "sglang" else 500)
    found = _containers(graph_of(build(planned(backend, apart, False, "QWEN3_32B"), options)))
    first = found["prefill" if apart else "worker"]
    words = " ".join(first[0]["args"])
    if backend == "sglang":
        assert "--enable-hierarchical-cache --hicache-size 60" in words  # two GPUs per pod
    else:
        sizes = {"DYN_KVBM_CPU_CACHE_GB": "120", "DYN_KVBM_DISK_CACHE_GB": "500"}
        assert first[1] == sizes
        assert ("DynamoConnector" if backend == "vllm" else "--connector kvbm") in words
        assert ("PdConnector" in words) == (backend == "vllm" and apart)
    assert "no-enable-prefix-caching" not in words and "disable-radix-cache" not in words
    if apart:
        decode = found["decode"]
        assert not decode[1]
        assert not re.search("DynamoConnector|kvbm|hicache", str(decode[0]))
