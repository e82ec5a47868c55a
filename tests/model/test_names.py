"""Names, checkpoints and precisions."""

import pytest

from aiconf.errors import UserError
from aiconf.model import checkpoints, load_model, model_names


@pytest.mark.parametrize("name", ["QWEN3_32B", "qwen3-32b", "Qwen3 32B", "Qwen3-32B"])
def test_family_names(name):
    found = checkpoints(name)
    assert found[0].checkpoint == "Qwen/Qwen3-32B-FP8"
    assert {spec.precision for spec in found} == {"fp8_block", "bf16", "fp8", "nvfp4", "int4"}


@pytest.mark.parametrize("name", ["Qwen/Qwen3-32B", "Qwen/Qwen3-32B-FP8", "LLAMA3.1_70B"])
def test_exact_id(name):
    assert load_model(name) == checkpoints(name)[0]
    if "/" in name:
        assert [spec.checkpoint for spec in checkpoints(name)] == [name]


def test_bare_checkpoint_name():
    assert load_model("qwen3-32b-fp8").checkpoint == "Qwen/Qwen3-32B-FP8"


def test_other_id_of_same_weights_is_kept():
    assert load_model("meta-llama/Meta-Llama-3.1-70B").checkpoint == "meta-llama/Meta-Llama-3.1-70B"


def test_precision():
    assert load_model("Qwen3-32B", "bf16").checkpoint == "Qwen/Qwen3-32B"
    assert load_model("Qwen3-32B", "fp8").precision == "fp8"
    assert load_model("DeepSeek-V3", "fp8").precision == "fp8_block"
    assert load_model("gpt-oss-120b", "fp4").precision == "mxfp4"
    with pytest.raises(UserError, match="no int8 checkpoint: known are mxfp4"):
        load_model("gpt-oss-120b", "int8")


def test_near_miss(monkeypatch):
    with pytest.raises(UserError, match=r"unknown model 'QWEN3_33B'.*Qwen3-32B"):
        load_model("QWEN3_33B")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"Qwen/Qwen3-33B.*OFFLINE.*Qwen3-32B"):
        load_model("Qwen/Qwen3-33B")


def test_missing_path(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        load_model(str(tmp_path / "nothing" / "config.json"))


def test_listing():
    assert len(model_names()) > 30
    assert list(model_names()) == sorted(model_names(), key=str.lower)
