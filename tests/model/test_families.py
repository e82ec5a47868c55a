"""The registry of architectures: found in the folder, one reader each."""

import sys

import pytest

from aiconf.errors import UserError
from aiconf.model import families
from aiconf.model.checkpoint import read_config

READER = """
from aiconf.model.families.dense import llama
from aiconf.model.families.family import Family

ARCHITECTURES = {"%s": Family(llama)}
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Let the package look for modules in one more folder."""
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("aiconf.model.families.novel", None)
    vars(families).pop("novel", None)


def test_a_new_file_is_enough(beside):
    (beside / "novel.py").write_text(READER % "NovelForCausalLM")
    found = families.discover(families.__path__)
    assert set(found) - set(families.FAMILIES) == {"NovelForCausalLM"}


def test_two_readers_of_one_architecture_are_refused(beside):
    (beside / "novel.py").write_text(READER % "LlamaForCausalLM")
    with pytest.raises(ValueError, match=r"families\.novel declares LlamaForCausalLM"):
        families.discover(families.__path__)


def test_unknown_architecture_names_the_nearest_known():
    with pytest.raises(UserError, match="the nearest known: Qwen3MoeForCausalLM"):
        read_config({"architectures": ["Qwen33MoeForCausalLM"]})
