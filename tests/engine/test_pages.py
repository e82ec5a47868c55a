"""Caches of several kinds in one pool of pages, and weights as kernels hold them."""

import numpy as np
import pytest

from aiconf.engine.pages import shared_pages
from aiconf.engine.platform import platform
from aiconf.engine.traits import load_traits
from aiconf.model import load_model
from aiconf.model.expert_kernel import PLAIN, ExpertKernel
from aiconf.model.memory import weight_bytes
from aiconf.model.rotary import rotary_bytes, rotary_rows
from aiconf.model.spec import MoeFfn
from aiconf.parallel import Parallel


def pages(model, layout="tp1", block=16, **options):
    spec = load_model(model)
    rule = load_traits("vllm").kv.shared_pages
    kv = spec.quantization.kv
    return shared_pages(spec, Parallel.parse(layout), kv, rule, block, **options)


def shape(found):
    return [(table.count, table.block, table.window) for table in found.tables]


def test_groups_have_as_many_layers_as_the_rarest_kind():
    found = pages("google/gemma-3-27b-it")  # 52 windows and 10 full layers
    assert shape(found) == [(6, 16, 1024), (1, 16, None)]
    assert found.page == 10 * 16 * 2 * 16 * 128 * 2


def test_kinds_of_nearly_as_many_layers_are_one_group_each():
    found = pages("gpt-oss-20b", drafting=True)  # 12 windows, 12 full layers and the draft's
    assert shape(found) == [(1, 16, 128), (1, 16, None)]
    assert found.page == 13 * 16 * 2 * 8 * 64 * 2


def test_a_page_of_attention_is_at_least_a_state():
    found = pages("Qwen/Qwen3-Next-80B-A3B-Instruct", "tp8")
    assert found.states == 3  # 36 layers in groups of 12
    (table,) = found.tables
    layer, state = found.page / 12, load_model("Qwen/Qwen3-Next-80B-A3B-Instruct").layers[0]
    assert table.block % 16 == 0 and layer == table.block * 2 * 256 * 2
    assert state.attention.key_dim * state.attention.value_dim * 4 * 4 <= layer


def test_pages_of_deepseek_v4_are_the_engines():
    """Strides of a page and its groups: vllm-project/vllm pull request 48993, issue 54703."""
    assert pages("deepseek-ai/DeepSeek-V4-Pro", block=256).page == 1_473_408
    found = pages("deepseek-ai/DeepSeek-V4-Flash", block=256)
    assert shape(found) == [(1, 256, None), (2, 64, 128), (1, 4, 8), (1, 8, 128)]
    assert pages("deepseek-ai/DeepSeek-V4-Flash", "tp2pp2", 256).page < found.page


@pytest.mark.parametrize("model", ["Llama-3.1-70B", "DEEPSEEK_R1", "GLM-5", "minimax-m3"])
def test_caches_that_keep_the_same_tokens_share_a_table(model):
    assert pages(model) is None


def test_chunks_of_llama_4_are_kept_whole():
    spec = load_model("meta-llama/Llama-4-Scout-17B-16E-Instruct")
    room = {
        backend: platform("h200_sxm", backend).capacity(
            spec, Parallel(tp=4), token_budget=8192, max_sequences=64, kv_dtype="bf16"
        )
        for backend in ("vllm", "sglang")
    }
    assert pages(spec.checkpoint) is None
    assert [window for window, _ in room["vllm"].per_token] == [None]
    assert {window for window, _ in room["sglang"].per_token} == {8192, None}


@pytest.mark.parametrize(
    "model", ["deepseek-v4-flash", "gpt-oss-120b", "google/gemma-3-4b-it", "mimo-v2-flash"]
)
def test_a_sequence_takes_up_at_least_its_caches(model):
    spec = load_model(model)
    room = platform("h200_sxm", "vllm").capacity(
        spec, Parallel(tp=4), token_budget=8192, max_sequences=64,
        kv_dtype=spec.quantization.kv, longest=100_000,
    )  # fmt: skip
    tokens = np.array([1_000.0, 10_000.0, 100_000.0])
    assert (room.sequence_bytes(tokens) >= room.cache_bytes(tokens) * (1 - 1e-9)).all()
    assert room.pages.admission_bytes(100_000, 8192) >= room.sequence_bytes(100_000)
    assert room.passing > 0 and room.lasting == room.kv - room.passing


def test_short_requests_need_less_room_for_their_prompts():
    found = pages("google/gemma-3-27b-it")
    assert found.passing_bytes(8192, 512) == pytest.approx(0.0, abs=13 * found.page)
    assert 0 < found.passing_bytes(2048, 8192) < found.passing_bytes(8192, 8192)
    assert found.passing_bytes(8192, 10**6) == pytest.approx(found.passing_bytes(8192))


def test_kernels_pad_experts_or_hold_scales_twice():
    spec, one = load_model("gpt-oss-120b"), Parallel()
    traits = load_traits("vllm")
    plain = weight_bytes(spec, one)
    held = {sm: weight_bytes(spec, one, experts=traits.expert_kernel(spec, sm)) for sm in (90, 100)}
    assert plain < held[90] < held[100]
    experts = 36 * 128 * 3 * 2880 * 2880
    assert held[90] - plain == pytest.approx(experts / 32, rel=0.1)  # scales, and padding of them
    padded = 36 * 128 * 3 * (3072**2 - 2880**2) * (0.5 + 1 / 32)
    assert held[100] - plain == pytest.approx(padded, rel=0.02)


def test_a_plain_kernel_adds_nothing():
    ffn = MoeFfn(experts=8, topk=2, intermediate=100, bias=True)
    assert PLAIN.beside(ffn, 77, 33) == 0.0
    assert PLAIN.weights(ffn, 77, 33) == 3 * 77 * 33
    assert ExpertKernel(hidden=64, out=32, width=32).weights(ffn, 77, 33) == 2 * 128 * 64 + 64 * 96


@pytest.mark.parametrize(
    ("figures", "rows"),
    [
        ({}, ()),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, ()),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, (800,)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8}, "rope_local_base_freq": 1e4},
         (800, 100)),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8},
                              "sliding_attention": {"rope_type": "default"}}}, (800, 100)),
        ({"rope_parameters": {"rope_type": "linear", "factor": 8}}, (800,)),
        ({"rope_scaling": {"rope_type": "linear", "factor": "8"}}, ()),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e300}}, ()),
        ({"rope_scaling": ["linear"], "rope_parameters": []}, ()),
    ],
)  # fmt: skip
def test_rows_of_rotary_tables(figures, rows):
    assert rotary_rows(figures, 100) == rows


def test_tables_of_rotary_angles():
    assert rotary_bytes(load_model("Llama-3.1-8B"), 2) == 131072 * 128 * 2
    assert rotary_bytes(load_model("DEEPSEEK_R1"), 2) == 163840 * 64 * 2
    assert rotary_bytes(load_model("google/gemma-3-27b-it"), 2) == 9 * 131072 * 128 * 2


def test_long_prompts_of_sparse_attention_gather_their_cache():
    spec = load_model("zai-org/GLM-5.3-FP8")

    def activations(kv, system="h200_sxm", **options):
        return platform(system, "vllm").capacity(
            spec, Parallel(tp=8), token_budget=8192, max_sequences=64, kv_dtype=kv, **options
        ).activations  # fmt: skip

    more = activations("fp8", longest=100_000) - activations("fp8")
    assert more == 5 * 100_000 * 576 * 2
    assert activations("bf16", longest=100_000) == activations("bf16")
    assert activations("fp8", "b200_sxm", longest=9) == activations("fp8", "b200_sxm")
