"""Files on disk: complete or not at all, the same every time, lintable, safe to paste."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from deploy_plans import DENSE, many_plans, plan, worker

from aiconf.deploy import write_deployment
from aiconf.deploy.dgd import Options
from aiconf.errors import UserError


def _texts(folder):
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_files_of_both_modes(tmp_path):
    paths = write_deployment(plan(), tmp_path / "deep" / "agg")
    assert [p.name for p in paths] == [
        "deploy.yaml", "engine_worker.yaml", "benchmark.yaml", "request.yaml",
        "launch_node_0.sh", "llm-d-values.yaml", "README.md",
    ]  # fmt: skip
    disaggregated = plan("sglang", worker("prefill"), worker("decode"))
    names = [p.name for p in write_deployment(disaggregated, tmp_path / "disagg")]
    assert names == [
        "deploy.yaml", "engine_prefill.yaml", "engine_decode.yaml", "benchmark.yaml",
        "request.yaml", "launch_node_0.sh", "README.md",
    ]  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "disagg"]


def test_existing_folder_needs_force(tmp_path):
    write_deployment(plan("vllm", worker("prefill"), worker("decode")), tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    before = _texts(tmp_path / "out")
    with pytest.raises(UserError, match="--force"):
        write_deployment(plan(), tmp_path / "out")
    assert _texts(tmp_path / "out") == before
    write_deployment(plan("sglang"), tmp_path / "out", force=True)
    names = sorted(_texts(tmp_path / "out"))
    assert names == [
        "README.md", "benchmark.yaml", "deploy.yaml", "engine_worker.yaml", "launch_node_0.sh",
        "mine.txt", "request.yaml",
    ]  # fmt: skip


def test_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_deployment(plan(), Path())
    assert {"README.md", "deploy.yaml"} < set(_texts(tmp_path / "here"))


def test_bad_targets(tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError):
            write_deployment(plan(), target)
    with pytest.raises(UserError):
        write_deployment(plan("nope"), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    def broken(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.rename", broken)
    with pytest.raises(UserError, match="No space"):
        write_deployment(plan(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_same_bytes_every_time(tmp_path):
    one = plan("trtllm", worker("prefill", "dp8ep8"), worker("decode", "dp16ep16"))
    write_deployment(one, tmp_path / "a")
    write_deployment(one, tmp_path / "b")
    assert _texts(tmp_path / "a") == _texts(tmp_path / "b")


def test_permissions_follow_the_umask(tmp_path):
    paths = write_deployment(plan(), tmp_path / "out")
    files, folder = paths[0].stat().st_mode & 0o777, (tmp_path / "out").stat().st_mode & 0o777
    assert folder & 0o666 == files


def test_yaml_lints(tmp_path):
    linter = pytest.importorskip("yamllint.linter")
    from yamllint.config import YamlLintConfig

    config = YamlLintConfig("{extends: default, rules: {line-length: {max: 160}}}")
    for number, one in enumerate(many_plans()):
        options = Options(model_cache="weights" if number % 2 else None)
        for path in write_deployment(one, tmp_path / str(number), options=options):
            if path.suffix == ".yaml":
                assert list(linter.run(path.read_text(), config)) == [], path


def test_engine_file_equals_the_command_line(tmp_path):
    write_deployment(plan("vllm", worker(layout="tp2dp4ep8")), tmp_path / "out")
    engine = yaml.safe_load((tmp_path / "out" / "engine_worker.yaml").read_text())
    assert engine["max-num-seqs"] == 12
    assert engine["enable-expert-parallel"] is True
    assert engine["compilation-config"]["cudagraph_capture_sizes"][-1] == 512


def test_readme_quotes_what_it_was_given(tmp_path):
    name = "x'; rm -rf / #"
    model = replace(DENSE, name=name, checkpoint=f"/models/{name}")
    write_deployment(plan("vllm", worker(), model=model), tmp_path / "out", options=Options())
    readme = (tmp_path / "out" / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("curl"))
    body = shlex.split(line)[-1]
    assert yaml.safe_load(body)["model"] == name
    assert "0.31.0" in readme and "0.24.0" in readme
