"""Manifests with wrong values anywhere: findings, never a traceback, and never a long wait."""

from __future__ import annotations

import copy
import json
import math
import random

import pytest
import yaml
from manifests import ENGINE, config_map, found, graph, main

from aiconf.deploy.validate.documents import files, parse
from aiconf.deploy.validate.images import image
from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.shell import MOST, process
from aiconf.errors import UserError

WRONG = (
    None, True, -1, 0, 2**70, 1.5, math.inf, -math.inf, math.nan, b"bytes", "", "²", "--5", "٣",
    "9" * 5000, "a\0b", "$(X)", "${X", "latest", "[" * 3000, [], {}, [[]], [None], {"a": "b"},
    {1: 2}, {None: []},
)  # fmt: skip
FILES = {
    "sglang": {"tp-size": 4, "page-size": 64, "cuda-graph-max-bs": 8, "max-running-requests": 8},
    "trtllm": yaml.safe_load(ENGINE) | {"cuda_graph_config": {"batch_sizes": [1, 8]}},
}
MORE = {
    "vllm": [
        "--kv-events-config", '{"endpoint": "tcp://*:1"}', "--block-size", "16",
        "--compilation-config", '{"cudagraph_capture_sizes": [8]}',
    ],
    "sglang": ["--cuda-graph-bs", "1", "2", "--max-running-requests", "8", "--config", "/f/c"],
    "trtllm": ["--kv-block-size", "32", "--max-batch-size", "8"],
}  # fmt: skip


def rich(engine):
    """A graph with a value for most things that a rule looks at."""
    body = graph(engine, "prefill", "decode")
    body["metadata"] |= {
        "labels": {"a": "b"},
        "annotations": {"nvidia.com/enable-grove": "false"},
    }
    body["spec"] |= {
        "env": [{"name": "A", "value": "b"}],
        "topologyConstraint": {"packDomain": "rack"},
        "restart": {"id": "a", "strategy": {"type": "Sequential", "order": ["prefill"]}},
    }
    front = main(body, 0)
    front["args"] = ["--router-mode", "kv", "--kv-cache-block-size", "16", "--http-port", "8000"]
    front["command"] = ["python3", "-m", "dynamo.frontend"]
    for index, component in enumerate(body["spec"]["components"]):
        container = main(body, index)
        container["env"] = [{"name": "DYN_SYSTEM_PORT", "value": "9090"}]
        component |= {
            "runtimeVersionOverride": "1.6.1",
            "multinode": {"nodeCount": 2},
            "experimental": {"gpuMemoryService": {"mode": "IntraPod"}, "failover": {}},
        }
        component["podTemplate"]["metadata"] = {
            "annotations": {"dynamo.nvidia.com/gpu-power-limit": "300"}
        }
        if index:
            container["args"] += MORE[engine]
    return body


def places(value):
    """Every (container, key) below ``value``."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(pairs):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from places(item)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_any_value_anywhere(engine):
    rng = random.Random(7)
    body = rich(engine)
    found(body, config_map())
    for _ in range(500):
        changed = copy.deepcopy(body)
        holder, key = rng.choice(list(places(changed)))
        holder[key] = copy.deepcopy(rng.choice(WRONG))
        for line in found(changed, config_map(), dynamo=rng.choice((None, "1.0.2", "1.6.1"))):
            assert line


@pytest.mark.parametrize("engine", ["sglang", "trtllm"])
def test_any_value_in_engine_files(engine):
    rng = random.Random(7)
    plain = [value for value in WRONG if not isinstance(value, (bytes, dict))]
    body = rich(engine)
    for component in body["spec"]["components"][1:]:
        container = component["podTemplate"]["spec"]["containers"][0]
        container["args"] = [a.replace("/f/c", "/engine/engine.yaml") for a in container["args"]]
        container["volumeMounts"] = [{"name": "engine", "mountPath": "/engine"}]
        component["podTemplate"]["spec"]["volumes"] = [
            {"name": "engine", "configMap": {"name": "engine"}}
        ]
    for _ in range(500):
        changed = copy.deepcopy(FILES[engine])
        holder, key = rng.choice(list(places(changed)))
        holder[key] = copy.deepcopy(rng.choice(plain))
        found(body, config_map(yaml.safe_dump(changed)))


def test_numbers_that_python_takes_for_such():
    for value, number in (("8", 8), ("-8", -8), ("²", None), ("--5", None), ("9" * 19, None)):
        assert whole(value) == number
    body = graph()
    main(body)["args"][3] = "²"
    assert any("'²' is not a whole number" in line for line in found(body))
    body = graph()
    body["spec"]["components"][1]["replicas"] = math.inf
    assert any("'inf' is not a whole number" in line for line in found(body))
    assert parse(f"a: 0x{'f' * 5000}\nb: {2**64}\nc: {2**63}", "x") == [
        {"a": math.inf, "b": float(2**64), "c": 2**63}
    ]


def test_version_overrides():
    assert image("a/b:my-tag", "1.6.1").release == "1.6.1"
    assert image("a/b:1.6.1", "latest").release is None
    body = graph()
    body["spec"]["components"][1]["runtimeVersionOverride"] = "latest"
    assert not any(line.startswith("error") and ".args" in line for line in found(body))


@pytest.mark.parametrize("change", [{"batch_sizes": 8}, {"max_batch_size": "64"}])
def test_types_of_graph_sizes(change):
    text = yaml.safe_dump(yaml.safe_load(ENGINE) | {"cuda_graph_config": change})
    (line,) = [line for line in found(graph("trtllm"), config_map(text)) if "cuda_graph" in line]
    assert line.startswith("error") and "is not of type" in line


@pytest.mark.parametrize("text", ["!!bool maybe", "!!timestamp x", "!!int ''", "!!float x"])
def test_tags_that_do_not_fit(text):
    with pytest.raises(UserError, match="not YAML"):
        parse(f"a: {text}", "file.yaml")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "loop.yaml"])
def test_patches_that_are_no_files(tmp_path, name):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / "kustomization.yaml").write_text(f"patches: [{json.dumps(name)}]")
    assert [path.name for path in files([tmp_path])] == ["a.yaml", "kustomization.yaml"]


def test_merges_are_counted():
    """Ten merges of ten, nested: the loader would make 10^8 pairs before anyone counts."""
    bomb = "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
    )
    with pytest.raises(UserError, match="merges more than 200000"):
        parse(bomb, "file.yaml")
    with pytest.raises(UserError, match="merges what is no mapping"):
        parse("a: {<<: 3}", "file.yaml")
    with pytest.raises(UserError, match="not YAML"):
        parse("a: &a {<<: *a}", "file.yaml")


def test_merged_keys_may_be_said_again():
    text = "y: &a\n  <<: &base {image: a, name: b}\n  image: c\nz: {<<: *a}\nw: {<<: [*a, *base]}"
    c = {"image": "c", "name": "b"}
    assert parse(text, "x") == [{"y": c, "z": c, "w": c}]
    with pytest.raises(UserError, match="'image' twice"):
        parse("z: {<<: {image: a}, image: b, image: c}", "x")


@pytest.mark.parametrize(
    "script",
    [
        "echo " + "a" * 100_000,
        "python3 -m a;" * 9_000,
        "python3 -m a " * 9_000,
        "a=(\n" * 30_000,
        "a=1\n" * 30_000 + "python3 -m dynamo.vllm",
        "".join(f"b{i + 1}=$b{i}$b{i}\n" for i in range(60)) + "b0=xx\npython3 -m a $b60",
        "b0=xx\n"
        + "".join(f"b{i + 1}=$b{i}$b{i}\n" for i in range(60))
        + "python3 -m a $b60$b60",
        "# '" * 40_000,
        '\\"' * 60_000,
    ],
)
def test_long_scripts_end(script):
    """Each took minutes, or all memory, when it was read again for each start or variable."""
    started = process(["sh", "-c"], [script])
    assert started is None or sum(map(len, started.words)) < 2 * MOST


def test_arguments_that_linux_refuses():
    body = graph()
    main(body)["command"] = ["sh", "-c"]
    main(body)["args"] = ["python3 -m a;" * 20_000]
    assert any("128 KiB" in line and line.startswith("error") for line in found(body))
