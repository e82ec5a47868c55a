"""``aiconf model show``."""

import csv
import io
import json

import pytest

from aiconf.model import load_model
from aiconf.model.memory import parameters

MODELS = [
    "qwen3-32b", "deepseek-r1", "qwen3.5-397b-a17b", "nemotron-3-nano-30b-a3b", "gpt-oss-120b",
    "gemma-3-27b", "llama-4-scout-17b-16e", "kimi-k3", "glm-5.2", "mimo-v2-flash",
]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_shown(aiconf, name):
    code, out, err = aiconf("model", "show", name, "--system", "gb300")
    assert (code, err) == (0, "")
    for heading in ("Blocks", "Weights", "Work of one token", "Memory of the fullest GPU",
                    "Operators of one GPU", "Tables that answer"):  # fmt: skip
        assert f"\n{heading}" in out
    assert load_model(name).checkpoint in out


def test_figures_of_a_layout(aiconf):
    words = ("model", "show", "Qwen/Qwen3-32B", "--layout", "tp4", "--format", "json")
    found = json.loads(aiconf(*words)[1])
    assert found["model"]["checkpoint"] == "Qwen/Qwen3-32B"
    assert found["model"]["parameters"] == parameters(load_model("Qwen/Qwen3-32B"))
    assert found["cache"]["bytes_per_token"] == 2 * 8 * 128 * 64 * 2
    assert found["layout"] == "tp4pp1dp1ep1"
    shapes = {(one["operator"], one["shape"], one["times"]) for one in found["operators"]}
    assert ("attention product", "5120 -> 2560", 64) in shapes
    assert ("softmax attention", "16 / 2 heads of 128", 64) in shapes
    (room,) = [each for each in found["memory"] if each["layout"] == "tp4pp1dp1ep1"]
    assert room["kv_kb_per_token"] == pytest.approx(2 * 2 * 128 * 64 * 2 / 1e3)
    assert {table["table"] for table in found["tables"]} >= {"vllm/gemm", "vllm/decode_attention"}
    for total in found["totals"]:
        shares = [total[f"{kind}_percent"] for kind in ("measured", "interpolated", "fallback")]
        assert sum(shares) == pytest.approx(100.0)


def test_a_name_says_what_else_it_stands_for(aiconf):
    out = aiconf("model", "show", "qwen3-32b")[1]
    assert "Qwen/Qwen3-32B-FP8 (Qwen3ForCausalLM)" in out
    assert "Qwen/Qwen3-32B, " in out.splitlines()[1]
    out = aiconf("model", "show", "qwen3-32b", "--precision", "nvfp4")[1]
    assert out.startswith("Model     nvidia/Qwen3-32B-NVFP4")


def test_windows_state_and_what_does_not_fit(aiconf):
    out = aiconf("model", "show", "gpt-oss-20b")[1]
    assert "49.15 kB of bf16 KV per token (24.58 without end + 24.58 for 128 tokens)" in out
    assert "MB of state per sequence" in aiconf("model", "show", "qwen3-next-80b-a3b")[1]
    assert (
        "5 smaller layouts do not hold it"
        in aiconf("model", "show", "llama-4-maverick-17b-128e")[1]
    )


def test_a_local_config(aiconf, tmp_path):
    figures = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 1000,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(figures))
    code, out, _ = aiconf("model", "show", tmp_path, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {"operator", "shape", "times"} <= set(rows[0])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["qwen3-33b"], "unknown model 'qwen3-33b'"),
        (["qwen3-32b", "--layout", "tp3"], "layout tp3pp1dp1ep1: tp 3 does not divide"),
        (["qwen3-32b", "--context", "50000"], "must lie between 1 and the 40960"),
        (["qwen3-32b", "--system", "h201"], "unknown system 'h201'"),
        (["qwen3-32b", "--kv-dtype", "fp4"], "kv_dtype"),
        (["qwen3-32b", "--precision", "mxfp4"], "has no mxfp4 checkpoint"),
    ],
)
def test_bad_input_is_one_line(aiconf, words, says):
    code, out, err = aiconf("model", "show", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
