"""What docs/adding-a-model.md promises: its template and its example read as they say."""

import importlib.util
import json

import pytest
from pydantic import BaseModel

from aiconf.model import embedded_schema, load_model
from aiconf.model.checkpoint import read_config
from aiconf.model.embedded import family_file, read_family
from aiconf.model.families import FAMILIES
from aiconf.model.memory import parameters
from aiconf.resources import data_dir

DOCS = data_dir("models").parent / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="an installation has no docs")

# config.json of inclusionAI/Ling-mini-2.0, as far as it is read; the guide prints it
LING = {
    "architectures": ["BailingMoeV2ForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 157184,
    "max_position_embeddings": 32768,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "moe_intermediate_size": 512,
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
}


def test_example_reads_as_its_embedded_file():
    read, embedded = read_config(LING), load_model("Ling-mini-2.0")
    same = "architecture", "hidden", "vocab", "layers", "max_context", "quantization"
    assert [getattr(read, field) for field in same] == [getattr(embedded, f) for f in same]


def test_example_in_the_guide_is_the_tested_one():
    text = (DOCS / "adding-a-model.md").read_text(encoding="utf-8")
    printed = text.split("```json\n")[1].split("```")[0]
    assert json.loads(printed) == LING
    code = text.split("```python\n")[1].split("```")[0].strip()
    assert code in (data_dir("models").parent / "aiconf/model/families/bailing.py").read_text()
    yaml = text.split("```yaml\n")[1].split("```")[0].strip()
    assert yaml == (data_dir("models") / "ling-mini-2.0.yaml").read_text().strip()


def test_template_of_a_family_reads(monkeypatch):
    made = importlib.util.spec_from_file_location("template", DOCS / "new-model" / "family.py")
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    assert set(module.ARCHITECTURES) == {"NameForCausalLM"}
    monkeypatch.setitem(FAMILIES, "NameForCausalLM", module.ARCHITECTURES["NameForCausalLM"])
    config = LING | {"architectures": ["NameForCausalLM"], "n_shared_experts": 1}
    assert parameters(read_config(config)) == pytest.approx(16_255_643_392, rel=1e-3)


def test_template_of_a_model_reads_and_names_every_key():
    path = DOCS / "new-model" / "model.yaml"
    assert read_family(path)[0].checkpoint == "owner/Name-30B-A3B-FP8"
    assert family_file(path)["checkpoints"][0]["notes"]
    text = path.read_text(encoding="utf-8")
    kinds = vars(embedded_schema).values()
    keys = {
        key
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for key in kind.model_fields
    }
    assert [key for key in sorted(keys) if f"{key}:" not in text] == []
