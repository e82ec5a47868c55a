"""Settings laid over TensorRT-LLM's engine file, and prompts that vLLM must not split."""

from __future__ import annotations

import json

import pytest
from test_read_manifest import beta, read

from aiconf.errors import UserError

FILE = "max_batch_size: 64\nkv_cache_config: {free_gpu_memory_fraction: 0.85, dtype: fp8}\n"
OVER = {"max_batch_size": 8, "kv_cache_config": {"free_gpu_memory_fraction": 0.3}}


def trtllm(*args, env=()):
    words = ["--model", "Qwen/Qwen3-8B", "--extra-engine-args", "/c/e.yaml", *args]
    mount = {
        "module": "dynamo.trtllm",
        "pod": {"volumes": [{"name": "c", "configMap": {"name": "files"}}]},
        "container": {"volumeMounts": [{"name": "c", "mountPath": "/c"}], "env": list(env)},
    }
    return beta(("w", "worker", words, mount), maps=[("files", {"e.yaml": FILE})])


@pytest.mark.parametrize(
    "text",
    [
        trtllm("--override-engine-args", json.dumps(OVER)),
        trtllm("--trtllm.max_batch_size", "8",
               "--trtllm.kv_cache_config.free_gpu_memory_fraction", "0.3"),
        trtllm(env=[{"name": "DYN_TRTLLM_OVERRIDE_ENGINE_ARGS", "value": json.dumps(OVER)}]),
    ],
    ids=["json", "dotted", "env"],
)  # fmt: skip
def test_overrides_win_over_the_engine_file_field_by_field(tmp_path, text):
    found = read(tmp_path, text)
    (one,) = found.plan.workers
    assert (one.max_sequences, one.memory_fraction, one.kv_dtype) == (8, 0.3, "fp8")
    assert not any(note.startswith("not modelled") for note in found.notes)


def test_overrides_may_take_settings_away(tmp_path):
    over = {"cuda_graph_config": None, "max_batch_size": None}
    text = trtllm("--override-engine-args", json.dumps(over))
    (one,) = read(tmp_path, text).plan.workers
    (plain,) = read(tmp_path, trtllm()).plan.workers
    assert one.graph_sizes == () != plain.graph_sizes
    assert one.max_sequences > plain.max_sequences == 64


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--override-engine-args", "{no"), "a JSON object"),
        (("--override-engine-args", "{}x"), "a JSON object"),
        (("--override-engine-args", '{"a": 1}', "--trtllm.b", "1"), "exclude each other"),
        (("--trtllm.max_batch_size",), "needs a name and one value"),
        (("--trtllm..a", "1"), "needs a name and one value"),
        (("--trtllm.a", "1", "--trtllm.a.b", "2"), "inside another flag's value"),
        (("--trtllm.a.b", "1", "--trtllm.a", "2"), "replaces what other flags say"),
    ],
)
def test_overrides_that_the_engine_refuses(tmp_path, args, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, trtllm(*args))


def test_whole_prompts_of_vllm(tmp_path):
    line = "--model Qwen/Qwen3-8B --no-enable-chunked-prefill"
    found = read(tmp_path, beta(("w", "worker", line)))
    assert found.plan.workers[0].token_budget == found.plan.workers[0].max_model_len == 40960
    assert any("no-enable-chunked-prefill" in note for note in found.notes)
    short = read(tmp_path, beta(("w", "worker", f"{line} --max-model-len 4096")))
    assert short.plan.workers[0].token_budget == 8192
    with pytest.raises(UserError, match="vLLM does not start"):
        read(tmp_path, beta(("w", "worker", f"{line} --max-num-batched-tokens 4096")))
