"""Configs with anything wrong in them are refused in one line or answered, never a crash."""

import copy
import random

import pytest

from aiconf.errors import UserError
from aiconf.model.cache import kv_layout, state_bytes
from aiconf.model.checkpoint import build
from aiconf.model.layout import layout_problem
from aiconf.model.memory import parameters, weight_bytes
from aiconf.model.operators import operators
from aiconf.parallel import Parallel

QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 512}
ROUTED = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
DEEPSEEK = {
    **{"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256},
    **{"q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32},
    **{"v_head_dim": 64, "first_k_dense_replace": 1, "n_shared_experts": 1},
}
INDEXED = {"index_topk": 64, "index_n_heads": 4, "index_head_dim": 32,
           "indexer_types": ["full", "full", "shared", "shared"]}  # fmt: skip
HYBRID = {
    **{"linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 64},
    **{"linear_value_head_dim": 64, "linear_conv_kernel_dim": 4},
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
}
NEMOTRON = {
    **{"hybrid_override_pattern": "ME*-", "mamba_num_heads": 8, "mamba_head_dim": 64},
    **{"n_groups": 2, "ssm_state_size": 64, "conv_kernel": 4, "n_routed_experts": 8},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 256},
}
GRANITE = {
    **{"layer_types": ["mamba", "mamba", "mamba", "attention"], "mamba_n_heads": 32},
    **{"mamba_d_head": 64, "mamba_d_state": 64, "mamba_d_conv": 4, "num_local_experts": 8},
    **{"num_experts_per_tok": 2, "shared_intermediate_size": 256},
}
HUNYUAN = {"num_experts": 8, "moe_topk": [2] * 4, "moe_intermediate_size": [256] * 4}
DECILM = {
    "block_configs": [
        {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": times}} for times in (1, 2, 3)
    ]
    + [{"attention": {"no_op": True}, "ffn": {"ffn_mult": 0.5}}]
}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"type": "float", "num_bits": 8}}
    },
}
MIXED = {
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_quant_algo": "FP8",
    "quantized_layers": {"model.layers.0.mlp.gate_proj": {"quant_algo": "NVFP4"}},
    "exclude_modules": ["lm_head", "model.layers.*.self_attn*", "re:.*vision.*"],
}
CONFIGS = (
    *(QWEN, {**QWEN, "quantization_config": {"quant_method": "modelopt", **MIXED}}),
    {**QWEN, "quantization_config": COMPRESSED},
    *({**QWEN, **more, "architectures": [name]} for name, more in (
        ("NovelForCausalLM", KINDS), ("NovelForCausalLM", ROUTED), ("GptOssForCausalLM", ROUTED),
        ("Gemma2ForCausalLM", KINDS), ("Qwen3MoeForCausalLM", ROUTED),
        ("DeepseekV3ForCausalLM", DEEPSEEK), ("GlmMoeDsaForCausalLM", {**DEEPSEEK, **INDEXED}),
        ("Qwen3NextForCausalLM", HYBRID), ("NemotronHForCausalLM", NEMOTRON),
        ("GraniteMoeHybridForCausalLM", GRANITE), ("HunYuanMoEV1ForCausalLM", HUNYUAN),
        ("DeciLMForCausalLM", DECILM),
    )),
    {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {**QWEN, **KINDS}},
)  # fmt: skip
VALUES = (
    *(None, True, False, -1, 0, 1, 3, 10**9, 10**40, -(10**40), 1.5, float("nan"), float("inf")),
    *("", "x", "12", "re:(", "*", "a\nb"),
    *([], [1], [None], ["x"], [[]], [{}], {}, {"a": 1}, {"a": {"b": []}}),
)


def places(value, where=()):
    """List the paths to every value inside a JSON object."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value[:3]) if isinstance(value, list) else inner
    for key, found in inner:
        yield (*where, key)
        yield from places(found, (*where, key))


def broken(figures, draw):
    figures = copy.deepcopy(figures)
    for _ in range(draw.choice((1, 1, 2, 3))):
        *parents, last = draw.choice(list(places(figures)) or [("a",)])
        holder = figures
        for key in parents:
            holder = holder[key]
        if isinstance(holder, dict) and draw.random() < 0.2:
            holder.pop(last, None)
        else:
            holder[last] = copy.deepcopy(draw.choice(VALUES))
    return figures


@pytest.mark.parametrize("seed", range(8))
def test_only_refusals_and_answers(seed):
    draw = random.Random(seed)
    answered = 0
    for _ in range(60):
        figures = broken(draw.choice(CONFIGS), draw)
        beside = {"quantization": broken(MIXED, draw)} if draw.random() < 0.2 else None
        try:
            spec = build(figures, beside, "config.json", "hostile")
        except UserError as refusal:
            assert str(refusal).startswith("config.json: ")
            assert "\n" not in str(refusal)
            continue
        answered += 1
        assert parameters(spec) > 0
        for layout in (Parallel(), Parallel(tp=2), Parallel(pp=2)):
            if layout_problem(spec, layout) is None:
                assert weight_bytes(spec, layout) > 0
                assert operators(spec, layout)
                assert kv_layout(spec, layout) is not None
                assert state_bytes(spec, layout) >= 0
    assert 0 < answered < 60
