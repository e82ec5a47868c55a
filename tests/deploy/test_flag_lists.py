"""The flags of every release: there, and those that the real parsers print."""

from __future__ import annotations

import json

import pytest

from aiconf.deploy.validate.command_line import read
from aiconf.deploy.validate.flag_lists import engine_fields, known_somewhere, lists
from aiconf.deploy.versions import engines
from aiconf.resources import data_dir

FOLDER = data_dir("backends") / "flags"
# In the reference list, but nowhere in the source of the released wheel.
ONLY_IN_THE_LIST = {"--disable-piecewise-cuda-graph"}


@pytest.mark.parametrize("release", list(engines()))
def test_every_release_has_its_lists(release):
    for module, flag in (
        ("dynamo.vllm", "--max-num-seqs"),
        ("dynamo.sglang", "--max-running-requests"),
        ("dynamo.trtllm", "--extra-engine-args"),
        ("dynamo.frontend", "--router-mode"),
        ("dynamo.mocker", "--speedup-ratio"),
    ):
        assert any(one.get(flag) for one in lists(module, release)), (module, release)
    assert lists("somebody.else", release) == []


def test_files_say_where_they_are_from():
    for path in FOLDER.glob("*.json"):
        content = json.loads(path.read_text())
        assert content["source"], path
        if not path.name.startswith("trtllm"):
            assert len(content["sha256"]) == 64
            assert content["wheel"].endswith(".whl")


def test_flags_come_and_go():
    assert known_somewhere("dynamo.vllm", "--swap-space")[0] < "1.4"
    assert "1.6.1" not in known_somewhere("dynamo.sglang", "--cuda-graph-max-bs")
    assert known_somewhere("dynamo.trtllm", "--publish-kv-events")[0] == "1.6.1"
    assert known_somewhere("dynamo.vllm", "--never") == []


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_same_as_the_real_parsers(engine_flags, backend):
    ours = lists(f"dynamo.{backend}", "1.6.1")[-1].flags
    theirs = {flag for flag in engine_flags[backend] if flag not in ("-h", "--help")}
    assert ours.keys() == theirs - ONLY_IN_THE_LIST
    for flag, action in engine_flags[backend].items():
        if flag in ours and action["choices"] and ours[flag].choices:
            known = set(map(str, action["choices"]))
            assert known <= set(ours[flag].choices), flag


def test_settings_under_every_spelling():
    line = read(["-tp", "4", "--no-enable-prefix-caching"], lists("dynamo.vllm", "1.6.1"))
    assert line.faults == []
    assert line.number("--tensor-parallel-size") == line.number("-tp") == 4
    assert line.has("--no-enable-prefix-caching")
    assert not line.has("--enable-prefix-caching")


def test_fields_of_another_version():
    assert engine_fields("1.3.0rc29")[0] == engine_fields("1.3.0rc5")[0] == "1.3.0rc29"
