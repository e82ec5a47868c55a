"""Which precision each class of weights is read in, from every scheme that engines load."""

import pytest

from aiconf.errors import UserError
from aiconf.model.checkpoint import build, read_config

DENSE = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
HYBRID = {
    **DENSE,
    "architectures": ["Qwen3NextForCausalLM"],
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
}
NEMOTRON = {
    **DENSE,
    "architectures": ["NemotronHForCausalLM"],
    "hybrid_override_pattern": "ME*E",
    "mamba_num_heads": 8,
    "mamba_head_dim": 64,
    "n_groups": 2,
    "ssm_state_size": 64,
    "conv_kernel": 4,
    "moe_intermediate_size": 512,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
}


def weights(kind, bits, **more):
    return {"type": kind, "num_bits": bits, **more}


def compressed(entry, inputs=None, ignore=("lm_head",), targets=("Linear",), **more):
    group = {"targets": list(targets), "weights": entry, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": list(ignore),
        **more,
    }


FLOAT8 = weights("float", 8, strategy="tensor")
INT8 = weights("int", 8, strategy="channel")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8"),
        (compressed(FLOAT8, inputs=FLOAT8), "fp8"),
        (compressed(weights("float", 8, strategy="channel"), inputs=FLOAT8), "fp8"),
        (compressed(weights("float", 8, strategy="block", block_structure=[128, 128])),
         "fp8_block"),
        (compressed(weights("float", 4, strategy="tensor_group", group_size=16)), "nvfp4"),
        (compressed(weights("float", 4, strategy="group", group_size=32)), "mxfp4"),
        (compressed(weights("int", 4, strategy="group", group_size=32)), "int4"),
        (compressed(INT8, inputs=INT8), "int8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "int4"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "int4"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "data_type": "int"}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_algo": "FP8_PB_WO"}, "fp8_block"),
        ({"quant_method": "quark", "global_quant_config":
            {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}}}, "fp8"),
        ({"quant_method": "quark", "global_quant_config":
            {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}}}, "mxfp4"),
        ({"quant_method": "w8a8_int8"}, "int8"),
    ],
)  # fmt: skip
def test_one_format_for_all(stated, expected):
    found = read_config({**DENSE, "quantization_config": stated}).quantization
    assert (found.attention, found.attention_output, found.dense) == (expected,) * 3
    assert found.lm_head == "bf16"


@pytest.mark.parametrize(
    ("stated", "group"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 128),
        (compressed(weights("int", 4, strategy="group", group_size=32)), 32),
        (compressed(weights("float", 4, group_size=16)), 128),
    ],
)
def test_weights_per_scale(stated, group):
    assert read_config({**DENSE, "quantization_config": stated}).quantization.group == group


@pytest.mark.parametrize(
    "excluded",
    [
        ["model.layers.0.self_attn", "model.layers.1.self_attn", "model.layers.2.self_attn",
         "model.layers.3.self_attn"],
        ["model.layers.*.self_attn*"],
        ["re:.*self_attn.*"],
        ["re:model\\.layers\\.\\d+\\.self_attn\\..*"],
        ["re:language_model\\.model\\.layers\\.\\d+\\.self_attn\\..*"],
        ["model.language_model.layers.*.self_attn*"],
        ["self_attn"],
        ["q_proj", "o_proj"],
    ],
)  # fmt: skip
def test_excluded_modules_in_every_spelling(excluded):
    stated = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": excluded}
    found = read_config({**DENSE, "quantization_config": stated})
    kinds = found.quantization
    assert (kinds.attention, kinds.attention_output, kinds.dense) == ("bf16", "bf16", "nvfp4")
    assert found.notes == ()


def test_most_layers_decide_and_a_note_says_so():
    stated = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.3.mlp"]}
    found = read_config({**DENSE, "quantization_config": stated})
    assert found.quantization.dense == "fp8"
    said = "feed-forward weights are fp8 in 3 layers and bf16 in 1: taken as fp8"
    assert found.notes == (said,)


def test_both_kinds_of_attention_are_asked_in_their_own_layers():
    layers = {
        **{f"model.layers.{i}.linear_attn.in_proj_qkv": {"quant_algo": "FP8"} for i in range(3)},
        "model.layers.3.self_attn.q_proj": {"quant_algo": "NVFP4"},
        "model.layers.3.self_attn.o_proj": {"quant_algo": "NVFP4"},
        **{f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "W4A16_NVFP4"} for i in range(4)},
        "lm_head": {"quant_algo": "FP8"},
    }
    stated = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
    found = read_config({**HYBRID, "quantization_config": {**stated, "quantized_layers": layers}})
    kinds = found.quantization
    assert (kinds.attention, kinds.linear_input, kinds.dense) == ("nvfp4", "fp8", "nvfp4")
    assert (kinds.lm_head, found.notes) == ("fp8", ())
    with pytest.raises(UserError, match="MIXED_PRECISION without quantized_layers"):
        read_config({**HYBRID, "quantization_config": stated})


def test_blocks_that_are_counted_one_by_one():
    names = {
        "backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"},
        "backbone.layers.1.mixer.experts.0.up_proj": {"quant_algo": "NVFP4"},
        "backbone.layers.3.mixer.experts.0.up_proj": {"quant_algo": "NVFP4"},
    }
    beside = {"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": names}}
    kinds = build(NEMOTRON, beside, "config.json", "x").quantization
    assert (kinds.attention, kinds.linear_input, kinds.experts) == ("bf16", "fp8", "nvfp4")


def test_several_groups_and_targets():
    stated = compressed(FLOAT8, inputs=FLOAT8, targets=["re:.*self_attn.*"])
    stated["config_groups"]["group_1"] = {
        "targets": ["Linear"],
        "weights": weights("float", 4, group_size=16),
    }
    kinds = read_config({**DENSE, "quantization_config": stated}).quantization
    assert (kinds.attention, kinds.dense) == ("fp8", "nvfp4")


def test_rules_of_gptq_and_autoround():
    base = {"quant_method": "gptq", "bits": 4}
    rules = {"-:model\\.layers\\..*\\.self_attn": {}}
    found = read_config({**DENSE, "quantization_config": {**base, "dynamic": rules}}).quantization
    assert (found.attention, found.dense) == ("bf16", "int4")
    other = {"model.layers.0.mlp.gate_proj": {"bits": 16}}
    stated = {"quant_method": "auto-round", "bits": 4, "extra_config": other}
    spec = read_config({**DENSE, "quantization_config": stated})
    assert spec.quantization.dense == "int4"
    assert spec.notes == ("feed-forward weights are int4 in 3 layers and bf16 in 1: taken as int4",)


@pytest.mark.parametrize(
    ("stated", "cache", "noted"),
    [
        ({"kv_cache_quant_algo": "FP8"}, "fp8", False),
        ({"kv_cache_quant_algo": None}, "bf16", False),
        ({"kv_cache_scheme": {"type": "float", "num_bits": 8}}, "fp8", False),
        ({"kv_cache_quant_algo": "NVFP4"}, "fp8", True),
    ],
)
def test_cache(stated, cache, noted):
    scheme = {"quant_method": "modelopt", "quant_algo": "FP8", **stated}
    found = read_config({**DENSE, "quantization_config": scheme})
    assert (found.quantization.kv, bool(found.notes)) == (cache, noted)


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "'bitsandbytes' is not known"),
        ({"quant_method": "gguf"}, "known are fp8, fbgemm-fp8, mxfp4, compressed-tensors"),
        ({"quant_method": "hqq"}, "'hqq' is not known"),
        ({"quant_method": "fp8", "weight_block_size": [64, 64]}, "known is [128, 128]"),
        ({"quant_method": "gptq", "bits": 8}, "8 bits of type int is not known"),
        ({"quant_method": "gptq", "bits": 4, "group_size": "big"}, "must be a whole number"),
        (compressed(INT8), "(weight only) are not known"),
        (compressed(weights("float", 8, strategy="group", group_size=32)), "float group"),
        ({"quant_method": "compressed-tensors"}, "has no config_groups"),
        ({"quant_method": "modelopt", "quant_algo": "FP2"}, "'FP2' is not known"),
        ({"quant_method": "fp8", "ignore": ["re:("]}, "not a regular expression"),
        ({"quant_method": "fp8", "ignore": "lm_head"}, "must be a list of names"),
        ([], "is not an object"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int3"}}},
         "int3 None are not known"),
    ],
)  # fmt: skip
def test_refused(stated, says):
    with pytest.raises(UserError) as caught:
        read_config({**DENSE, "quantization_config": stated})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
