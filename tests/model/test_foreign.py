"""Folders and configs that are no decoder: one line each that says what they are."""

import json

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.checkpoint import read_config


def refusal(path):
    with pytest.raises(UserError) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"adapter_config.json": {"base_model_name_or_path": "Qwen/Qwen3-32B"}},
         "LoRA or PEFT adapter, not a model; give its base model, 'Qwen/Qwen3-32B'"),
        ({"adapter_config.json": []}, "supported is a decoder's folder"),
        ({"model_index.json": {"_class_name": "FluxPipeline"}}, "a diffusion pipeline"),
        ({"model-Q4_K_M.gguf": {}}, "a GGUF file of llama.cpp is not read"),
        ({"config_sentence_transformers.json": {}, "config.json": {}}, "an embedding model"),
        ({"rank0.engine": {}}, "a compiled engine"),
        ({"README.md": {}}, "no config.json in"),
        ({"inner/config.json": {}}, "it is in inner"),
    ],
)  # fmt: skip
def test_folders(tmp_path, files, says):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.gguf", "GGUF"),
        ("model.safetensors", "holds weights: give the folder"),
        ("adapter_config.json", "adapter"),
        ("model_index.json", "diffusion"),
    ],
)
def test_files(tmp_path, name, says):
    (tmp_path / name).write_text("{}")
    assert says in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"architectures": ["BertModel"]}, "encoder-only"),
        ({"architectures": ["XLMRobertaForMaskedLM"]}, "encoder-only"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "an encoder-decoder"),
        ({"architectures": ["NovelModel2"], "is_encoder_decoder": True}, "an encoder-decoder"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "a classifier"),
        ({"architectures": ["LlamaForRewardModel"]}, "a reward model"),
        ({"architectures": ["InternLM2ForRewardModel"]}, "a reward model"),
        ({"architectures": ["Qwen3Model"]}, "a bare model without an output head"),
        ({"architectures": ["WhisperForConditionalGeneration"]}, "an audio model"),
        ({"architectures": ["Wav2Vec2ForCTC"]}, "an audio model"),
        ({"architectures": ["ViTForImageClassification"]}, "a vision model"),
        ({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.30"}, "a diffusion"),
        ({"peft_type": "LORA"}, "a LoRA or PEFT adapter"),
        ({"architectures": ["EagleLlamaForCausalLM2"]}, "a draft model"),
        ({"architectures": []}, "'architectures' is missing"),
        ({"architectures": [7]}, "'architectures' is missing"),
        ({"architectures": "LlamaForCausalLM"}, "'architectures' is missing"),
    ],
)
def test_architectures(figures, says):
    with pytest.raises(UserError) as caught:
        read_config(figures)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistral_params(tmp_path):
    figures = {
        "dim": 1024, "n_layers": 4, "n_heads": 8, "n_kv_heads": 2, "head_dim": 128,
        "hidden_dim": 2048, "vocab_size": 1000,
    }  # fmt: skip
    (tmp_path / "params.json").write_text(json.dumps(figures))
    spec = load_model(str(tmp_path))
    assert (spec.architecture, spec.max_context) == ("MistralForCausalLM", 128_000)
    fp8 = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}
    assert read_config({**figures, "quantization": fp8}).precision == "fp8"
    moe = {"num_experts": 8, "num_experts_per_tok": 2}
    assert read_config({**figures, "moe": moe}).layers[0].ffn.topk == 2
    latent = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128}
    latent |= {"qk_rope_head_dim": 64, "v_head_dim": 128}
    large = {**moe, "expert_hidden_dim": 512, "num_shared_experts": 1, "first_k_dense_replace": 1}
    spec = read_config({**figures, **latent, "moe": large})
    assert spec.architecture == "MistralLarge3ForCausalLM"
    assert [group.count for group in spec.layers] == [1, 3]
    for bad in ({"model_type": "mamba"}, latent, {"quantization": {"qformat_weight": "x"}}):
        with pytest.raises(UserError, match=r"config\.json: "):
            read_config({**figures, **bad})


def test_a_model_with_an_output_head_is_not_called_bare(tmp_path):
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 12}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = refusal(tmp_path)
    assert "architecture 'GPT2LMHeadModel' is not known" in said
    assert "bare" not in said
