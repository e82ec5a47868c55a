"""Which models bring Python code that their engine must run: embedded ones, folders, hub ids."""

from __future__ import annotations

import json

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.checkpoint import read_config
from aiconf.model.embedded import family_file, read_family
from aiconf.model.library import checkpoint_names
from aiconf.resources import data_dir

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024,
    "num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 2048,
    "vocab_size": 1000, "max_position_embeddings": 4096,
}  # fmt: skip
CONFIG = {"AutoConfig": "configuration_x.XConfig"}
MARKED = (
    "kimi-k2", "kimi-k2.5", "kimi-k3", "llama-3.3-nemotron-super-49b", "ling-mini-2.0", "mimo-7b",
    "mimo-v2-flash", "minimax-m2", "minimax-m2.5", "minimax-m2.7", "nemotron-3-nano-30b-a3b",
    "nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b", "nemotron-h-56b", "step-3.7-flash",
)  # fmt: skip


def test_embedded_models():
    marked = {name for name in checkpoint_names() if load_model(name).own_code}
    assert marked == {
        spec.checkpoint
        for family in MARKED
        for spec in read_family(data_dir("models") / f"{family}.yaml")
    } | {"nvidia/MiniMax-M3-NVFP4"}
    assert not load_model("DeepSeek-V3").own_code


@pytest.mark.parametrize("path", sorted(data_dir("models").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_mark_has_its_source(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if "own_code:" in line]
    assert all("own_code: true  # " in line for line in lines)


def test_a_mark_is_a_truth_value(tmp_path):
    text = (data_dir("models") / "kimi-k2.yaml").read_text("utf-8")
    path = tmp_path / "x.yaml"
    path.write_text(text.replace("own_code: true", "own_code: sometimes"), "utf-8")
    with pytest.raises(UserError, match="own_code"):
        family_file(path)


@pytest.mark.parametrize(
    ("config", "tokenizer", "own"),
    [
        ({}, None, False),
        ({}, {"tokenizer_class": "LlamaTokenizerFast"}, False),
        ({"model_type": "deepseek_v3", "auto_map": CONFIG}, None, False),  # transformers ships it
        ({"model_type": "kimi_k2", "auto_map": CONFIG}, None, True),
        ({"model_type": None, "auto_map": CONFIG}, None, True),
        ({"model_type": "kimi_k2", "auto_map": {"AutoModel": "modeling_x.X"}}, None, False),
        ({"model_type": "kimi_k2", "auto_map": "AutoConfig"}, None, False),
        ({}, {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}, True),
        ({}, {"auto_map": {"AutoProcessor": "processing_x.X"}}, False),
    ],
)
def test_a_folder(tmp_path, config, tokenizer, own):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **config}), "utf-8")
    if tokenizer:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
    assert read_config(tmp_path).own_code is own
    if not tokenizer:
        assert read_config({**LLAMA, **config}).own_code is own


def test_a_hub_id(monkeypatch, tmp_path):
    import io
    import urllib.request
    from urllib.error import HTTPError

    files = {
        "config.json": LLAMA,
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}},
    }

    def answer(url, timeout):
        name = url.rpartition("/")[2]
        if name not in files:
            raise HTTPError(url, 404, "not found", {}, None)
        return io.StringIO(json.dumps(files[name]))

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert load_model("acme/Coded").own_code
    del files["tokenizer_config.json"]
    assert not load_model("acme/Plain").own_code
