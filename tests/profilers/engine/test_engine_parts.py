"""Points, loads, model folders, command lines and logs of engines."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.checkpoint import read_config
from aiconf.parallel import Parallel
from aiconf.resources import data_dir
from profilers.engine import gpu, server
from profilers.engine.checkpoint import config_of, digest, write_checkpoint
from profilers.engine.experiments import Load
from profilers.engine.points import Limits, Point, load_of, points
from profilers.engine.server import Launch, Running, free_port, log_facts

SCRIPT = Path(__file__).with_name("token_server.py")


def test_first_looks_come_first_and_nothing_twice():
    quick = list(points(True, (load_of("4:100:10"),)))
    full = list(points(False, (load_of("4:100:10"),)))
    assert full[: len(quick)] == quick
    names = [point.name for point in full]
    assert len(names) == len(set(names))
    assert {point.seen for point in full if not point.load} == {"first", "interval"}


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (Point(prefill=9000), "one iteration"),
        (Point(prefill=8190, decode=8, context=100), "one iteration"),
        (Point(decode=8, context=32768), "context"),
        (Point(decode=80, context=100), "sequences"),
        (Point(prefill=1, decode=64, context=100), "sequences"),
        (Point(decode=40, context=8192), "KV cache"),
        (Point(load=Load(1, 20000, 1000, 1)), "context"),
        (Point(decode=64, context=100), ""),
        (Point(prefill=8192), ""),
    ],
)
def test_what_the_engine_cannot_take_is_left_out(point, says):
    found = Limits(20480, 8192, 64, 300000).problem(point)
    assert (says in found) if says else not found


def test_loads_are_read():
    assert load_of("16:1024:256") == Load(16, 1024, 256, 160, 1.0)
    assert load_of("2:100:10:7:0.8") == Load(2, 100, 10, 7, 0.8)


@pytest.mark.parametrize("text", ["", "16", "16:1024", "0:1:2", "4:8:1", "a:b:c", "1:2:3:4:5:6",
                                  "1:9:9:1:0"])  # fmt: skip
def test_what_is_no_load_is_said(text):
    with pytest.raises(UserError, match="USERS:ISL:OSL"):
        load_of(text)


MADE = (
    "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-30B-A3B-FP8", "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "mistralai/Mistral-7B-Instruct-v0.3", "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
)  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_made_folder_is_the_same_model(name, tmp_path):
    spec = load_model(name)
    folder = write_checkpoint(spec, tmp_path / "model")
    back = read_config(folder)
    for field in ("layers", "hidden", "vocab", "max_context", "tied_embeddings", "quantization"):
        assert getattr(back, field) == getattr(spec, field), field
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(words.values()) == list(range(spec.vocab))
    assert digest(folder) == digest(write_checkpoint(spec, tmp_path / "again"))


def test_the_tokenizer_reads_and_writes_every_id(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    folder = write_checkpoint(load_model("Qwen/Qwen3-0.6B"), tmp_path)
    found = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert found.encode(found.decode([5, 17, 151935])).ids == [5, 17, 151935]


@pytest.mark.parametrize("name", ["openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3",
                                  "nvidia/Llama-3.1-8B-Instruct-NVFP4",
                                  "nvidia/Llama-3.1-8B-Instruct-FP8"])  # fmt: skip
def test_a_model_that_cannot_be_made_is_refused(name):
    with pytest.raises(UserError, match=r"folder with the checkpoint's config\.json"):
        write_checkpoint(load_model(name), None)


def test_a_config_that_would_be_another_model_is_refused(monkeypatch, tmp_path):
    spec = load_model("Qwen/Qwen3-0.6B")
    monkeypatch.setattr(
        "profilers.engine.checkpoint.config_of",
        lambda spec: config_of(spec) | {"hidden_size": 2048},
    )
    with pytest.raises(UserError, match=r"no config\.json can be made"):
        write_checkpoint(spec, tmp_path)


def launch(engine, layout, **more):
    return Launch(engine, "folder", "name", Parallel.parse(layout), 4096, 2048, 0, **more)


def test_flags_of_both_engines(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    vllm = launch("vllm", "tp2ep2", memory=0.8, extra=("--enforce-eager",)).command("h", 7)
    told = " ".join(vllm[1:])
    for words in ("--load-format dummy", "--tensor-parallel-size 2", "--enable-expert-parallel",
                  "--max-num-batched-tokens 2048", "--no-enable-prefix-caching", "--port 7",
                  "--gpu-memory-utilization 0.8"):  # fmt: skip
        assert words in told
    assert "--max-num-seqs" not in told
    assert told.endswith("--enforce-eager")
    sglang = " ".join(launch("sglang", "tp1dp4ep4").command("h", 7)[1:])
    for words in ("--load-format dummy", "--tp-size 4", "--dp-size 4", "--enable-dp-attention",
                  "--ep-size 4", "--disable-radix-cache",
                  "--chunked-prefill-size 2048"):  # fmt: skip
        assert words in sglang


@pytest.mark.parametrize("path", sorted((data_dir("backends") / "flags").glob("[vs]*.json")),
                         ids=lambda path: path.stem)  # fmt: skip
def test_every_release_knows_the_flags(path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    engine = path.name.partition("-")[0]
    spelt = json.loads(path.read_text())["flags"]  # of vLLM's engine, not of its HTTP server
    known = {name for names in spelt for name in names.split()}
    more = {"memory": 0.8, "sequences": 64}
    words = dataclasses.replace(launch(engine, "tp2dp2ep4"), **more).command("h", 7)
    flags = [word for word in words[3:] if word.startswith("--")]
    assert len(flags) > 12
    of_server = {"--host", "--port", "--disable-uvicorn-access-log"}
    assert not [flag for flag in flags if flag not in known | of_server]


def test_an_engine_that_is_missing_or_unknown_is_said():
    with pytest.raises(UserError, match="vllm, sglang"):
        server.require("ollama")
    if importlib.util.find_spec("sglang") is None:
        with pytest.raises(UserError, match=r"sglang is not installed.*--url"):
            server.require("sglang")


def test_a_port_in_use_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .* is in use, perhaps by a server that"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", 0) > 0


def test_logs_say_how_large_the_cache_is():
    vllm = (
        "(EngineCore) INFO [gpu_worker.py:509] Available KV cache memory: 98.76 GiB\n"
        "(Worker_TP0) INFO Model loading took 15.25 GiB memory and 3.1 seconds\n"
        "(EngineCore) INFO [kv_cache_utils.py:2146] GPU KV cache size: 924,576 tokens\n"
        "(EngineCore) INFO [kv_cache_utils.py:2146] GPU KV cache size: 924,560 tokens\n"
    )
    assert log_facts(vllm) == {
        "kv_tokens": 924560, "kv_memory_gib": 98.76, "weights_gib": 15.25,
    }  # fmt: skip
    sglang = "[2026] max_total_num_tokens=1532871, chunked_prefill_size=8192, max_prefill_tokens=1"
    assert log_facts(sglang) == {"kv_tokens": 1532871}
    assert log_facts("loading") == {}


def test_a_server_that_fails_or_hangs_is_reported_with_its_log(tmp_path, wait):

    command = [sys.executable, str(SCRIPT), "--fail", "ValueError: no such dtype"]
    failed = Running.start(command, tmp_path / "a.log", "127.0.0.1", 1)
    with pytest.raises(UserError, match=r"ended with code 1: ValueError: no such dtype \(see"):
        wait(failed.ready(30))
    failed.stop()
    slow = Running.start(
        [sys.executable, str(SCRIPT), "--load", "60"], tmp_path / "b.log", "127.0.0.1",
        free_port("127.0.0.1", 0),
    )  # fmt: skip
    with pytest.raises(UserError, match="not ready after 1 s"):
        wait(slow.ready(1))
    slow.stop()
    assert not slow.alive()


_KILLED = """
import sys, time
from pathlib import Path
from profilers.engine.server import Running
words = [sys.executable, sys.argv[1], "--port", sys.argv[2]]
running = Running.start(words, Path(sys.argv[3]), "127.0.0.1", int(sys.argv[2]))
print(running.process.pid, running.guard.pid, flush=True)
time.sleep(600)
"""


def answers(port):
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_profiler_leaves_no_server(tmp_path):
    port = free_port("127.0.0.1", 0)
    words = [sys.executable, "-c", _KILLED, str(SCRIPT), str(port), str(tmp_path / "log")]
    with subprocess.Popen(words, cwd=SCRIPT.parents[3], stdout=subprocess.PIPE) as process:
        started = [int(word) for word in process.stdout.readline().split()]
        try:
            assert until(lambda: answers(port))
            process.kill()
            process.wait()
            assert until(lambda: not answers(port))
        finally:
            for pid in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="ends a process group")
def test_a_server_that_was_ended_leaves_no_guard(tmp_path, wait):
    port = free_port("127.0.0.1", 0)
    words = [sys.executable, str(SCRIPT), "--port", str(port)]
    running = Running.start(words, tmp_path / "log", "127.0.0.1", port)
    wait(running.ready(30))
    assert running.guard.poll() is None
    running.stop()
    assert running.guard.poll() == 0


def test_the_gpu_is_named_by_nvidia_smi(monkeypatch):
    monkeypatch.setattr(gpu, "_first", lambda: ("NVIDIA H200", "GPU-1"))
    found = gpu.device()
    assert (found.system, found.uuid, found.kind) == ("h200_sxm", "GPU-1", "cuda")
    with pytest.raises(UserError, match=r"NVIDIA H200 \(h200_sxm\), not"):
        gpu.device("gb200")
    monkeypatch.setattr(gpu, "_first", lambda: ("Some GPU", "GPU-1"))
    with pytest.raises(UserError, match="a Some GPU, which no system describes: describe it in"):
        gpu.device()
    monkeypatch.setattr(gpu, "_first", lambda: ("NVIDIA H100 NVL", "GPU-1"))
    for asked in ("", "h100_sxm"):
        with pytest.raises(UserError, match=r"take systems/h100_sxm.yaml \(NVIDIA H100 80GB HBM3"):
            gpu.device(asked)
    monkeypatch.setattr(gpu, "_first", lambda: ("", ""))
    with pytest.raises(UserError, match="no GPU"):
        gpu.device()
    with pytest.raises(UserError, match="whose server"):
        gpu.device(remote=True)
    assert gpu.device("h200_sxm", remote=True).system == "h200_sxm"
