"""What two deployments differ in: every setting, whole lists, and values by what they hold."""

from __future__ import annotations

from dataclasses import fields

import pytest
from test_read_manifest import beta, read

from aiconf.deploy.difference import _OF_STATED, _OF_WORKERS, differences
from aiconf.deploy.read.stated import Stated
from aiconf.serving.plan import Plan, Worker

MODULES = {"vllm": "dynamo.vllm", "sglang": "dynamo.sglang", "trtllm": "dynamo.trtllm"}


def reading(tmp_path, backend="vllm", *args, model="Qwen/Qwen3-8B"):
    words = ["--model", model, *args]
    return read(tmp_path, beta(("w", "worker", words, {"module": MODULES[backend]})))


def told(tmp_path, backend, old, new, **options):
    sides = [reading(tmp_path, backend, *args, **options) for args in (old, new)]
    assert not differences(sides[0], sides[0])
    return {one.what: (one.before, one.after) for one in differences(*sides)}


EAGLE = '{"method":"eagle3","model":"a/b","num_speculative_tokens":3}'
NGRAM = '{"method":"ngram","num_speculative_tokens":3}'
WIDE = ("-dp", "32", "--enable-expert-parallel")


@pytest.mark.parametrize(
    ("backend", "old", "new", "expected"),
    [
        ("vllm", [], ["--no-async-scheduling"], {"overlap scheduling": ("on", "off")}),
        ("sglang", [], ["--disable-overlap-schedule"], {"overlap scheduling": ("on", "off")}),
        ("vllm", [], ["--compilation-config", '{"cudagraph_mode":"FULL_DECODE_ONLY"}'],
         {"prompts in CUDA graphs": ("captured", "none")}),
        ("vllm", ["--speculative-config", EAGLE], ["--speculative-config", NGRAM],
         {"drafts by": ("eagle3", "ngram"), "draft model": ("a/b", "default")}),
        ("vllm", ["--speculative-config", NGRAM],
         ["--speculative-config", NGRAM.replace("3", "5")],
         {"drafts per iteration": ("3", "5")}),
        ("vllm", ["--speculative-config", NGRAM],
         ["--speculative-config", NGRAM.replace("{", '{"prompt_lookup_max":4,')],
         {"speculative-config prompt_lookup_max (not modelled)": ("not set", "4")}),
        ("vllm", ["--quantization", "fp8"], [], {"quantization at start": ("fp8", "default")}),
        ("vllm", ["--compilation-config", '{"level":3}'],
         ["--compilation-config", '{"level":0}'],
         {"compilation-config level (not modelled)": ("3", "0")}),
        ("vllm", ["-O.level", "3"], ["-O.level", "0"],
         {"compilation-config level (not modelled)": ("3", "0")}),
        ("vllm", ["--cudagraph-capture-sizes", "1", "2", "8"],
         ["--cudagraph-capture-sizes", "1", "4", "8"],
         {"CUDA graphs": ("(1, 2, 8)", "(1, 4, 8)")}),
        ("vllm", ["--hf-overrides", '{"a":1}'], ["--hf-overrides", '{"a":2}'],
         {"hf-overrides (not modelled)": ('{"a": 1}', '{"a": 2}')}),
        ("vllm", ["--gpu-memory-utilization", "0.9"], ["--gpu-memory-utilization", "0.9000001"],
         {"memory fraction": ("0.9", "0.9000001")}),
        ("vllm", [], ["--mm-encoder-tp-mode", "data"],
         {"ranks share of a vision tower": ("weights", "data")}),
        ("trtllm", ["--trtllm.kv_cache_config.max_tokens", "4"],
         ["--trtllm.kv_cache_config.max_tokens", "5"],
         {"kv_cache_config.max_tokens (not modelled)": ("4", "5")}),
    ],
)  # fmt: skip
def test_what_differs_is_said(tmp_path, backend, old, new, expected):
    assert told(tmp_path, backend, old, new) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--hf-overrides", '{"a":1,"b":2}'], ["--hf-overrides", '{"b": 2, "a": 1}']),
        (["--compilation-config", '{"level":3}'], ["-O.level", "3"]),
        ([], ["--max-num-batched-tokens", "8192", "--async-scheduling"]),
        (["--port", "1"], ["--served-model-name", "x"]),
    ],
)
def test_what_is_the_same_is_no_difference(tmp_path, old, new):
    assert told(tmp_path, "vllm", old, new) == {}


def test_balance_of_experts_that_the_prediction_assumes(tmp_path):
    found = told(tmp_path, "vllm", WIDE, [*WIDE, "--enable-eplb"], model="deepseek-ai/DeepSeek-R1")
    assert found == {"enable-eplb (not modelled)": ("not set", "True")}


def test_every_setting_is_compared():
    """A new field must be put somewhere, or deployments that differ in it would serve alike."""
    elsewhere = {
        "model", "tp", "pp", "dp", "ep", "apart",  # Plan.model, Worker.parallel and replicas
        "sequences", "graphs", "largest_graph",  # max_sequences and graph_sizes of Worker
        "prompt_graphs", "overlap", "vision",  # the platform's traits
        "role", "loose", "served",  # the key, with values, a name
    }  # fmt: skip
    of_workers, of_stated = set(_OF_WORKERS), set(_OF_STATED)
    assert {one.name for one in fields(Worker)} == of_workers | {"role"}
    assert {one.name for one in fields(Stated)} - of_workers == of_stated | elsewhere
    assert {one.name for one in fields(Plan)} == {
        "model", "backend", "backend_version", "workload", "workers", "concurrency", "drafts",
        "draft_model",
    }  # fmt: skip
