"""Bad input gets one line on standard error and exit code 2."""

import json
import shutil

import pytest

from aiconf.resources import data_dir

BASE = {"--model": "QWEN3_32B", "--total-gpus": "8", "--system": "h200_sxm"}

CASES = [
    ({"--model": ""}, "the name of the model is empty: give one of `aiconf models`"),
    ({"--model": "QWEN3_33B"}, "unknown model 'QWEN3_33B': did you mean Qwen3-32B"),
    ({"--system": "h300_sxm"}, "unknown system 'h300_sxm': did you mean"),
    ({"--decode-system": "bg200"}, "unknown system 'bg200': did you mean"),
    ({"--backend": "vlm"}, "unknown backend 'vlm': did you mean vllm?"),
    ({"--backend-version": "0.1"}, "unknown vLLM version on h200_sxm '0.1': known: "),
    ({"--total-gpus": "0"}, "total GPUs must be a whole number of at least 1, not 0"),
    ({"--total-gpus": "-4"}, "total GPUs must be a whole number of at least 1, not -4"),
    ({"--total-gpus": "many"}, "Invalid value for '--total-gpus': 'many' is not a whole number"),
    ({"--isl": "0"}, "isl must be a whole number of at least 1, not 0"),
    ({"--isl": "-5"}, "isl must be a whole number of at least 1, not -5"),
    ({"--isl": "4k"}, "Invalid value for '--isl': '4k' is not a whole number"),
    ({"--osl": "0"}, "osl must be a whole number of at least 1, not 0"),
    ({"--osl": "1.5"}, "Invalid value for '--osl': '1.5' is not a whole number"),
    ({"--prefix": "4000"}, "prefix 4000 must be shorter than isl 4000"),
    ({"--isl": "40000", "--osl": "1000"}, "isl 40000 + osl 1000 = 41000 tokens exceed the 40960"),
    ({"--ttft": "0"}, "ttft must be a positive number of milliseconds"),
    ({"--tpot": "fast"}, "Invalid value for '--tpot': 'fast' is not a number"),
    ({"--precision": "fp3"}, "model 'QWEN3_32B' has no fp3 checkpoint: known are"),
    ({"--kv-dtype": "fp9"}, "unknown kv_dtype 'fp9': did you mean fp8?"),
    ({"--mode": "both"}, "'both' is not one of any, auto"),
    ({"--format": "xml"}, "Invalid value for '--format': 'xml' is not one of table, json, csv"),
    ({"--objective": "fun"}, "'fun' is not one of throughput, latency, cost"),
    ({"--top": "0"}, "top must be a whole number of at least 1, not 0"),
    ({"--totl-gpus": "8"}, "no such option --totl-gpus: did you mean --total-gpus"),
    ({"--nextn": "2"}, "--nextn is not supported: the search has no speculative decoding"),
    ({"--perf-db": "missing-folder"}, "there is no perf_db folder missing-folder"),
    ({"--model": "missing/folder/config.json"}, "no folder or config.json at"),
    (
        {"--model": "DeepSeek-V4-Flash", "--backend": "trtllm"},
        "TensorRT-LLM serves DeepSeek-V4-Flash on GPUs of compute capability 10.0 and later",
    ),
    (
        {
            "--model": "DeepSeek-V4-Flash",
            "--backend": "trtllm",
            "--system": "b200_sxm",
            "--decode-system": "h200_sxm",
        },
        "of compute capability 10.0 and later, not 9.0",
    ),
    (
        {"--model": "DeepSeek-V4-Flash", "--kv-dtype": "bf16"},
        "vLLM holds the KV cache of DeepSeek-V4-Flash in fp8 only",
    ),
    ({"--model": "DEEPSEEK_R1", "--total-gpus": "4"}, "it needs at least 8 GPUs"),
]


def words(options):
    return [word for pair in (BASE | options).items() for word in pair]


def refused(done):
    code, out, err = done
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(("options", "says"), CASES)
def test_one_line(aiconf, options, says):
    assert says in refused(aiconf("cli", *words(options)))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("clo", "unknown command 'clo': did you mean cli?"),
        ("cli", "Missing option '--model'"),
        ("cli --model", "Option '--model' requires an argument"),
        ("cli extra --model QWEN3_32B --total-gpus 8 --system h200", "unexpected extra argument"),
        ("cli exp --yaml-path a.yaml", "`aiconf cli` has no 'exp': run `aiconf cli` once per"),
        ("cli generate --model-path a", "`aiconf cli` has no 'generate': run `aiconf cli"),
        ("cli support --model-path a", "`aiconf cli` has no 'support': run `aiconf support"),
        ("db lst", "No such command 'lst'. Did you mean 'list'?"),
        ("support --model qwen3-33b", "unknown model 'qwen3-33b'"),
        ("support --system h300 --model qwen3-32b", "unknown system 'h300'"),
        ("systems --format xml", "'xml' is not one of"),
    ],
)
def test_other_commands(aiconf, line, says):
    assert says in refused(aiconf(*line.split()))


def test_no_words_is_help(aiconf):
    code, out, err = aiconf()
    assert code == 2
    assert "Usage: aiconf" in out + err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"architectures": [', "config.json: not JSON"),
        ('{"architectures": ["FooForCausalLM"]}', "'FooForCausalLM' is not known, and 'hidden"),
        ('{"architectures": ["Qwen3ForCausalLM"]}', "config.json"),
    ],
)
def test_broken_config(aiconf, tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    assert says in refused(aiconf("cli", *words({"--model": str(tmp_path)})))


def test_no_network(aiconf, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    says = refused(aiconf("cli", *words({"--model": "Qwen/Qwen3-33B"})))
    assert "no network to the hub: did you mean" in says


def test_damaged_table(aiconf, tmp_path):
    manifest = json.loads((data_dir("perf_db") / "manifest.json").read_text())
    wanted = ("h200_sxm", "vllm", "gemm")
    entry = next(e for e in manifest["tables"] if (e["system"], e["backend"], e["table"]) == wanted)
    path = tmp_path / "h200_sxm" / "vllm" / "gemm.parquet"
    path.parent.mkdir(parents=True)
    shutil.copy(data_dir("perf_db") / path.relative_to(tmp_path), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"tables": [entry]}))
    says = refused(aiconf("cli", *words({"--perf-db": str(tmp_path)})))
    assert "perf_db table h200_sxm/vllm/gemm is damaged (checksum " in says


def test_folder_that_is_a_file_or_not_ours(aiconf, tmp_path):
    (tmp_path / "file").write_text("mine")
    says = refused(aiconf("cli", *words({"--save-dir": str(tmp_path / "file")})))
    assert "is a file: name a folder" in says
    (tmp_path / "agg").mkdir()
    done = aiconf("cli", *words({"--save-dir": str(tmp_path)}), "--force")
    assert "is not an earlier deployment and is not replaced" in refused(done)
    assert "--force is for --save-dir" in refused(aiconf("cli", *words({}), "--force"))


def test_interrupted(aiconf, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("aiconf.api.search", stop)
    assert aiconf("cli", *words({}))[0] == 130
