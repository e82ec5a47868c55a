"""Names, checkpoints and precisions."""

import pytest

from aiconf.errors import UserError
from aiconf.model import checkpoints, load_model, model_names
from aiconf.model.library import checkpoint_names, in_precision
from aiconf.model.spec import Quantization


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


@pytest.mark.parametrize(
    ("name", "checkpoint", "said"),
    [
        ("llama3.1-70b-instruct-hf", "nvidia/Llama-3.1-70B-Instruct-FP8", "Llama-3.1-70B"),
        ("Qwen3_30B", "Qwen/Qwen3-30B-A3B-FP8", "Qwen3-30B-A3B"),
        ("llama-4-scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "Llama-4-Scout-17B-16E"),
        ("nemotron-super-49b", "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
         "Llama-3.3-Nemotron-Super-49B"),
        ("llama-3.3-70b-nvfp4", "nvidia/Llama-3.3-70B-Instruct-NVFP4",
         "nvidia/Llama-3.3-70B-Instruct-NVFP4"),
        ("qwen3-32b-bf16", "Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("Qwen/Qwen3-32B-Instruct", "Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("mixtral-8x22b-instruct", "mistralai/Mixtral-8x22B-Instruct-v0.1", "Mixtral-8x22B"),
    ],
)  # fmt: skip
def test_names_that_can_only_mean_one_model(name, checkpoint, said):
    spec = checkpoints(name)[0]
    assert (spec.checkpoint, spec.notes[0]) == (checkpoint, f"'{name}' is read as {said}")


@pytest.mark.parametrize("name", ["llama-3.1", "gpt-oss", "deepseek"])
def test_names_of_several_models(name):
    with pytest.raises(UserError, match=rf"'{name}' is not one model: it may be \w+"):
        load_model(name)


def test_exact_names_have_no_note_of_it():
    for name in (*model_names(), *checkpoint_names()):
        assert not any("is read as" in note for note in load_model(name).notes)


def test_every_id_resolves_whatever_its_case_and_separators():
    for identifier in checkpoint_names():
        for name in (identifier.lower(), identifier.upper(), identifier.replace("-", "_")):
            assert [spec.checkpoint for spec in checkpoints(name)] == [identifier]


def test_as_if_it_were_stored_in_a_precision():
    assert in_precision("Qwen3-32B", "nvfp4") == load_model("Qwen3-32B", "nvfp4")
    spec = in_precision("Qwen3-32B", "int8")
    assert spec.quantization == Quantization("int8", "int8", "int8")
    assert spec.checkpoint == "Qwen/Qwen3-32B"
    said = "no int8 checkpoint is known: predicted as if the weights of Qwen/Qwen3-32B were stored"
    assert spec.notes[0].startswith(said)
    oss = in_precision("gpt-oss-120b", "bf16")
    assert (oss.quantization, oss.precision) == (Quantization(), "bf16")
    assert in_precision("Qwen3-235B-A22B", "mxfp4").quantization == Quantization(experts="mxfp4")
    with pytest.raises(UserError, match="has no fp3 checkpoint"):
        in_precision("Qwen3-32B", "fp3")


def test_names_that_no_file_can_have():
    with pytest.raises(UserError, match="File name too long"):
        load_model("x" * 5000)
    with pytest.raises(UserError, match=r"unknown model|null"):
        load_model("a\0b")
