"""Manifests as people write them: v1alpha1 and v1beta1, shell strings, engine files, defaults."""

from __future__ import annotations

import textwrap

import pytest
import yaml

from aiconf.deploy.read.flags import Flags, parsed
from aiconf.errors import UserError
from aiconf.manifests import estimate_manifest, read_manifest

IMAGE = "nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.3.0"


def beta(*components, name="served", maps=()):
    """Return a v1beta1 graph of (name, type, args[, changes of the component or container])."""
    built = []
    for one, kind, args, *rest in components:
        changes = dict(rest[0]) if rest else {}
        container = {
            "name": "main", "image": IMAGE,
            "resources": {"limits": {"nvidia.com/gpu": str(changes.pop("gpus", 1))}},
        }  # fmt: skip
        if args is not None:
            container |= {"command": ["python3", "-m", changes.pop("module", "dynamo.vllm")],
                          "args": args.split() if isinstance(args, str) else args}  # fmt: skip
        container |= changes.pop("container", {})
        pod = {"containers": [container], **changes.pop("pod", {})}
        built.append({"name": one, "type": kind, "replicas": 1, "podTemplate": {"spec": pod}}
                     | changes)  # fmt: skip
    graph = {
        "apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment",
        "metadata": {"name": name}, "spec": {"components": built},
    }  # fmt: skip
    config = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}, "data": data}
        for key, data in maps
    ]
    return yaml.safe_dump_all([*config, graph])


def read(tmp_path, text, isl=1000, osl=100, system="h200_sxm", **options):
    path = tmp_path / "deploy.yaml"
    path.write_text(text)
    return read_manifest(path, isl, osl, system=system, **options)


def only(tmp_path, args, **options):
    (found,) = read(tmp_path, beta(("w", "worker", args)), **options).plan.workers
    return found


def test_nothing_set_is_the_engines_default(tmp_path):
    found = only(tmp_path, "--model Qwen/Qwen3-8B")
    assert (found.max_sequences, found.token_budget) == (1024, 8192)
    assert (found.kv_dtype, found.kv_block_size, found.memory_fraction) == ("bf16", 16, 0.92)
    assert found.max_model_len == 40960
    assert found.graph_sizes[-1] == 512
    assert found.prefix_caching
    assert str(found.parallel) == "tp1pp1dp1ep1"


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        ("--max-num-seqs=64", "max_sequences", 64),
        ("--max_num_seqs 64", "max_sequences", 64),
        ("--max-num-batched-tokens 4k", "token_budget", 4000),
        ("--max-num-batched-tokens 4K", "token_budget", 4096),
        ("--no-enable-prefix-caching", "prefix_caching", False),
        ("--gpu-memory-utilization 0.5", "memory_fraction", 0.5),
        ("--enforce-eager", "graph_sizes", ()),
        ('--compilation-config {"cudagraph_mode":"NONE"}', "graph_sizes", ()),
        ('--compilation-config {"cudagraph_capture_sizes":[4,1]}', "graph_sizes", (1, 4)),
        ("--compilation-config.cudagraph_capture_sizes [1,2]", "graph_sizes", (1, 2)),
        ("--max-cudagraph-capture-size 8", "graph_sizes", (1, 2, 4, 8)),
        ("--kv-cache-dtype fp8_e4m3", "kv_dtype", "fp8"),
        ("--data-parallel-size 4", "replicas", 4),
    ],
)
def test_what_vllm_is_told(tmp_path, args, field, value):
    found = only(tmp_path, f"--model Qwen/Qwen3-8B {args}")
    assert getattr(found, field) == value


def test_ranks_of_a_mixture_share_experts_and_count_their_own_sequences(tmp_path):
    found = only(
        tmp_path, "--model deepseek-ai/DeepSeek-R1 --data-parallel-size 16 --max-num-seqs 32 "
        "--enable-expert-parallel --all2all-backend deepep_low_latency",
    )  # fmt: skip
    assert str(found.parallel) == "tp1pp1dp16ep16"
    assert (found.max_sequences, found.exchange) == (512, "deepep_ll")


def test_old_api_with_a_shell_string(tmp_path):
    text = textwrap.dedent("""
        apiVersion: nvidia.com/v1alpha1
        kind: DynamoGraphDeployment
        metadata: {name: old}
        spec:
          envs: [{name: SIZE, value: "2"}]
          services:
            Frontend:
              componentType: frontend
              replicas: 1
              extraPodSpec:
                mainContainer:
                  image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.0.2
                  command: [/bin/sh, -c]
                  args: ["python3 -m dynamo.frontend --router-mode kv"]
            Prefill:
              componentType: worker
              subComponentType: prefill
              replicas: 3
              resources: {limits: {gpu: "2"}}
              extraPodSpec:
                mainContainer:
                  image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.0.2
                  env: [{name: MODEL, value: Qwen/Qwen3-32B-FP8}]
                  command: [/bin/bash, -lc]
                  args:
                    - |
                      set -euo pipefail
                      # the model comes from the environment
                      exec python3 -m dynamo.vllm --model "${MODEL}" \\
                        --tensor-parallel-size ${SIZE} --is-prefill-worker 2>&1 | tee log
            Decode:
              componentType: worker
              subComponentType: decode
              replicas: 1
              resources: {limits: {gpu: "4"}}
              extraPodSpec:
                mainContainer:
                  image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.0.2
                  command: [python3]
                  args: [-m, dynamo.vllm, --model, Qwen/Qwen3-32B-FP8, -tp, "4"]
    """)
    found = read(tmp_path, text)
    sides = [(w.role, w.replicas, str(w.parallel)) for w in found.plan.workers]
    assert sides == [("prefill", 3, "tp2pp1dp1ep1"), ("decode", 1, "tp4pp1dp1ep1")]
    assert (found.router, found.dynamo, found.engine) == ("kv", "1.0.2", "0.16.0")
    assert any("0.16.0" in note for note in found.notes)


def test_sglang_reads_its_own_file_under_the_command_line(tmp_path):
    file = "model-path: deepseek-ai/DeepSeek-R1\ntp-size: 8\ndp-size: 8\nep-size: 8\n" \
           "enable-dp-attention: true\nmem-fraction-static: 0.8\nmax-running-requests: 64\n" \
           "chunked-prefill-size: 8192\nkv-events-config:\n  publisher: zmq\n"  # fmt: skip
    text = beta(
        ("w", "worker", "--config /etc/s/w.yaml --mem-fraction-static 0.7", {
            "module": "dynamo.sglang", "gpus": 8,
            "pod": {"volumes": [{"name": "c", "configMap": {"name": "files"}}]},
            "container": {"volumeMounts": [{"name": "c", "mountPath": "/etc/s"}]},
        }),
        maps=[("files", {"w.yaml": file})],
    )  # fmt: skip
    found = read(tmp_path, text).plan.workers[0]
    assert str(found.parallel) == "tp1pp1dp8ep8"
    assert (found.memory_fraction, found.max_sequences, found.token_budget) == (0.7, 64, 1024)


def test_sglang_copies_are_engines_of_their_own(tmp_path):
    text = beta(("w", "worker", "--model-path Qwen/Qwen3-8B --tp 2 --dp 4",
                 {"module": "dynamo.sglang", "gpus": 8}))  # fmt: skip
    found = read(tmp_path, text).plan.workers[0]
    assert (found.replicas, str(found.parallel)) == (4, "tp2pp1dp1ep1")


def test_tensorrt_llm_file_wins_over_the_command_line(tmp_path):
    file = "tensor_parallel_size: 4\nmoe_expert_parallel_size: 4\nenable_attention_dp: true\n" \
           "max_batch_size: 128\nmax_num_tokens: 4096\nenable_chunked_prefill: true\n" \
           "kv_cache_config: {dtype: fp8, free_gpu_memory_fraction: 0.8, tokens_per_block: 64," \
           " enable_block_reuse: false}\ncuda_graph_config: null\n" \
           "moe_config: {backend: CUTLASS}\n"  # fmt: skip
    args = "--model-path openai/gpt-oss-120b --max-batch-size 8 --max-seq-len 9000 " \
           "--extra-engine-args /c/e.yaml"  # fmt: skip
    mount = {
        "module": "dynamo.trtllm", "gpus": 4,
        "pod": {"volumes": [{"name": "c", "configMap": {"name": "files"}}]},
        "container": {"volumeMounts": [{"name": "c", "mountPath": "/c"}]},
    }
    found = read(tmp_path, beta(("w", "worker", args, mount), maps=[("files", {"e.yaml": file})]))
    (one,) = found.plan.workers
    assert str(one.parallel) == "tp1pp1dp4ep4"
    assert (one.max_sequences, one.token_budget, one.max_model_len) == (512, 4096, 9000)
    assert (one.kv_dtype, one.kv_block_size, one.memory_fraction) == ("fp8", 64, 0.8)
    assert (one.graph_sizes, one.prefix_caching, one.moe_backend) == ((), False, "CUTLASS")


def test_what_is_not_modelled_is_said(tmp_path):
    args = ["--model", "Qwen/Qwen3-8B", "--enable-lora", "--kv-transfer-config",
            '{"kv_connector":"LMCacheConnectorV1"}', "--speculative-config",
            '{"method":"ngram","num_speculative_tokens":3}', "--enforce-eager"]  # fmt: skip
    text = beta(("w", "worker", args, {"container": {"env": [
        {"name": "VLLM_USE_DEEP_GEMM", "value": "1"}, {"name": "OTHER", "value": "x"},
    ]}}))  # fmt: skip
    found = read(tmp_path, text)
    note = next(note for note in found.notes if note.startswith("not modelled"))
    for word in ("enable-lora", "LMCacheConnectorV1", "ngram", "3 drafts", "without CUDA graphs",
                 "VLLM_USE_DEEP_GEMM"):  # fmt: skip
        assert word in note
    assert "OTHER" not in note
    assert found.loose["agg"]["enable-lora"] == "True"


@pytest.mark.parametrize(
    ("where", "system"),
    [
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"}}, "h200_sxm"),
        ({"nodeSelector": {"node.kubernetes.io/instance-type": "p5.48xlarge"}}, "h100_sxm"),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": "cloud.google.com/gke-accelerator", "operator": "In",
                 "values": ["nvidia-gb200"]}]}]}}}}, "gb200"),
    ],
)  # fmt: skip
def test_gpus_by_what_pods_select(tmp_path, where, system):
    text = beta(("w", "worker", "--model Qwen/Qwen3-8B", {"pod": where}))
    found = read(tmp_path, text, system=None)
    assert found.plan.workers[0].system.name == system
    assert any(system in note and "select" in note for note in found.notes)
    told = read(tmp_path, text, system="b200_sxm")
    assert told.plan.workers[0].system.name == "b200_sxm"


def test_gpus_by_name_only_when_one_is_named(tmp_path):
    worker = ("w", "worker", "--model Qwen/Qwen3-8B")
    named = read(tmp_path, beta(worker, name="chat-b200-agg"), system=None)
    assert named.plan.workers[0].system.name == "b200_sxm"
    with pytest.raises(UserError, match="give --system"):
        read(tmp_path, beta(worker, name="h100-or-h200"), system=None)
    odd = {"pod": {"nodeSelector": {"node.kubernetes.io/instance-type": "g6e.2xlarge"}}}
    with pytest.raises(UserError, match=r"g6e\.2xlarge is of no system here"):
        read(tmp_path, beta((*worker, odd)), system=None)


GOOD = ("w", "worker", "--model Qwen/Qwen3-8B")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (beta(("f", "frontend", None)), "no component runs an engine"),
        (beta(("w", "worker", None)), "the image's own command"),
        (beta(("w", "worker", "x", {"module": "dynamo.mocker"})), "dynamo.mocker"),
        (beta(("w", "worker", "--max-num-seqs 4")), "no --model"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8C")), "did you mean"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --max-num-seqs many")), "a whole number"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --max-num-seqs ${N}")), "does not say"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --gpu-memory-utilization 5")), "0 and 1"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --max-model-len 500")), "500 tokens at most"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --kv-cache-dtype nvfp4")), "nvfp4"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --disaggregation-mode encode")), "encode"),
        (beta(("w", "prefill", "--model Qwen/Qwen3-8B")), "nothing decodes"),
        (beta(GOOD, ("x", "worker", "--model Qwen/Qwen3-8B -tp 2")), "different settings"),
        (beta(GOOD, ("x", "worker", "--model-path Qwen/Qwen3-8B", {"module": "dynamo.sglang"})),
         "different engines"),
        (beta(("w", "worker", "--model Qwen/Qwen3-8B --extra-engine-args e.yaml",
               {"module": "dynamo.trtllm"})), "add the ConfigMap"),
        (beta(GOOD) + "---\n" + beta(GOOD), "holds 2 deployments"),
        ("kind: DynamoGraphDeploymentRequest\n", "states no workers"),
        ("kind: Service\n", "holds no DynamoGraphDeployment"),
        ("a: [1\n", "not YAML"),
    ],
)  # fmt: skip
def test_named_reasons(tmp_path, text, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "deploy.yaml"))
    assert "\n" not in str(caught.value)


def test_an_unknown_checkpoint_is_not_replaced_by_another(tmp_path, monkeypatch):
    """Only the precision that its own name states makes another name acceptable."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    named = "--model me/tuned --served-model-name Qwen/Qwen3-8B"
    with pytest.raises(UserError, match="me/tuned"):
        read(tmp_path, beta(("w", "worker", named)))
    path = "--model /cache/qwen3-32b-fp8-dir --served-model-name Qwen/Qwen3-32B"
    found = read(tmp_path, beta(("w", "worker", path)))
    assert found.plan.model.checkpoint == "Qwen/Qwen3-32B-FP8"
    assert any("is taken for Qwen/Qwen3-32B-FP8" in note for note in found.notes)
    cached = "--model /hub/models--Qwen--Qwen3-8B/snapshots/abc"
    assert read(tmp_path, beta(("w", "worker", cached))).plan.model.checkpoint == "Qwen/Qwen3-8B"


def test_settings_change_the_prediction(tmp_path):
    def best(args, **options):
        path = tmp_path / "deploy.yaml"
        path.write_text(beta(("w", "worker", f"--model Qwen/Qwen3-32B-FP8 {args}")))
        return estimate_manifest(path, 2000, 200, system="h200_sxm", **options).best

    full = best("")
    assert best("--max-num-seqs 16")["concurrency"] == 16
    assert best("--max-num-seqs 16", concurrency=64)["ttft_ms"] > 1000  # 48 of them wait
    assert best("--gpu-memory-utilization 0.5")["concurrency"] < full["concurrency"] / 2
    assert best("--kv-cache-dtype fp8")["concurrency"] > full["concurrency"]
    small = best("--max-num-batched-tokens 512", concurrency=8)
    large = best("--max-num-batched-tokens 16384", concurrency=8)
    assert small["ttft_ms"] != large["ttft_ms"]
    slow = best("--no-async-scheduling", concurrency=8)
    assert slow["tpot_ms"] > best("", concurrency=8)["tpot_ms"]
    half = best("-tp 2", concurrency=8)
    assert half["tpot_ms"] < best("", concurrency=8)["tpot_ms"]


def test_prefix_is_computed_where_nothing_caches_it(tmp_path):
    text = beta(("w", "worker", "--model Qwen/Qwen3-8B --no-enable-prefix-caching"))
    found = read(tmp_path, text, prefix=500)
    assert found.plan.workload.prefix == 0
    assert any("prefix caching is off" in note for note in found.notes)


def test_engine_file_with_whole_prompts(tmp_path):
    mount = {
        "module": "dynamo.trtllm",
        "pod": {"volumes": [{"name": "c", "configMap": {"name": "files"}}]},
        "container": {"volumeMounts": [{"name": "c", "mountPath": "/c"}]},
    }
    text = beta(
        ("w", "worker", "--model Qwen/Qwen3-8B --max-num-tokens 512 --extra-engine-args /c/e",
         mount),
        maps=[("files", {"e": "backend: pytorch\n"})],
    )  # fmt: skip
    with pytest.raises(UserError, match="whole prompts of at most 512"):
        read(tmp_path, text)


def test_words_of_a_command_line():
    words = ["--a", "1", "--b=2", "--c", "--d_e", "x", "y", "--f", "-1", "-g", "2", "--h.i_j", "3"]
    assert parsed(words) == {
        "a": "1", "b": "2", "c": True, "d-e": ["x", "y"], "f": "-1", "g": "2", "h.i_j": "3",
    }  # fmt: skip
    flags = Flags(parsed(["--x", "--no-y", "--z", "false", "--s", "1,2"]), "here")
    assert (flags.switch("x"), flags.switch("y"), flags.switch("z"), flags.switch("w")) == (
        True, False, False, None,
    )  # fmt: skip
    assert flags.unread() == ["s"]
    assert flags.sizes("s") == (1, 2)
    with pytest.raises(UserError, match="here: --x must be a whole number"):
        flags.whole("x")


JUNK = ("", "x", "-1", "0", "1e99", "{}", "[]", '{"a":1}', "[1,2", "null", "true", "$(id)", "nan",
        '{"method":[],"num_speculative_tokens":"x"}', '{"cudagraph_capture_sizes":["a"]}',
        '{"kv_connector":3,"kv_connector_extra_config":[]}', "'; rm -rf /", "é\u0000")  # fmt: skip


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_junk_gets_a_line_and_never_a_crash(tmp_path, backend):
    """Every flag that is read, with every kind of nonsense."""
    from aiconf.deploy.read import worker as readers

    seen: set[str] = set()

    class Spy(Flags):
        def raw(self, *names):
            seen.update(names)
            return super().raw(*names)

    readers._READERS[backend](Spy({"model": "Qwen/Qwen3-8B"}, "here"))
    assert len(seen) > 15
    told = 0
    for name in sorted(seen):
        for value in (*JUNK, True, None, 3, 2.5, [], ["a", "b"], {"a": {"b": 1}}, {"backend": 1}):
            flags = {"model": "Qwen/Qwen3-8B", "model-path": "Qwen/Qwen3-8B", name: value}
            try:
                readers._READERS[backend](Flags(flags, "here"))
            except UserError as error:
                told += 1
                assert "\n" not in str(error)
    assert told > 50
