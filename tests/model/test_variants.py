"""Architectures that differ from known ones in small things: their sizes and what differs.

Figures are those that huggingface/transformers gives as defaults of the named checkpoint
(models/NAME/configuration_NAME.py), or of the checkpoint's card; sizes are the published ones.
"""

import pytest

from aiconf.errors import UserError
from aiconf.model.checkpoint import read_config
from aiconf.model.memory import active_parameters, parameters
from aiconf.model.spec import LinearAttention, MoeFfn


def config(architecture, hidden, layers, heads, kv_heads, width, vocab, **more):
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": width,
        "vocab_size": vocab,
        "max_position_embeddings": 131072,
        **more,
    }


COMMAND_R = config("CohereForCausalLM", 8192, 40, 64, 64, 22528, 256000)
GEMMA_2 = config("Gemma2ForCausalLM", 2304, 26, 8, 4, 9216, 256000, head_dim=256,
                 sliding_window=4096)  # fmt: skip
GLM_4 = config("Glm4ForCausalLM", 4096, 40, 32, 2, 13696, 151552, head_dim=128,
               attention_bias=True)  # fmt: skip
SEED = config("SeedOssForCausalLM", 5120, 64, 80, 8, 27648, 155136, head_dim=128,
              attention_bias=True)  # fmt: skip
ERNIE = config("Ernie4_5_MoeForCausalLM", 2560, 28, 20, 4, 12288, 103424, moe_k=6,
               moe_num_experts=64, moe_num_shared_experts=2, moe_intermediate_size=1536,
               moe_layer_start_index=1, moe_layer_end_index=-1)  # fmt: skip
QWEN_MOE = config("Qwen2MoeForCausalLM", 2048, 24, 16, 16, 5632, 151936, num_experts=60,
                  num_experts_per_tok=4, moe_intermediate_size=1408,
                  shared_expert_intermediate_size=5632)  # fmt: skip
PHI_MOE = config("PhiMoEForCausalLM", 4096, 32, 32, 8, 6400, 32064, num_local_experts=16,
                 num_experts_per_tok=2, attention_bias=True, sliding_window=131072)  # fmt: skip
SMOL = config("SmolLM3ForCausalLM", 2048, 36, 16, 4, 11008, 128256)
OLMOE = config("OlmoeForCausalLM", 2048, 16, 16, 16, 1024, 50304, num_experts=64,
               num_experts_per_tok=8)  # fmt: skip
GLM_FLASH = config("Glm4MoeLiteForCausalLM", 2048, 47, 20, 20, 10240, 154880,
                   q_lora_rank=768, kv_lora_rank=512, qk_nope_head_dim=192, qk_rope_head_dim=64,
                   v_head_dim=256, n_routed_experts=64, n_shared_experts=1, num_experts_per_tok=4,
                   moe_intermediate_size=1536)  # fmt: skip
GLM_FLASH["mlp_layer_types"] = ["dense"] + ["sparse"] * 46
HUNYUAN = config("HunYuanMoEV1ForCausalLM", 4096, 32, 32, 8, 3072, 128167, head_dim=128,
                 num_experts=64, moe_topk=[8] * 32, moe_intermediate_size=[3072] * 32,
                 num_shared_expert=[1] * 32, use_mixed_mlp_moe=True, use_qk_norm=True,
                 tie_word_embeddings=True)  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "total", "active"),
    [
        (COMMAND_R, 35.0, None),
        (GEMMA_2, 2.61, None),
        (GLM_4, 9.4, None),
        (SEED, 36.0, None),
        (ERNIE, 21.8, 3.35),
        (QWEN_MOE, 14.3, 2.38),
        (PHI_MOE, 41.9, 6.5),
        (SMOL, 3.08, None),
        (OLMOE, 6.92, 1.2),
        (GLM_FLASH, 29.94, None),
        (HUNYUAN, 80.4, 12.7),
    ],
    ids=lambda value: value["architectures"][0] if isinstance(value, dict) else str(value),
)
def test_sizes(figures, total, active):
    spec = read_config(figures)
    assert parameters(spec) / 1e9 == pytest.approx(total, rel=0.01)
    if active:
        assert active_parameters(spec) / 1e9 == pytest.approx(active, rel=0.02)
    assert spec.notes == ()


def test_what_differs():
    (command_r,) = read_config(COMMAND_R).layers
    assert command_r.norms == 1  # attention and feed-forward side by side
    windowed, full = read_config(GEMMA_2).layers
    assert (windowed.count, windowed.attention.window, windowed.norms) == (13, 4096, 4)
    assert (full.count, full.attention.window) == (13, None)
    cohere = {**COMMAND_R, "architectures": ["Cohere2ForCausalLM"], "sliding_window": 4096}
    assert [group.count for group in read_config(cohere).layers] == [30, 10]
    olmo = read_config({**SMOL, "architectures": ["Olmo2ForCausalLM"]}).layers[0].attention
    assert (olmo.qk_norm, olmo.qk_norm_joint) == (True, True)
    assert not read_config({**SMOL, "architectures": ["ArceeForCausalLM"]}).layers[0].ffn.gated
    coder = {**SMOL, "architectures": ["Starcoder2ForCausalLM"]}
    assert read_config(coder).layers[0].attention.bias
    dots = {**ERNIE, "architectures": ["Dots1ForCausalLM"], "n_routed_experts": 8}
    dots |= {"num_experts_per_tok": 2, "first_k_dense_replace": 1}
    assert [group.attention.qk_norm for group in read_config(dots).layers] == [True, True]


SMALL_4 = config("Mistral4ForCausalLM", 4096, 36, 32, 32, 12288, 131072,
                 q_lora_rank=1024, kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=64,
                 v_head_dim=128, n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=4,
                 moe_intermediate_size=2048, first_k_dense_replace=0)  # fmt: skip


def test_mistral_with_and_without_latent_attention():
    outer = {"architectures": ["Mistral3ForConditionalGeneration"]}
    latent = read_config({**outer, "text_config": SMALL_4})
    assert parameters(latent) / 1e9 == pytest.approx(119.0, rel=0.01)
    counted = active_parameters(latent) + latent.vocab * latent.hidden  # with the embedding
    assert counted / 1e9 == pytest.approx(6.5, rel=0.03)
    assert latent.layers == read_config(SMALL_4).layers
    dense = read_config({**outer, "text_config": {**SEED, "sliding_window": None}})
    assert dense.layers[0].attention.kind == "gqa"


def test_default_of_a_tied_head():
    assert read_config(COMMAND_R).tied_embeddings
    assert not read_config({**COMMAND_R, "tie_word_embeddings": False}).tied_embeddings
    assert not read_config(GLM_4).tied_embeddings


def test_granite_hybrid():
    kinds = (["mamba"] * 3 + ["attention"]) * 2
    figures = config("GraniteMoeHybridForCausalLM", 1024, 8, 8, 2, 512, 1000, layer_types=kinds,
                     mamba_n_heads=32, mamba_d_head=64, mamba_d_state=128, mamba_d_conv=4,
                     shared_intermediate_size=768, num_local_experts=16,
                     num_experts_per_tok=4)  # fmt: skip
    linear, full = read_config(figures).layers
    assert (linear.count, linear.attention) == (6, LinearAttention("mamba2", 1, 32, 128, 64, 4))
    assert (full.count, full.ffn) == (2, MoeFfn(16, 4, 512, shared_intermediate=768))
    dense = read_config({**figures, "num_local_experts": 0, "num_experts_per_tok": 0})
    assert dense.layers[0].ffn.intermediate == 768
    with pytest.raises(UserError, match="do not fit an inner width of 2048"):
        read_config({**figures, "mamba_d_head": 63})


DECILM = config("DeciLMForCausalLM", 8192, 3, 64, None, None, 1000)


def block(no_op=False, group=8, times=5.25, **more):
    attention = {"no_op": no_op, "n_heads_in_group": None if no_op else group, **more}
    return {"attention": attention, "ffn": {"no_op": False, "ffn_mult": times}}


def test_layers_without_attention():
    blocks = [block(), block(no_op=True, times=1.0), block()]
    spec = read_config({**DECILM, "block_configs": blocks})
    alone, both = spec.layers
    assert (both.count, both.attention.kv_heads, both.ffn.intermediate) == (2, 8, 28672)
    assert (alone.count, alone.attention, alone.ffn.intermediate, alone.norms) == (1, None, 5632, 1)


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([block()], "block_configs has 1 entries for 3 layers"),
        ([block(), block(), {}], "layer 2 has no 'attention'"),
        ([block(), block(), block(replace_with_linear=True)], "'replace_with_linear' in layer 2"),
        ([block(group=7)] * 3, "7 does not divide 64 heads"),
        ([block(times="wide")] * 3, "'ffn_mult' must be a positive number"),
        ([block(no_op=True)] * 3, "no layer with attention"),
    ],
)
def test_broken_blocks(blocks, says):
    with pytest.raises(UserError, match=says):
        read_config({**DECILM, "block_configs": blocks})
