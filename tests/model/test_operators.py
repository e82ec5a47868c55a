"""Operator shapes under tensor, data and expert parallelism."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiconf.model import layout_problem, load_model, model_names, operators
from aiconf.model.cache import kv_bytes_per_token, kv_layout
from aiconf.model.memory import (
    active_parameters,
    parameters,
    weight_bytes,
)
from aiconf.model.operators import (
    Collective,
    Gemm,
    GqaAttention,
    MlaAttention,
    Moe,
    MoeExchange,
    PipelineSend,
    SparseBlock,
)
from aiconf.model.shard import stage_layers, stages
from aiconf.parallel import Parallel


def of(kind, found):
    return [operator for operator in found if isinstance(operator, kind)]


def test_dense_shapes():
    found = operators(load_model("Qwen/Qwen3-32B-FP8"), Parallel(8))
    shapes = {(g.n, g.k, g.count) for g in of(Gemm, found)}
    assert shapes == {
        (1280, 5120, 64),
        (5120, 1024, 64),
        (6400, 5120, 64),
        (5120, 3200, 64),
        (18992, 5120, 1),
    }
    reduces = [c for c in of(Collective, found) if c.op == "all_reduce"]
    assert sum(c.count for c in reduces) == 2 * 64 + 1
    assert of(GqaAttention, found) == [GqaAttention(8, 1, 128, None, 64)]


def test_single_gpu_has_no_traffic():
    found = operators(load_model("DeepSeek-R1"), Parallel())
    assert not of(Collective, found) + of(MoeExchange, found) + of(PipelineSend, found)


def test_latent_attention():
    (attention,) = of(MlaAttention, operators(load_model("DeepSeek-R1"), Parallel(8, ep=8)))
    assert (attention.heads, attention.count) == (16, 61)
    assert [(g.n, g.k) for g in attention.projections] == [
        (2112, 7168),
        (3072, 1536),
        (4096, 512),
        (7168, 2048),
    ]


def test_attention_data_parallel():
    spec = load_model("DeepSeek-R1")
    found = operators(spec, Parallel(tp=2, dp=4, ep=8))
    assert of(MoeExchange, found) == [MoeExchange(8, 7168, 8, 256, "fp8_block", 58, 0.5)]
    assert of(Moe, found)[0].ep == 8
    split = operators(spec, Parallel(tp=1, dp=8, ep=1))
    assert not of(MoeExchange, split)
    assert {c.op for c in of(Collective, split)} == {"all_gather", "reduce_scatter"}


def test_windows_and_replicated_kv():
    spec = load_model("gpt-oss-120b")
    found = of(GqaAttention, operators(spec, Parallel(16)))
    assert {(a.window, a.kv_heads, a.count) for a in found} == {(128, 1, 18), (None, 1, 18)}
    assert kv_layout(spec, Parallel(16)) == ((None, 4608.0), (128, 4608.0))
    assert kv_bytes_per_token(spec, Parallel(16)) == kv_bytes_per_token(spec, Parallel(8))


def test_kv_bytes():
    llama = load_model("meta-llama/Llama-3.1-70B-Instruct")
    assert kv_bytes_per_token(llama, Parallel()) == 2 * 8 * 128 * 80 * 2
    assert kv_bytes_per_token(llama, Parallel(pp=3)) == 2 * 8 * 128 * 27 * 2
    assert kv_bytes_per_token(llama, Parallel(), "fp8") == 2 * 8 * 128 * 80
    assert kv_bytes_per_token(load_model("DeepSeek-R1"), Parallel(8)) == 576 * 61 * 2


@pytest.mark.parametrize("name", model_names())
def test_products_hold_the_active_parameters(name):
    """Weights met in the products are the active parameters, but for norms and biases."""
    spec = load_model(name)
    found = operators(spec, Parallel())
    met = sum(g.n * g.k * g.count for g in of(Gemm, found))
    blocks = [*of(MlaAttention, found), *of(SparseBlock, found)]
    met += sum(g.n * g.k * g.count for block in blocks for g in block.projections)
    for moe in of(Moe, found):
        met += (3 if moe.gated else 2) * moe.hidden * moe.inter * moe.topk * moe.count
    assert met == pytest.approx(active_parameters(spec), rel=0.003)


LAYOUTS = st.builds(
    lambda tp, pp, dp, ep: Parallel(tp, pp, dp, ep if (tp * dp) % ep == 0 else 1),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8, 16, 64]),
)


@given(st.sampled_from(model_names()), LAYOUTS)
def test_shards_add_up(name, parallel):
    spec = load_model(name)
    if layout_problem(spec, parallel):
        return
    held = weight_bytes(spec, parallel) * parallel.gpus
    assert held >= weight_bytes(spec, Parallel()) * 0.999
    assert weight_bytes(spec, parallel) <= weight_bytes(spec, Parallel()) * 1.0001
    assert sum(stage_layers(spec.layer_count, parallel.pp)) == spec.layer_count
    assert len(stages(spec, parallel)) == parallel.pp
    assert parameters(spec) > 0
    assert all(getattr(op, "count", 1) > 0 for op in operators(spec, parallel))


@pytest.mark.parametrize(
    ("name", "layout", "part"),
    [
        ("Qwen3-32B", "tp2dp2", "no experts"),
        ("Qwen3-32B", "tp3", "does not divide the 64 attention heads"),
        ("Qwen/Qwen3-32B-FP8", "tp16", "block of 128"),
        ("Qwen3-32B", "tp1pp65", "64 layers"),
        ("Qwen/Qwen3-235B-A22B-FP8", "tp8", "larger ep"),
        ("DeepSeek-R1", "tp1pp1dp3ep3", "256 experts"),
    ],
)
def test_layout_problems(name, layout, part):
    assert part in layout_problem(load_model(name), Parallel.parse(layout))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("Qwen/Qwen3-32B-FP8", "tp8"),
        ("Qwen/Qwen3-235B-A22B-FP8", "tp8pp1dp1ep8"),
        ("gpt-oss-120b", "tp8"),
        ("DeepSeek-R1", "tp1pp1dp64ep64"),
        ("MiniMax-M2.5", "tp8pp1dp1ep8"),
    ],
)
def test_legal_layouts(name, layout):
    assert layout_problem(load_model(name), Parallel.parse(layout)) is None
