"""Reading config.json: every family, quantisation schemes, and broken files."""

import io
import json
import urllib.request
from dataclasses import replace
from urllib.error import HTTPError, URLError

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.checkpoint import read_config
from aiconf.model.spec import DenseFfn, LinearAttention, MoeFfn

QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "num_hidden_layers": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "sliding_window": None,
}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 3,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "topk_method": "noaux_tc",
    "num_nextn_predict_layers": 1,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
}
SPARSE = {
    **DEEPSEEK,
    "architectures": ["DeepseekV32ForCausalLM"],
    "index_topk": 2048,
    "index_n_heads": 64,
    "index_head_dim": 128,
}
HYBRID = {
    "architectures": ["Qwen3NextForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "full_attention_interval": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
}
NEMOTRON = {
    "architectures": ["NemotronHForCausalLM"],
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*E",
    "num_hidden_layers": 7,
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 1856,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "moe_latent_size": 512,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "vocab_size": 131072,
    "max_position_embeddings": 262144,
}
OSS = {
    "architectures": ["GptOssForCausalLM"],
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "attention_bias": True,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
    },
}


@pytest.mark.parametrize(
    ("figures", "embedded"),
    [
        (QWEN, "Qwen/Qwen3-32B"),
        ({**QWEN, "quantization_config": FP8}, "Qwen/Qwen3-32B-FP8"),
        ({**DEEPSEEK, "quantization_config": FP8}, "deepseek-ai/DeepSeek-V3"),
        (OSS, "openai/gpt-oss-120b"),
    ],
)
def test_same_as_embedded(figures, embedded):
    assert read_config(figures, embedded) == replace(load_model(embedded), notes=())


def modelopt(algorithm, excluded):
    return {
        "quantization": {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": excluded,
        }
    }


def folder(path, figures, beside=None):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(figures))
    if beside:
        (path / "hf_quant_config.json").write_text(json.dumps(beside))
    return path


def test_folder_with_modelopt_file(tmp_path):
    parts = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
    excluded = [f"model.layers.{i}.self_attn.{part}" for i in range(61) for part in parts]
    path = folder(tmp_path / "mine", DEEPSEEK, modelopt("NVFP4", [*excluded, "lm_head"]))
    spec = load_model(str(path))
    assert spec.quantization == load_model("nvidia/DeepSeek-V3.1-NVFP4").quantization
    assert (spec.name, spec.checkpoint) == ("mine", str(path))
    assert load_model(str(path / "config.json")).layers == spec.layers


def test_compressed_int4():
    group = {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 4, "group_size": 32}}
    stated = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
                   r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
    }  # fmt: skip
    found = read_config({**DEEPSEEK, "quantization_config": stated}).quantization
    assert found == load_model("moonshotai/Kimi-K2.5").quantization


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, "nvfp4"),
    ],
)
def test_schemes(stated, expected):
    found = read_config({**QWEN, "quantization_config": stated}).quantization
    assert (found.attention, found.dense, found.lm_head) == (expected, expected, "bf16")


def test_gated_delta_net():
    linear, full = read_config(HYBRID).layers
    assert (linear.count, linear.attention) == (36, LinearAttention("gdn", 16, 32, 128, 128, 4))
    assert (full.count, full.attention.output_gate, full.attention.qk_norm) == (12, True, True)
    assert full.ffn == linear.ffn == MoeFfn(512, 10, 512, 512, shared_gate=True)
    text = {**without(HYBRID, "full_attention_interval"), "mtp_num_hidden_layers": 1}
    text |= {"layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12}
    outer = {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "text_config": text}
    excluded = ["model.language_model.layers.*.linear_attn*", "lm_head"]
    stated = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": excluded}
    found = read_config({**outer, "quantization_config": stated})
    assert found.layers == (linear, full)
    assert (found.mtp_layers, found.quantization.linear_input) == (1, "bf16")
    assert (found.quantization.dense, found.quantization.experts) == ("nvfp4", "nvfp4")


def test_mamba_blocks_with_and_without_experts_behind():
    experts = MoeFfn(128, 6, 1856, 3712, router_bias=True, gated=False, latent=512)
    mamba = LinearAttention("mamba2", 8, 64, 128, 64, 4)
    pair, alone, attention = read_config(NEMOTRON).layers
    assert (pair.count, pair.attention, pair.ffn, pair.norms) == (2, mamba, experts, 2)
    assert (alone.count, alone.attention, alone.ffn, alone.norms) == (1, mamba, None, 1)
    assert (attention.count, attention.attention.kind, attention.ffn) == (1, "gqa", experts)
    kinds = {"M": "mamba", "E": "moe", "*": "attention"}
    listed = [kinds[block] for block in NEMOTRON["hybrid_override_pattern"]]
    same = {**without(NEMOTRON, "hybrid_override_pattern"), "layers_block_type": listed}
    assert read_config(same).layers == read_config(NEMOTRON).layers


def test_kimi_delta_attention():
    text = {**without(DEEPSEEK, "num_experts_per_tok"), "num_hidden_layers": 8}
    text |= {"first_k_dense_replace": 1, "num_experts": 896, "num_experts_per_token": 16}
    text |= {"routed_expert_hidden_size": 3584, "num_shared_experts": 2}
    linear = {"num_heads": 96, "head_dim": 128, "short_conv_kernel_size": 4}
    linear |= {"full_attn_layers": [4, 8], "use_full_rank_gate": True}
    text |= {"linear_attn_config": linear, "mla_use_output_gate": True}
    outer = {"architectures": ["KimiK3ForConditionalGeneration"]}
    first, rest, full = read_config({**outer, "text_config": text}).layers
    assert (first.count, rest.count, full.count) == (1, 5, 2)
    assert first.attention == rest.attention == LinearAttention("kda", 96, 96, 128, 128, 4)
    assert (full.attention.kind, full.attention.output_gate) == ("mla", True)
    assert rest.ffn == MoeFfn(896, 16, 2048, 4096, router_bias=True, latent=3584)
    low = {**text, "linear_attn_config": {**linear, "use_full_rank_gate": False}}
    with pytest.raises(UserError, match="low rank"):
        read_config({**outer, "text_config": low})


def test_patterns_of_windows():
    gemma = {**QWEN, "architectures": ["Gemma3ForCausalLM"], "sliding_window": 1024}
    windowed, full = read_config({**gemma, "num_hidden_layers": 13}).layers[::-1]
    assert (windowed.count, windowed.attention.window, windowed.norms) == (11, 1024, 4)
    assert (full.count, full.attention.window) == (2, None)
    text = {**OSS, "attention_chunk_size": 8192, "interleave_moe_layer_step": 2}
    text |= {"intermediate_size_mlp": 5760, "num_experts_per_tok": 1}
    llama = {"architectures": ["Llama4ForConditionalGeneration"], "text_config": text}
    counts = {(g.attention.window, type(g.ffn)): g.count for g in read_config(llama).layers}
    assert counts == {(8192, DenseFfn): 18, (8192, MoeFfn): 9, (None, MoeFfn): 9}
    phi = {**QWEN, "architectures": ["Phi3ForCausalLM"], "sliding_window": 40960}
    assert read_config(phi).layers[0].attention.window is None
    assert read_config({**phi, "sliding_window": 2048}).layers[0].attention.window == 2048


def test_wide_full_layers_and_experts_beside_a_dense_block():
    figures = {**QWEN, "global_head_dim": 512, "num_global_key_value_heads": 4}
    figures |= {"sliding_window": 1024, "attention_k_eq_v": True, "num_hidden_layers": 6}
    figures |= {"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
    figures |= {"enable_moe_block": True, "num_experts": 128, "top_k_experts": 8}
    figures |= {"moe_intermediate_size": 704}
    outer = {"architectures": ["Gemma4ForConditionalGeneration"], "text_config": figures}
    places = [f"model.language_model.layers.{i}" for i in range(6)]
    excluded = [f"{place}.{part}*" for place in places for part in ("mlp", "self_attn")]
    stated = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": excluded}
    found = read_config({**outer, "quantization_config": stated})
    windowed, full = found.layers
    assert (windowed.count, windowed.attention.window, windowed.attention.joint_kv) == (5, 1024, 0)
    assert (full.attention.head_dim, full.attention.kv_heads) == (512, 4)
    assert full.attention.joint_kv
    assert full.ffn == MoeFfn(128, 8, 704, shared_intermediate=25600)
    kinds = found.quantization
    assert (kinds.attention, kinds.dense, kinds.experts) == ("bf16", "bf16", "nvfp4")
    with pytest.raises(UserError, match="per layer"):
        read_config({**outer, "text_config": {**figures, "hidden_size_per_layer_input": 256}})


def test_sparse_attention():
    every = read_config(SPARSE)
    assert [(g.count, g.attention.index_heads) for g in every.layers] == [(3, 64), (58, 64)]
    kinds = ["full"] * 4 + ["shared"] * 57
    some = read_config({**SPARSE, "indexer_types": kinds})
    assert [(g.count, g.attention.index_heads) for g in some.layers] == [(3, 64), (1, 64), (57, 0)]
    assert all(g.attention.index_topk == 2048 for g in some.layers)


def without(figures, key):
    return {name: value for name, value in figures.items() if name != key}


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (without(QWEN, "hidden_size"), "'hidden_size' is missing"),
        (without(QWEN, "architectures"), "'architectures' is missing"),
        ({"architectures": ["GrokForCausalLM"]}, "is missing to read it as a known block"),
        ({**QWEN, "num_hidden_layers": "many"}, "must be a whole number"),
        ({**QWEN, "num_key_value_heads": 7}, "not a multiple"),
        ({**without(QWEN, "head_dim"), "hidden_size": 5000}, "head_dim is missing"),
        ({**QWEN, "quantization_config": {"quant_method": "magic"}}, "known are fp8"),
        (without(DEEPSEEK, "num_experts_per_tok"), "'num_experts_per_tok' is missing"),
        ({**DEEPSEEK, "num_experts_per_tok": 300}, "exceeds the 256 experts"),
        ({**DEEPSEEK, "first_k_dense_replace": 99}, "exceed num_hidden_layers"),
        ({**OSS, "layer_types": ["full_attention"]}, "1 entries for 36 layers"),
        ({**HYBRID, "layer_types": ["full_attention"]}, "1 entries for 48 layers"),
        ({**HYBRID, "layer_types": ["spiral_attention"] * 48}, "'spiral_attention'"),
        ({**HYBRID, "linear_num_value_heads": 17}, "not a multiple of linear_num_key_heads"),
        ({**HYBRID, "mlp_only_layers": [0]}, "dense layers among"),
        ({**NEMOTRON, "hybrid_override_pattern": "MEX*"}, "blocks other than"),
        ({**NEMOTRON, "hybrid_override_pattern": "EMEM*EM"}, "without a mixer before it"),
        ({**NEMOTRON, "num_hidden_layers": 9}, "7 blocks for 9 layers"),
        ({**without(NEMOTRON, "hybrid_override_pattern"), "layers_block_type": ["x"]}, "has 'x'"),
        ({**SPARSE, "indexer_types": ["full", "none"] + ["full"] * 59}, "indexer_types must be"),
    ],
)
def test_refusals(tmp_path, figures, message):
    path = folder(tmp_path / "broken", figures)
    with pytest.raises(UserError) as caught:
        read_config(path)
    text = str(caught.value)
    assert message in text
    assert "config.json" in text
    assert "\n" not in text


def test_bad_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_config(tmp_path)


class _Hub:
    """Stands in for urlopen: answers from a dict of URL endings."""

    def __init__(self, answers):
        self.answers = answers

    def __call__(self, url, timeout):
        assert timeout <= 3
        for ending, answer in self.answers.items():
            if url.endswith(ending):
                return io.StringIO(json.dumps(answer))
        raise HTTPError(url, 404, "not found", {}, None)


@pytest.fixture
def online(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return lambda answers: monkeypatch.setattr(urllib.request, "urlopen", _Hub(answers))


def test_hub(online):
    online({"acme/Thing/resolve/main/config.json": QWEN})
    spec = load_model("acme/Thing")
    assert (spec.checkpoint, spec.name) == ("acme/Thing", "Thing")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_model("acme/Other")


def test_hub_of_adapters_and_of_mistral(online):
    online({"lora/resolve/main/adapter_config.json": {"base_model_name_or_path": "acme/Thing"}})
    with pytest.raises(UserError, match="adapter, not a model: give its base, 'acme/Thing'"):
        load_model("acme/lora")
    params = {"dim": 1024, "n_layers": 4, "n_heads": 8, "hidden_dim": 2048, "vocab_size": 1000}
    online({"Mist/resolve/main/params.json": params})
    assert load_model("acme/Mist").architecture == "MistralForCausalLM"


def test_no_network(online, monkeypatch):
    def down(url, timeout):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", down)
    with pytest.raises(UserError, match="no network"):
        load_model("acme/Thing")


def test_hub_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--acme--Thing" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    folder(snapshot, QWEN)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_model("acme/Thing").layers == load_model("Qwen3-32B").layers
