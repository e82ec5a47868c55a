"""Options of a deployment on the command line."""

from __future__ import annotations

import json

import pytest
import yaml

from aiconf.cli import main

ONE = ["estimate", "--model", "QWEN3_32B", "--system", "h200_sxm", "--layout", "tp2",
       "--concurrency", "8"]  # fmt: skip


def test_choices_reach_the_manifest(tmp_path, capsys):
    out = str(tmp_path / "out")
    choices = ["--dynamo-version", "1.1", "--router", "kv", "--model-cache", "weights", "--name",
               "My Model", "--rdma", "rdma/ib", "--token-secret", "token"]  # fmt: skip
    assert main([*ONE, "--save-dir", out, *choices]) == 0
    text = (tmp_path / "out" / "agg" / "deploy.yaml").read_text()
    document = list(yaml.safe_load_all(text))[-1]
    assert document["apiVersion"] == "nvidia.com/v1alpha1"
    assert document["metadata"]["name"] == "my-model"
    assert "corrected to my-model" in text
    service = document["spec"]["services"]["worker"]
    assert service["envFromSecret"] == "token"
    assert service["resources"]["limits"] == {"gpu": "2", "custom": {"rdma/ib": "2"}}
    assert document["spec"]["services"]["frontend"]["envs"][-1]["value"] == "kv"
    assert (tmp_path / "out" / "agg" / "model-cache.yaml").is_file()


def test_a_changed_name_is_said(tmp_path, capsys):
    assert main([*ONE, "--save-dir", str(tmp_path / "a"), "--name", "Bad Name"]) == 0
    assert "\nnote: name 'Bad Name' is written as bad-name\n" in capsys.readouterr().err
    assert main([*ONE, "--save-dir", str(tmp_path / "b"), "--name", "good-name"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_a_local_folder_is_said(tmp_path, capsys, monkeypatch):
    """Its whole path is written: ``models/mine`` would be read as an id of the hub."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    config = {"architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "vocab_size": 151936,
              "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 8,
              "head_dim": 128, "intermediate_size": 3072, "max_position_embeddings": 40960,
              "tie_word_embeddings": True, "torch_dtype": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    words = ["estimate", "--model", "models/mine", "--system", "h200_sxm", "--layout", "tp1"]
    assert main([*words, "--save-dir", "out"]) == 0
    said = f"the model was read from the folder {folder}: it must be reachable in the containers"
    assert said in capsys.readouterr().err
    out = tmp_path / "out" / "agg"
    text = (out / "deploy.yaml").read_text()
    args = list(yaml.safe_load_all(text))[-1]["spec"]["components"][1]["podTemplate"]["spec"][
        "containers"
    ][0]["args"]
    assert args[args.index("--model") + 1] == str(folder)
    for name in ("deploy.yaml", "README.md"):
        written = "".join((out / name).read_text().replace("\n# ", " ").split())
        assert f"readfromthepath{folder}:itmustexistunderthispathinsidethecontainers" in written
    assert f"--volume {folder}:{folder}:ro" in (out / "launch_node_0.sh").read_text()


def test_both_modes_of_a_search_may_be_applied(tmp_path, capsys):
    words = ["cli", "--model", "Qwen/Qwen3-32B-FP8", "--total-gpus", "8", "--system", "h200_sxm",
             "--isl", "2000", "--osl", "200", "--ttft", "900", "--tpot", "40"]  # fmt: skip
    name = "A name that is by far too long for pods"
    assert main([*words, "--save-dir", str(tmp_path / "out"), "--name", name]) == 0
    error = capsys.readouterr().err
    names = {}
    for mode in ("agg", "disagg"):
        folder = tmp_path / "out" / mode
        graph = list(yaml.safe_load_all((folder / "deploy.yaml").read_text()))[-1]
        names[mode] = graph["metadata"]["name"]
        assert names[mode].endswith(f"-{mode}") and len(names[mode]) <= 33
        for file, ending in (("benchmark.yaml", "benchmark"), ("request.yaml", "request")):
            body = yaml.safe_load((folder / file).read_text())
            assert body["metadata"]["name"] == f"{names[mode]}-{ending}"
        assert body["spec"]["sla"] == {"ttft": 900.0, "itl": 40.0}
    assert f"is written as {names['agg']} or {names['disagg']}" in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--router", "kv"], "--router is about the files"),
        (["--host-cache-gb", "10"], "--host-cache-gb is about the files"),
        (["--save-dir", "DIR", "--router", "best"], "round-robin, kv"),
        (["--save-dir", "DIR", "--dynamo-version", "3.0"], "known: 1.6.1"),
        (["--save-dir", "DIR", "--disk-cache-gb", "10"], "give both sizes"),
        (["--save-dir", "DIR", "--dynamo-version", "1.4.7"], "of 1.4 there are 1.4.2, 1.4.1"),
        (["--save-dir", "DIR", "--image", "x:latest"], "--image 'x:latest' must be written REPOS"),
        (["--save-dir", "DIR", "--image", "Repo/x:1.6.1"], "ai-dynamo/vllm-runtime:1.6.1"),
        (["--save-dir", "DIR", "--image", "nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.6.1"],
         "is of sglang by its name, but the deployment is for vllm"),
        (["--save-dir", "DIR", "--rdma", "rdma"], "--rdma 'rdma' cannot be the name of a cluster"
         "'s resource: give DOMAIN/NAME, like rdma/ib"),
        (["--save-dir", "DIR", "--token-secret", "My_Secret"], "--token-secret 'My_Secret' cannot"),
        (["--save-dir", "DIR", "--model-cache", "a b"], "like model-cache"),
        (["--save-dir", "DIR", "--host-cache-gb", "inf"], "between 1 and 100000"),
        (["--memory-margin", "1"], "between 0 and 0.5"),
    ],
)
def test_bad_choices_are_one_line_and_write_nothing(words, says, tmp_path, capsys):
    words = [str(tmp_path / "out") if word == "DIR" else word for word in words]
    assert main([*ONE, *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
