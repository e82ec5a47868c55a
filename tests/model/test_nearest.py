"""Architectures that are not known: the nearest block with a note, or a refusal by name."""

import pytest

from aiconf.errors import UserError
from aiconf.model.checkpoint import read_config
from aiconf.model.spec import Attention, DenseFfn, MoeFfn

USUAL = {
    "architectures": ["NovelForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
ROUTED = {
    **USUAL,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 256,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}


def test_dense():
    spec = read_config(USUAL)
    (group,) = spec.layers
    assert (group.count, group.attention) == (6, Attention("gqa", 8, 2, 128, 128))
    assert group.ffn == DenseFfn(2048)
    assert spec.notes == (
        "architecture 'NovelForCausalLM' is not known: taken as full attention of 8 query and 2 "
        "KV heads of 128 without biases and without norms on q and k; a gated feed-forward of 2048",
    )


def test_experts():
    spec = read_config(ROUTED)
    plain, routed = spec.layers
    assert (plain.count, plain.ffn) == (1, DenseFfn(2048))
    assert routed.ffn == MoeFfn(16, 4, 256, shared_intermediate=512)
    for said in ("16 gated experts of 256, 4 per token", "first 1 layers"):
        assert said in spec.notes[0]


def test_stated_windows():
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    spec = read_config({**USUAL, "sliding_window": 512, "layer_types": kinds})
    assert [(g.count, g.attention.window) for g in spec.layers] == [(5, 512), (1, None)]
    assert "5 layers of it with a window of 512" in spec.notes[0]
    assert len(read_config({**USUAL, "sliding_window": 4096}).layers) == 1
    off = {**USUAL, "sliding_window": 512, "use_sliding_window": False}
    assert len(read_config(off).layers) == 1


def test_own_head_is_assumed_where_nothing_is_said():
    figures = {key: value for key, value in USUAL.items() if key != "tie_word_embeddings"}
    assert "an output head of its own" in read_config(figures).notes[0]


@pytest.mark.parametrize(
    ("section", "text", "architecture"),
    [
        ("text_config", {"model_type": "qwen3_text"}, "Qwen3ForCausalLM"),
        ("llm_config", {"architectures": ["Qwen3ForCausalLM"]}, "Qwen3ForCausalLM"),
    ],
)
def test_known_language_model_beside_something_else(section, text, architecture):
    figures = {key: value for key, value in USUAL.items() if key != "architectures"}
    outer = {"architectures": ["NovelChatModel"], section: {**figures, **text}}
    spec = read_config(outer)
    assert spec.layers[0].attention.qk_norm
    assert f"only {section} is modelled, as {architecture}" in spec.notes[0]


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"mamba_d_state": 16}, "'mamba_d_state' means a state-space"),
        ({"linear_num_key_heads": 4}, "linear attention"),
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"index_topk": 2048}, "sparse attention"),
        ({"cross_attention_layers": [3]}, "cross attention"),
        ({"sliding_window_pattern": 6}, "pattern of layers that is not understood"),
        ({"num_attention_groups": 4}, "KV heads under a name"),
        ({"num_kv_shared_layers": 2}, "share a KV cache"),
        ({"sliding_window": 512}, "does not say which layers"),
        ({"layer_types": ["spiral_attention"] * 6, "sliding_window": 5}, "'spiral_attention'"),
        ({"vocab_size": None}, "'vocab_size' is missing"),
        ({"vocab_size": None, "auto_map": {"AutoConfig": "x.Y"}}, "trust_remote_code"),
        ({"num_attention_heads": 7}, "not a multiple of"),
        ({"num_experts": 8}, "'num_experts_per_tok' is missing"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "exceeds the 8 experts"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "moe_layer_freq": 2}, "'moe_layer_freq'"),
    ],
)
def test_refused(figures, says):
    with pytest.raises(UserError) as caught:
        read_config({**USUAL, **figures})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, False, 0, []])
def test_a_key_that_says_none_reveals_nothing(value):
    assert read_config({**USUAL, "mamba_d_state": value, "use_cla": value}).layers
