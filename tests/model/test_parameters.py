"""Embedded files against their own figures; what a sequence holds, from the configs."""

from dataclasses import replace

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.cache import kv_bytes_per_token, state_bytes
from aiconf.model.embedded import family_file
from aiconf.model.memory import checkpoint_bytes, parameters
from aiconf.parallel import Parallel
from aiconf.resources import data_dir

FILES = sorted(data_dir("models").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file(path):
    family = family_file(path)
    assert path.stem == family["name"].lower()
    spec = load_model(family["name"])
    assert spec.checkpoint == family["checkpoints"][0]["id"]
    text = replace(spec, vision=None)  # some cards count the vision tower, others do not
    counted = (parameters(spec), parameters(text))
    assert min(abs(each / family["parameters"] - 1) for each in counted) < 0.01
    for checkpoint in family["checkpoints"]:
        loaded = load_model(checkpoint["id"])
        assert loaded.checkpoint == checkpoint["id"]
        if checkpoint["bytes"]:
            assert checkpoint_bytes(loaded) == pytest.approx(checkpoint["bytes"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "kv", "state", "per_token"),
    [  # from the configs: 2 x KV heads x head size x layers, or latent + rope (+ index key)
        ("Qwen3-32B", "bf16", 0, 2 * 8 * 128 * 64 * 2),
        ("DeepSeek-V3", "bf16", 0, 576 * 61 * 2),
        # 656 byte of FlashMLA's fp8 cache, 132 of the indexer's (DeepSeek-V3.2 report)
        ("DeepSeek-V3.2", "fp8", 0, (656 + 132) * 61),
        ("GLM-5", "bf16", 0, (1152 + 132) * 78),
        ("GLM-5.2", "bf16", 0, 1152 * 78 + 132 * 21),
        ("Qwen3.5-397B-A17B", "bf16", 45 * (64 * 128**2 * 4 + 3 * 12288 * 2), 2 * 2 * 256 * 15 * 2),
        # 8 groups of B and C beside the heads' inputs; 6 attention layers
        ("Nemotron-3-Nano-30B-A3B", "fp8", 23 * (64 * 64 * 512 + 3 * 6144 * 2), 2 * 2 * 128 * 6),
        ("Qwen3-Next-80B-A3B", "fp8", 36 * (32 * 128**2 * 4 + 3 * 8192 * 2), 2 * 2 * 256 * 12),
    ],
)
def test_what_a_sequence_holds(name, kv, state, per_token):
    spec = load_model(name)
    assert kv_bytes_per_token(spec, Parallel(), kv) == pytest.approx(per_token, rel=0.01)
    assert state_bytes(spec, Parallel()) == pytest.approx(state, rel=0.01)


def test_state_is_divided_over_ranks_and_stages():
    spec = load_model("Qwen3.5-397B-A17B")
    whole = state_bytes(spec, Parallel())
    assert state_bytes(spec, Parallel(tp=8)) == pytest.approx(whole / 8)
    assert state_bytes(spec, Parallel(pp=2)) == pytest.approx(whole * 23 / 45)


def test_broken_file(tmp_path):
    text = FILES[0].read_text()
    broken = tmp_path / "broken.yaml"
    broken.write_text(text + "colour: green\n")
    with pytest.raises(UserError, match=r"broken.yaml: colour"):
        family_file(broken)
    broken.write_text("{")
    with pytest.raises(UserError, match="not YAML"):
        family_file(broken)
