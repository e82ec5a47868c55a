"""Known crash patterns through the validator: each fires on a manifest, and only where it is."""

from __future__ import annotations

import json

import pytest
from deploy_plans import DENSE, H200, plan, worker
from manifests import ENGINE, config_map, found, graph, main

from aiconf.deploy.dgd import build
from aiconf.deploy.validate.check import problems
from aiconf.deploy.validate.documents import Document, parse
from aiconf.deploy.write import manifest

DENSE_ID = "Qwen/Qwen3-32B"  # 64 heads, 8 KV heads, a context of 40,960 tokens


def body(engine, *roles, model=DENSE_ID, gpus=4, words=(), tp=None, node=None):
    """Return a graph of workers of ``model`` with further words, on GPUs that a label names."""
    made = graph(engine, *roles)
    for index in range(1, len(made["spec"]["components"])):
        container = main(made, index)
        args = container["args"]
        for flag in ("--model", "--model-path"):
            if flag in args:
                args[args.index(flag) + 1] = model
        if tp is not None and engine != "trtllm":
            flag = {"vllm": "--tensor-parallel-size", "sglang": "--tp-size"}[engine]
            args[args.index(flag) + 1] = str(tp)
        args += words
        container["resources"]["limits"]["nvidia.com/gpu"] = str(gpus)
        if node:
            pod = made["spec"]["components"][index]["podTemplate"]["spec"]
            pod["nodeSelector"] = {"nvidia.com/gpu.product": node}
    return made


def engine(**changes):
    """Return the ConfigMap of TensorRT-LLM's engine file with some keys replaced."""
    lines = [line for line in ENGINE.splitlines() if line.partition(":")[0] not in changes]
    return config_map("\n".join([*lines, *(f"{k}: {json.dumps(v)}" for k, v in changes.items())]))


ALONE = [
    # engine, words that are fine, words that are not, model, level, what is said
    ("vllm", ["--max-num-batched-tokens", "64", "--max-num-seqs", "64"],
     ["--max-num-batched-tokens", "64", "--max-num-seqs", "65"], "a/b", "error",
     "64 tokens per iteration for 65 sequences"),
    ("vllm", ["--no-enable-chunked-prefill", "--max-num-batched-tokens=4096",
              "--max-model-len=4096"],
     ["--no-enable-chunked-prefill", "--max-num-batched-tokens=4096", "--max-model-len=4097"],
     "a/b", "error", "4096 tokens per iteration for whole prompts of up to 4097"),
    ("sglang", ["--chunked-prefill-size", "8192"], ["--chunked-prefill-size", "8200"], "a/b",
     "error", "8200 tokens per iteration are no whole number of KV blocks of 64"),
    ("vllm", ["--block-size", "128"], ["--block-size", "32"], "zai-org/GLM-5-FP8", "error",
     "KV blocks of 32 tokens, and the model's kernels take multiples of 64"),
    ("vllm", ["--block-size", "256"], ["--block-size", "64"], "deepseek-ai/DeepSeek-V4-Flash",
     "error", "KV blocks of 64 tokens, and the model's kernels take multiples of 256"),
    ("vllm", ["--max-model-len", "40960"], ["--max-model-len", "40961"], DENSE_ID, "error",
     "a context of 40961 tokens for a model of 40960, which is refused at start"),
    ("sglang", ["--context-length", "40960"], ["--context-length", "40961"], DENSE_ID, "error",
     "a context of 40961 tokens for a model of 40960, which is refused at start"),
    ("vllm", ["--max-num-batched-tokens", "512", "--cudagraph-capture-sizes", "1", "512"],
     ["--max-num-batched-tokens", "511", "--cudagraph-capture-sizes", "1", "512"], "a/b",
     "warning", "CUDA graphs up to 512, and --max-num-batched-tokens 511"),
    ("sglang", ["--max-running-requests", "16", "--cuda-graph-max-bs-decode", "16"],
     ["--max-running-requests", "15", "--cuda-graph-max-bs-decode", "16"], "a/b",
     "warning", "CUDA graphs up to 16, and --max-running-requests 15"),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "fine", "wrong", "model", "level", "said"), ALONE)
def test_sizes(backend, fine, wrong, model, level, said):
    assert found(body(backend, words=fine, model=model)) == []
    (problem,) = found(body(backend, words=wrong, model=model))
    assert problem.startswith(f"{level} spec.components[1].podTemplate") and said in problem


@pytest.mark.parametrize(
    ("backend", "model", "tp", "said"),
    [
        ("vllm", DENSE_ID, 3, "tensor parallelism 3 does not divide 64 attention heads"),
        ("sglang", DENSE_ID, 5, "tensor parallelism 5 does not divide 64 attention heads"),
        # 40 heads and 8 KV heads: five ranks have whole heads, and no whole KV heads.
        ("vllm", "Qwen/Qwen3-14B", 5,
         "tensor parallelism 5 neither divides nor is a multiple of 8 KV heads"),
        ("sglang", "Qwen/Qwen3-14B", 10, "nor is a multiple of 8 KV heads"),
        ("vllm", DENSE_ID, 16, None),
        ("vllm", "someone/qwen", 3, None),  # not embedded: nothing is known of its heads
        ("vllm", "Qwen/Qwen3-14B", 8, None),
    ],
)  # fmt: skip
def test_heads(backend, model, tp, said):
    problems = found(body(backend, model=model, tp=tp, gpus=tp))
    assert [said in one and one.startswith("error") for one in problems] == ([True] if said else [])
    if said:
        assert f"({model})" in problems[0]


@pytest.mark.parametrize(("tensor", "said"), [(3, "does not divide 64"), (4, "")])
def test_heads_of_tensorrt_llm(tensor, said):
    problems = found(body("trtllm", gpus=tensor), engine(tensor_parallel_size=tensor))
    assert [said in one for one in problems] == ([True] if said else [])


@pytest.mark.parametrize("flag", ["--hf-overrides", "env"])
def test_a_longer_context_may_be_asked_for(flag):
    words = ["--max-model-len", "131072"]
    made = body("vllm", words=words)
    if flag == "env":
        main(made)["env"] = [{"name": "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "value": "1"}]
    else:
        main(made)["args"] += [flag, '{"rope_scaling": {"factor": 4.0}}']
    assert found(made) == []


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({"cuda_graph_config": {"max_batch_size": 65}}, "warning",
         "CUDA graphs up to 65, and max_batch_size 64"),
        ({"cache_transceiver_config": {"backend": "DEFAULT", "max_tokens_in_buffer": 8191}},
         "warning", "max_tokens_in_buffer 8191 of the transfer buffer is less than a sequence"),
        ({"max_seq_len": 40961, "cache_transceiver_config": {"backend": "DEFAULT"}}, "warning",
         "a context of 40961 tokens for a model of 40960, beyond which it was not made"),
    ],
)  # fmt: skip
def test_engine_files(changes, level, said):
    assert found(body("trtllm", "prefill", "decode"), engine()) == []
    problems = found(body("trtllm", "prefill", "decode"), engine(**changes))
    assert problems and all(one.startswith(level) and said in one for one in problems)


@pytest.mark.parametrize(
    ("backend", "before", "after", "said"),
    [
        ("vllm", ["--block-size", "32"], ["--block-size", "16"],
         "error spec.components[2]: KV block size: prefill 'prefill' has 32, decode 'decode' 16;"),
        ("vllm", ["--block-size", "16"], ["--block-size", "32"],
         "warning spec.components[2]: KV block size: prefill 'prefill' has 16, decode 'decode' 32, "
         "which vLLM moves for some models"),
        ("sglang", ["--page-size", "32"], ["--page-size", "64"],
         "error spec.components[2]: page size: prefill 'prefill' has 32, decode 'decode' 64;"),
        ("vllm", ["--kv-cache-dtype", "fp8"], ["--kv-cache-dtype", "bfloat16"],
         "KV cache type: prefill 'prefill' has fp8, decode 'decode' bfloat16"),
        ("sglang", ["--pp-size", "1"], ["--pp-size", "2"],
         "SGLang decodes in one stage or in as many as prefill has"),
        ("sglang", ["--pp-size", "2"], ["--pp-size", "2"], None),
        ("sglang", ["--pp-size", "2"], ["--pp-size", "1"], None),
        ("vllm", ["--max-model-len", "9000"], ["--max-model-len", "8000"],
         "prefill workers take 9000 tokens and decode workers 8000"),
        ("vllm", ["--max-model-len", "8000"], ["--max-model-len", "9000"], None),
    ],
)  # fmt: skip
def test_what_both_sides_share(backend, before, after, said):
    made = body(backend, "prefill", "decode", tp=2)
    for index, words in ((1, before), (2, after)):
        container = main(made, index)
        container["args"] += words
        stages = int(words[1]) if words[0] == "--pp-size" else 1
        container["resources"]["limits"]["nvidia.com/gpu"] = str(2 * stages)
    problems = found(made)
    assert [said in one for one in problems] == ([True] if said else [])


# Llama-3.1-70B in bf16 weighs 141 GB: more than one H200 holds, and half of two of them.
BIG = "meta-llama/Llama-3.1-70B-Instruct"
NODE = "NVIDIA-H200"


@pytest.mark.parametrize(
    ("backend", "tp", "words", "node", "level"),
    [
        ("vllm", 1, [], NODE, "error"),
        ("sglang", 1, [], NODE, "error"),
        ("vllm", 1, [], None, None),  # the GPU is not known
        ("vllm", 1, ["--cpu-offload-gb", "100"], NODE, None),
        ("vllm", 2, [], NODE, None),
        ("vllm", 2, ["--gpu-memory-utilization", "0.6"], NODE, "error"),  # less than one sequence
    ],
)
def test_memory_of_decode_workers(backend, tp, words, node, level):
    made = body(backend, "prefill", "decode", model=BIG, tp=tp, gpus=tp, node=node)
    for index in (1, 2) if level is None else (2,):
        main(made, index)["args"] += words
    mine = [one for one in found(made) if one.startswith(f"{level} spec.components[2]")]
    assert len(mine) == (1 if level else 0)
    assert all("of KV cache per GPU cannot hold one sequence of" in one for one in mine)
    assert all(f"({BIG} on h200_sxm)" in one for one in mine)
    if level is None:
        assert found(made) == []


def test_our_own_decode_workers_hold_the_sequences_that_were_asked_for():
    """The lengths are in our annotations, so that sequences count and not only the longest."""
    sides = worker("prefill", "tp1"), worker("decode", "tp1", max_sequences=16)
    text = manifest(build(plan("vllm", *sides, model=DENSE)))
    documents = [
        [Document("ours", i, one) for i, one in enumerate(parse(each, "ours"))]
        for each in (text, _more(text, "16", "4096"))
    ]
    assert problems(documents[0]) == []
    said = [one.what for one in problems(documents[1]) if one.level == "error"]
    assert any("4096 sequences need" in one and H200.name in one for one in said), said


def _more(text, old, new):
    """Return a manifest with the words behind --max-num-seqs replaced."""
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if "--max-num-seqs" in line:
            for behind in (place, place + 1):
                if old in lines[behind]:
                    lines[behind] = lines[behind].replace(old, new)
                    break
    return "\n".join(lines)


def test_no_network_and_no_files_are_asked(monkeypatch):
    from aiconf.model import hub

    monkeypatch.setattr(hub, "read_hub", lambda *_: pytest.fail("the hub was asked"))
    assert found(body("vllm", model="someone/never-heard-of")) == []
    assert found(body("vllm", model="/etc")) == []


@pytest.mark.parametrize(
    "said",
    [
        {"aiconf/system": "abacus"},
        {"aiconf/system": "h200_sxm", "aiconf/isl": "many", "aiconf/osl": "1"},
        {"aiconf/system": "h200_sxm", "aiconf/isl": "0", "aiconf/osl": "1"},
        {"aiconf/isl": "10"},
    ],
)
def test_annotations_that_cannot_be_read_say_nothing(said):
    made = body("vllm", tp=4)
    made["metadata"]["annotations"] = said
    assert found(made) == []


@pytest.mark.parametrize("words", [
    ["--max-num-seqs", "$(SEQS)", "--max-num-batched-tokens", "1"],
    ["--max-model-len", "$(LENGTH)"],
    ["--max-num-batched-tokens", "8k", "--max-num-seqs", "8000"],
    ["--max-model-len", "auto"],
    ["--gpu-memory-utilization", "$(SHARE)"],
])  # fmt: skip
def test_what_only_the_cluster_knows_breaks_no_rule(words):
    assert found(body("vllm", words=words, node=NODE)) == []
