"""DeepSeek-V4 and MiniMax-M3: what config.json says, and what a rank holds."""

import copy

import pytest

from aiconf.errors import UserError
from aiconf.model.cache import cache_kind, kv_layout, state_bytes
from aiconf.model.checkpoint import read_config
from aiconf.model.layout import layout_problem
from aiconf.model.library import load_model
from aiconf.model.memory import active_parameters, parameters
from aiconf.model.operators import PipelineSend, SparseBlock, operators
from aiconf.model.spec import draft_model
from aiconf.parallel import Parallel

V4 = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "compress_ratios": [128, 128, 4, 128, 4, 0],
    "expert_dtype": "fp4",
    "hc_mult": 4,
    "head_dim": 512,
    "hidden_size": 7168,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 1024,
    "max_position_embeddings": 1048576,
    "moe_intermediate_size": 3072,
    "n_routed_experts": 384,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 5,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "o_groups": 16,
    "o_lora_rank": 1024,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "vocab_size": 129280,
}
M3 = {
    "architectures": ["MiniMaxM3ForCausalLM"],
    "dense_intermediate_size": 12288,
    "head_dim": 128,
    "hidden_size": 6144,
    "intermediate_size": 3072,
    "max_position_embeddings": 1048576,
    "moe_layer_freq": [0, 1, 1],
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "num_local_experts": 128,
    "shared_intermediate_size": 3072,
    "sparse_attention_config": {
        "sparse_attention_freq": [0, 1, 1],
        "sparse_block_size": 128,
        "sparse_index_dim": 128,
        "sparse_num_index_heads": 4,
        "sparse_topk_blocks": 16,
    },
    "tie_word_embeddings": False,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 200064,
}


def test_layers_of_v4_are_the_embedded_ones():
    spec, pro = read_config(V4, "DeepSeek-V4"), load_model("deepseek-ai/DeepSeek-V4-Pro")
    assert [(g.count, g.attention.compress) for g in spec.layers] == [(2, 4), (3, 128)]
    assert {g.attention for g in spec.layers} == {g.attention for g in pro.layers}
    assert {g.ffn for g in spec.layers} == {g.ffn for g in pro.layers}
    assert (spec.quantization, spec.streams) == (pro.quantization, 4)
    mixed = {"quant_method": "fp8", "weight_block_size": [128, 128], "moe_quant_algo": "NVFP4"}
    assert read_config({**V4, "quantization_config": mixed}).quantization.experts == "nvfp4"


def test_layers_of_m3_are_the_embedded_ones():
    spec, embedded = read_config(M3, "M3"), load_model("MiniMaxAI/MiniMax-M3")
    assert [(g.count, g.attention.index_topk) for g in spec.layers] == [(1, 0), (2, 2048)]
    assert {(g.attention, g.ffn) for g in spec.layers} == {
        (g.attention, g.ffn) for g in embedded.layers
    }


@pytest.mark.parametrize(
    ("name", "total", "active"),
    # Model cards, which round; the input embedding is not among the active ones.
    [("DeepSeek-V4-Pro", 1.6e12, 49e9), ("DeepSeek-V4-Flash", 284e9, 13e9)],
)
def test_published_sizes(name, total, active):
    spec = load_model(name)
    assert parameters(spec) == pytest.approx(total, rel=0.02)
    assert active_parameters(spec) == pytest.approx(active, rel=0.025)


def test_cache_of_compressed_attention():
    """What a million tokens of V4-Pro take in bf16: 8.7 GiB (DeepSeek-V4 report, figure 1)."""
    spec = load_model("DeepSeek-V4-Pro")
    per_token, window = dict(kv_layout(spec, Parallel(), "bf16")).values()
    assert per_token * 2**20 / 2**30 == pytest.approx(8.7, rel=0.02)
    assert window == 61 * 1024
    fp8 = dict(kv_layout(spec, Parallel(tp=8)))  # whole on every rank
    assert fp8 == {None: 30 * (584 + 132) / 4 + 31 * 584 / 128, 128: 61 * 584}
    # Open groups: 8 tokens of 2 x 2 x (512 + 128) and 128 of 2 x 512 float32.
    assert state_bytes(spec, Parallel()) == 4 * (30 * 8 * 4 * 640 + 31 * 128 * 2 * 512)
    assert cache_kind(spec) == "compressed"


def test_cache_of_chosen_blocks():
    spec = load_model("MiniMaxAI/MiniMax-M3")
    assert kv_layout(spec, Parallel(tp=4)) == ((None, 60 * 2 * 128 * 2 + 57 * 128 * 2),)
    assert cache_kind(spec) == "chosen"


def test_a_ratio_of_one_is_no_compression():
    ones = {**V4, "compress_ratios": [1, 1, 4, 128, 4]}
    assert read_config(ones, "x").layers == (
        read_config({**V4, "compress_ratios": [0, 0, 4, 128, 4]}, "x").layers
    )


def test_m3_without_sparse_attention_sees_all():
    off = {**M3["sparse_attention_config"], "use_sparse_attention": False}
    spec = read_config({**M3, "sparse_attention_config": off}, "x")
    assert {group.attention.index_topk for group in spec.layers} == {0}
    assert cache_kind(spec) == "gqa"


def test_names_of_m3_in_the_engines():
    named = {**M3, "architectures": ["MiniMaxM3SparseForCausalLM"]}
    assert read_config(named, "M3").layers == read_config(M3, "M3").layers


@pytest.mark.parametrize("name", ["DeepSeek-V4-Pro", "DeepSeek-V4-Flash"])
def test_the_drafting_layer_of_v4_has_a_window_alone(name):
    spec = load_model(name)
    layer = draft_model(spec).layers[0]
    assert layer.ffn == spec.layers[-1].ffn
    assert (layer.attention.compress, layer.attention.index_topk) == (0, 0)
    assert kv_layout(draft_model(spec), Parallel()) == ((128, 584),)
    assert state_bytes(draft_model(spec), Parallel()) == 0


def test_a_pipeline_sends_the_streams_and_no_residual():
    def sent(spec):
        return next(
            o.bytes_per_token
            for o in operators(spec, Parallel(tp=2, pp=2))
            if isinstance(o, PipelineSend)
        )

    assert sent(load_model("DeepSeek-V4-Flash")) == 4 * 4096 * 2 / 2
    assert sent(load_model("MiniMaxAI/MiniMax-M3")) == 2 * 6144 * 2 / 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [("DeepSeek-V3.2", "indexed"), ("GLM-5.3", "indexed"), ("DeepSeek-V3", "mla"),
     ("Kimi-K3", "mla"), ("Qwen3-32B", "gqa")],
)  # fmt: skip
def test_kernels_that_read_a_cache(name, kind):
    assert cache_kind(load_model(name)) == kind


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_ranks_share_heads_and_replicate_latents(tp):
    blocks = [
        o
        for o in operators(load_model("DeepSeek-V4-Pro"), Parallel(tp))
        if isinstance(o, SparseBlock)
    ]
    assert {(block.kind, block.heads) for block in blocks} == {
        ("csa", 128 // tp),
        ("hca", 128 // tp),
    }
    hca = next(block for block in blocks if block.kind == "hca")
    assert [(g.n, g.k) for g in hca.projections] == [
        (1536 + 512, 7168), (65536 // tp, 1536), (2 * 512, 7168),
        (1024, 65536 // tp), (7168, 16384 // tp),
    ]  # fmt: skip


def test_layouts_that_cut_output_groups_are_refused():
    problem = layout_problem(load_model("DeepSeek-V4-Pro"), Parallel(tp=32, ep=1))
    assert problem is not None
    assert "output groups" in problem


@pytest.mark.parametrize(
    ("figures", "change", "message"),
    [
        (V4, {"compress_ratios": [4, 4]}, "'compress_ratios' must list a ratio for each of 5"),
        (V4, {"compress_ratios": [4, "x", 4, 4, 4]}, "must hold 0, 4 and 128, not 'x'"),
        (V4, {"compress_ratios": [4, 4, 8, 4, 4]}, "must hold 0, 4 and 128, not 8"),
        (V4, {"compress_ratios": [True] * 5}, "must hold 0, 4 and 128, not True"),
        (V4, {"qk_rope_head_dim": 1024}, "1024 is more than the head_dim 512"),
        (V4, {"o_groups": 48}, "not a multiple of o_groups 48"),
        (M3, {"moe_layer_freq": [1]}, "'moe_layer_freq' must list 0 or 1 for each of 3 layers"),
        (M3, {"sparse_attention_config": None}, "'sparse_attention_config' is missing"),
        (M3, {"num_key_value_heads": 8}, "not one for each of 8 KV heads"),
    ],
)
def test_contradictions_are_named(figures, change, message):
    with pytest.raises(UserError, match=message):
        read_config(copy.deepcopy(figures) | change, "x")
