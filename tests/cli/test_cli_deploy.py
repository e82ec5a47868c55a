"""Options of a deployment on the command line."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--router", "kv"], "--router is about the files"),
        (["--host-cache-gb", "10"], "--host-cache-gb is about the files"),
        (["--save-dir", "DIR", "--router", "best"], "round-robin, kv"),
        (["--save-dir", "DIR", "--dynamo-version", "3.0"], "known: 1.6.1"),
        (["--save-dir", "DIR", "--disk-cache-gb", "10"], "give both sizes"),
        (["--save-dir", "DIR", "--image", "x:latest"], "REPOSITORY:X.Y.Z"),
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
