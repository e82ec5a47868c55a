"""Parameter counts and checkpoint sizes against the published figures."""

from dataclasses import replace

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.cache import kv_bytes_per_token, state_bytes
from aiconf.model.embedded import family_file
from aiconf.model.memory import active_parameters, checkpoint_bytes, parameters
from aiconf.parallel import Parallel
from aiconf.resources import data_dir

FILES = sorted(data_dir("models").glob("*.yaml"))

# From model cards and reports; the files' own figures are not used here.
PUBLISHED = {
    "Llama-3.1-8B": (8.03, None),
    "Llama-3.1-70B": (70.55, None),
    "Llama-3.1-405B": (405.85, None),
    "Qwen3-32B": (32.76, None),
    "Qwen3-235B-A22B": (235.09, 22.2),
    "DeepSeek-V3": (671.0, 37.5),
    "gpt-oss-120b": (116.83, 5.13),
    "gpt-oss-20b": (20.91, 3.61),
    "Kimi-K2": (1026.4, 32.86),
    "Mixtral-8x7B": (46.70, 12.9),
    "MiniMax-M2": (228.7, None),
    "GLM-4.5": (355.0, 32.0),
    "GLM-4.5-Air": (106.0, None),
    "GLM-5": (744.0, 40.0),
    "DeepSeek-V3.2": (671.9, 37.5),
    "Qwen3.5-397B-A17B": (397.0, 17.0),
    "Qwen3.5-122B-A10B": (122.0, None),
    "Qwen3.5-35B-A3B": (35.0, 3.0),
    "Qwen3.5-27B": (27.0, None),
    "Llama-2-7B": (6.74, None),
    "Llama-2-13B": (13.02, None),
    "Llama-2-70B": (68.98, None),
    "CodeLlama-34B": (33.74, None),
    "Mistral-7B": (7.25, None),
    "Mistral-Small-24B": (23.57, None),
    "Phi-4": (14.7, None),
    "Phi-4-mini": (3.84, None),
    "Granite-3.3-8B": (8.17, None),
    # embedding, vision encoder and the rest, as the report counts them
    "Gemma-3-27B": (25.6 + 1.416 + 0.417, None),
    "Gemma-3-12B": (10.8 + 1.012 + 0.417, None),
    "Gemma-3-4B": (3.2 + 0.675 + 0.417, None),
    "Kimi-K3": (2800.0, None),
    "Gemma-4-31B": (30.7, None),
    "Gemma-4-26B-A4B": (25.2, 3.8),
    "Llama-4-Maverick-17B-128E": (400.0, None),
    "MiMo-V2-Flash": (309.0, 15.0),
    "Nemotron-3-Nano-30B-A3B": (31.6, 3.2),
    "Nemotron-3-Super-120B-A12B": (120.6, None),
    "Nemotron-3-Ultra-550B-A55B": (550.0, 55.0),
    "Nemotron-H-56B": (56.0, None),
    "Qwen3-Next-80B-A3B": (80.0, None),  # 3 B active is rounded down: 3.6 by its config
    "Qwen3-VL-2B": (2.1275, None),
    "Qwen3-VL-4B": (4.4378, None),
    "Qwen3-VL-8B": (8.7671, None),
    "Qwen3-VL-32B": (33.3574, None),
    "Qwen3-VL-30B-A3B": (30.53 + 0.54, None),
    "Qwen3-VL-235B-A22B": (235.09 + 0.58, 22.0),
    "Kimi-K2.5": (1026.4 + 0.47, None),
}
# Cards that give the language model's count alone.
TEXT_ALONE = {"Qwen3.5-27B", "Qwen3-VL-30B-A3B", "Qwen3-VL-235B-A22B"}


def as_published(spec, name):
    """Parameters as the published figure counts them."""
    return parameters(replace(spec, vision=None) if name in TEXT_ALONE else spec)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters(name):
    total, active = PUBLISHED[name]
    spec = load_model(name)
    whole = as_published(spec, name if name == "Qwen3.5-27B" else "")
    assert whole / 1e9 == pytest.approx(total, rel=0.01)
    if active:
        # Reports differ in whether they count the input embedding.
        found = active_parameters(spec)
        counted = (found, found + spec.vocab * spec.hidden)
        assert min(abs(value / 1e9 / active - 1) for value in counted) < 0.03


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file(path):
    family = family_file(path)
    assert path.stem == family["name"].lower()
    spec = load_model(family["name"])
    assert spec.checkpoint == family["checkpoints"][0]["id"]
    assert as_published(spec, family["name"]) == pytest.approx(family["parameters"], rel=0.01)
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


@pytest.mark.parametrize(
    ("name", "size"),
    [  # total_size in model.safetensors.index.json
        ("meta-llama/Llama-3.1-8B-Instruct", 16_060_522_496),
        ("Qwen/Qwen3-32B", 65_524_246_528),
        ("mistralai/Mixtral-8x7B-v0.1", 93_405_585_408),
        ("Qwen/Qwen3-VL-2B-Instruct", 4_255_064_064),
        ("Qwen/Qwen3-VL-4B-Instruct", 8_875_631_616),
        ("Qwen/Qwen3-VL-8B-Instruct", 17_534_247_392),
        ("Qwen/Qwen3-VL-32B-Instruct", 66_714_780_128),
        ("google/gemma-3-4b-it", 2 * 4_300_079_472),
        ("google/gemma-3-12b-it", 2 * 12_187_325_040),
        ("openai/gpt-oss-20b", 13_761_264_768),
        ("openai/gpt-oss-120b", 65_248_815_744),
        ("deepseek-ai/DeepSeek-V3", 688_586_727_753),
    ],
)
def test_checkpoint_size(name, size):
    assert checkpoint_bytes(load_model(name)) == pytest.approx(size, rel=0.001)
