from dataclasses import replace

import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.engine.launches import ATTENTION, launch_seconds, launches
from aiconf.engine.platform import platform
from aiconf.engine.step import StepModel
from aiconf.model import load_model, operators
from aiconf.model.operators import Collective, Gemm
from aiconf.parallel import Parallel

ENGINES = [
    ("QWEN3_32B", "h200_sxm", "vllm", "tp2"),
    ("QWEN3_32B", "h200_sxm", "sglang", "tp4pp2"),
    ("gpt-oss-120b", "gb200", "trtllm", "tp2pp1dp1ep2"),
    ("DEEPSEEK_R1", "gb200", "trtllm", "tp1pp1dp8ep8"),
    ("DEEPSEEK_R1", "h200_sxm", "sglang", "tp8"),
    ("Qwen3-235B-A22B", "b200_sxm", "vllm", "tp4pp1dp1ep4"),
    ("Qwen3.5-397B-A17B", "b200_sxm", "sglang", "tp4"),
    ("Qwen3.5-27B", "h200_sxm", "trtllm", "tp2pp2"),
    ("Nemotron-3-Nano-30B-A3B", "b200_sxm", "trtllm", "tp2pp1dp1ep2"),
    ("Kimi-K3", "gb300", "vllm", "tp1pp1dp32ep32"),
    ("Nemotron-H-56B", "h200_sxm", "vllm", "tp4pp2"),
    ("GLM-5", "b200_sxm", "sglang", "tp8"),
    ("GLM-5.2", "gb200", "vllm", "tp1pp1dp8ep8"),
]


@pytest.fixture(params=ENGINES, ids="-".join)
def engine(request, step):
    return step(*request.param)


def test_parts_and_origins_sum_to_the_total(engine):
    batch = Batch.of(
        prefill_tokens=[0, 0, 2048, 8192], prefill_sequences=[1, 1, 1, 3],
        prefill_past=[0, 0, 4096, 0], decode=[1, 64, 32, 0], context=3000,
    )  # fmt: skip
    time = engine.time(batch)
    assert time.by_part.sum(axis=0) == pytest.approx(time.seconds)
    assert time.by_origin.sum(axis=0) == pytest.approx(time.seconds)
    assert time.seconds == pytest.approx(engine.seconds(batch), rel=1e-9)
    # No part is negative, whatever was counted in another one.
    assert (time.by_part >= -1e-9).all()


def test_many_points_at_once_equal_one_by_one(engine):
    batch = Batch.of(decode=[1, 7, 33, 300], context=[100, 1000, 5000, 20000])
    single = [engine.seconds(batch[np.array([i])])[0] for i in range(4)]
    assert engine.seconds(batch) == pytest.approx(single)


def test_nothing_to_do_takes_no_time(engine):
    assert engine.seconds(Batch.of())[0] == 0.0


def test_a_prompt_beside_decodes_costs_more_than_the_decodes_but_less_than_both(engine):
    prompt = engine.seconds(Batch.of(prefill_tokens=4096, prefill_sequences=1))[0]
    decode = engine.seconds(Batch.of(decode=64, context=4000))[0]
    both = engine.seconds(
        Batch.of(prefill_tokens=4096, prefill_sequences=1, decode=64, context=4000)
    )[0]
    assert max(prompt, decode) < both * 1.0001
    assert both < (prompt + decode) * 1.05


def test_decode_of_one_is_bounded_below_by_reading_the_weights(step):
    engine = step("QWEN3_32B", "h200_sxm", "vllm", "tp1")
    weights = 31e9  # most of 32.8 billion parameters in fp8, less the embedding
    seconds = engine.seconds(Batch.of(decode=1, context=100))[0]
    assert seconds > weights / 4.8e12
    assert seconds < 4 * weights / 4.8e12


def test_tensor_parallelism_shortens_a_prompt(step):
    prompt = Batch.of(prefill_tokens=8192, prefill_sequences=1)
    times = [step(layout=f"tp{tp}").seconds(prompt)[0] for tp in (1, 2, 4, 8)]
    assert (np.diff(times) < 0).all()


def test_decode_batches_are_padded_to_captured_graphs(step):
    engine = step()
    sizes = engine.graph_sizes
    between = np.array([sizes[5] + 1.0, sizes[6]])
    low, high = engine.time(Batch.of(decode=between, context=1.0)).by_part[0]
    assert low == pytest.approx(high)  # products run at the padded size


def test_the_same_layout_is_built_once():
    from aiconf.engine.platform import platform
    from aiconf.model import load_model
    from aiconf.parallel import Parallel

    place, spec = platform("h200_sxm", "vllm"), load_model("QWEN3_32B")
    assert place.step(spec, Parallel(2), "bf16") is place.step(spec, Parallel(2), "bf16")


class TestAllReduceThatNorms:
    def test_it_is_used_up_to_the_engines_limit(self, step):
        engine = step("QWEN3_32B", "b300_sxm", "vllm", "tp8")
        assert engine.traits.norm_limit(103, 8) == 2 * 2**20
        assert engine.traits.norm_limit(103, 1) == 0.0
        assert engine.traits.norm_limit(90, 6) == 0.0

    def test_a_decode_batch_is_faster_than_with_two_kernels(self, step):
        batch = Batch.of(decode=[1, 24, 64], context=1000)
        joined = step("QWEN3_32B", "b300_sxm", "vllm", "tp8")
        apart = replace(joined.traits, norm_in_all_reduce={})
        other = StepModel(joined._tables, joined.spec, joined.parallel, apart, "bf16")
        assert (joined.seconds(batch) < other.seconds(batch)).all()

    def test_beyond_the_limit_nothing_changes(self, step):
        batch = Batch.of(prefill_tokens=8192)
        joined = step("QWEN3_32B", "b300_sxm", "vllm", "tp8")
        apart = replace(joined.traits, norm_in_all_reduce={})
        other = StepModel(joined._tables, joined.spec, joined.parallel, apart, "bf16")
        sampled = 2e-5  # the one sampled row stays below the limit, but has no norm of its own
        assert joined.seconds(batch) == pytest.approx(other.seconds(batch), abs=sampled)


def test_what_is_exposed_goes_with_the_layers(step):
    engine = step("QWEN3_32B", "b300_sxm", "vllm", "tp8")
    each = engine.traits.host.seconds_exposed_per_layer
    assert engine.exposed_seconds == pytest.approx(64 * each)
    none = replace(engine.traits, host=replace(engine.traits.host, seconds_exposed_per_layer=0.0))
    other = StepModel(engine._tables, engine.spec, engine.parallel, none, "bf16")
    batch = Batch.of(decode=[1, 32], context=1000)
    assert engine.seconds(batch) - other.seconds(batch) == pytest.approx([64 * each] * 2)


def test_joint_qk_norm_exchanges_sums_between_ranks(step):
    found = operators(load_model("MiniMax-M2.5", "fp8"), Parallel(tp=4))
    sums = [o for o in found if isinstance(o, Collective) and o.where == "qk_norm"]
    assert [(o.op, o.bytes_per_token, o.count) for o in sums] == [("all_reduce", 8.0, 62)]
    alone = operators(load_model("MiniMax-M2.5", "fp8"), Parallel(tp=1))
    assert not [o for o in alone if isinstance(o, Collective)]
    others = operators(load_model("QWEN3_32B"), Parallel(tp=4))
    assert not [o for o in others if isinstance(o, Collective) and o.where == "qk_norm"]


def test_a_short_chunk_behind_a_long_past_waits_for_one_walk_over_it(step):
    engine = step("QWEN3_32B", "b300_sxm", "vllm", "tp8")
    near, far = engine.seconds(Batch.of(prefill_tokens=64, prefill_past=[0, 32768]))
    # Measured on B300 (vLLM 0.20.1): 16 to 256 tokens behind 32,768 take 22 ms longer.
    assert far - near == pytest.approx(22e-3, rel=0.1)
    single = engine.seconds(Batch.of(prefill_tokens=1, prefill_past=[0, 32768]))
    assert single[1] - single[0] < 2e-3


def test_a_float32_router_takes_longer_than_one_of_bf16(step):
    found = operators(load_model("MiniMax-M2.5", "fp8"), Parallel(tp=4))
    routers = [o for o in found if isinstance(o, Gemm) and o.part == "router"]
    assert [(o.dtype, o.count) for o in routers] == [("float32", 62)]
    engine = step("MiniMax-M2.5", "b200_sxm", "vllm", "tp4")
    tensor = replace(engine.traits, float32_products="tf32")
    other = StepModel(engine._tables, engine.spec, engine.parallel, tensor, "fp8")
    saved = engine.seconds(Batch.of(decode=[8, 64], context=1000)) - other.seconds(
        Batch.of(decode=[8, 64], context=1000)
    )
    assert 0.7e-3 < saved[1] < 1.8e-3
    assert abs(saved[0]) < 0.6e-3


def test_shared_experts_hide_behind_the_routed_ones_in_small_iterations(step):
    engine = step("DEEPSEEK_R1", "h200_sxm", "sglang", "tp8")
    alone = replace(engine.traits, shared_stream_tokens=0)
    other = StepModel(engine._tables, engine.spec, engine.parallel, alone, engine.kv_dtype)
    decode, prompt = Batch.of(decode=[4, 64], context=1000), Batch.of(prefill_tokens=8192)
    hidden = other.seconds(decode) - engine.seconds(decode)
    assert ((hidden > 0.2e-3) & (hidden < 2e-3)).all()
    assert engine.seconds(prompt) == pytest.approx(other.seconds(prompt))


def test_an_indexer_in_small_kernels_costs_milliseconds(step):
    engine = step("GLM-5", "b200_sxm", "sglang", "tp8")
    apart = replace(engine.traits, fused_elementwise=())
    other = StepModel(engine._tables, engine.spec, engine.parallel, apart, engine.kv_dtype)
    batch = Batch.of(decode=4, context=4000)
    # sglang pull request 27705; runs of March 2026 missed 3.6 to 3.9 ms.
    assert 1e-3 < (other.seconds(batch) - engine.seconds(batch))[0] < 5e-3


def test_prompts_outside_graphs_pay_for_each_kernel_of_a_linear_layer(step):
    engine = step("Qwen3.5-397B-A17B", "h200_sxm", "sglang", "tp8")
    host = engine.traits.host
    one = replace(host, block_launches={**host.block_launches, "linear": {0: 1}})
    short = replace(engine.traits, host=one, graphs=replace(engine.traits.graphs, prefill="none"))
    many = replace(engine.traits, graphs=replace(engine.traits.graphs, prefill="none"))
    batch = Batch.of(prefill_tokens=900)
    times = [
        StepModel(engine._tables, engine.spec, engine.parallel, traits, engine.kv_dtype).seconds(
            batch
        )[0]
        for traits in (short, many)
    ]
    more = 45 * (host.block_launches["linear"][0] - 1) * host.seconds_per_launch
    assert times[1] - times[0] == pytest.approx(more)


def told(engine, **graphs):
    """The same engine with other facts of its graphs."""
    traits = replace(engine.traits, graphs=replace(engine.traits.graphs, **graphs))
    return StepModel(engine._tables, engine.spec, engine.parallel, traits, engine.kv_dtype)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("Qwen3.5-397B-A17B", "multimodal"), ("Qwen3-Next-80B-A3B", "gdn"), ("GLM-5", "indexed")],
)
def test_some_models_keep_prompts_out_of_graphs(step, model, kind):
    engine = step(model, "b200_sxm", "sglang", "tp8")
    inside = told(engine, prefill_excludes=())
    outside = told(engine, prefill_excludes=(kind,))
    plain = told(engine, prefill="none")
    tokens = np.array([500.0])
    assert outside.launch_seconds(tokens) == pytest.approx(plain.launch_seconds(tokens))
    traits, gpu = engine.traits, platform("b200_sxm", "sglang").system.gpu
    left_out = sum(  # what a piecewise graph cuts out runs between its pieces
        one.count * launches(one, traits.host, gpu.sm)
        for one in operators(engine.spec, engine.parallel)
        if isinstance(one, ATTENTION)
    )
    assert inside.launch_seconds(tokens) == pytest.approx(left_out * launch_seconds(traits))
    assert inside.launch_seconds(tokens)[0] < outside.launch_seconds(tokens)[0]


def test_text_models_are_in_no_list_of_sglang(step):
    engine = step("Qwen3-32B", "h200_sxm", "sglang", "tp4")
    assert engine.launch_seconds(np.array([500.0])) == pytest.approx(
        told(engine, prefill_excludes=()).launch_seconds(np.array([500.0]))
    )


def test_launching_adds_where_each_block_waits_for_the_gpu(step):
    engine = step("Qwen3.5-397B-A17B", "b200_sxm", "sglang", "tp8")
    host = replace(engine.traits.host, waiting_blocks=())
    hidden = StepModel(
        engine._tables, engine.spec, engine.parallel, replace(engine.traits, host=host),
        engine.kv_dtype,
    )  # fmt: skip
    batch = Batch.of(prefill_tokens=16384)
    launching = engine.launch_seconds(batch.prefill_tokens)[0]
    assert engine.launching_waits
    assert not hidden.launching_waits
    assert launching < hidden.seconds(batch)[0]  # so the GPU's own time hides all of it
    assert engine.seconds(batch)[0] - hidden.seconds(batch)[0] == pytest.approx(launching)
    assert engine.seconds(Batch.of(decode=8, context=1000)) == pytest.approx(
        hidden.seconds(Batch.of(decode=8, context=1000))
    )


def test_deepeps_normal_kernels_hold_the_host_and_a_gather_does_not(step):
    engine = step("DEEPSEEK_R1", "gb200", "sglang", "tp1dp8ep8")
    assert engine.launching_waits
    link = replace(engine.traits.communication, all_to_all_automatic=False)
    gathered = StepModel(
        engine._tables, engine.spec, engine.parallel, replace(engine.traits, communication=link),
        engine.kv_dtype,
    )  # fmt: skip
    assert not gathered.launching_waits


def test_prompts_run_in_graphs_up_to_the_size_that_was_told(step):
    engine = step("Kimi-K2.5", "b200_sxm", "vllm", "tp4")
    tokens = np.array([900.0])
    apart, inside = told(engine, prefill_tokens=None), told(engine, prefill_tokens=2048)
    assert inside.launch_seconds(tokens)[0] < 0.6 * apart.launch_seconds(tokens)[0]


def test_attention_ranks_are_padded_to_the_largest_of_them():
    """66 sequences on 4 ranks: some have 17, so all compute the graph of 24."""
    spec = load_model("Kimi-K2.5")
    step = platform("h200_sxm", "vllm").step(spec, Parallel.parse("tp2dp4ep8"), "bf16")
    one, mean, more, full = step.seconds(Batch.of(decode=[16.0, 16.5, 17.0, 24.0], context=4000.0))
    assert one < mean
    assert mean == pytest.approx(more, rel=0.01)
    assert more < full


def test_a_layout_answers_alike_whatever_was_asked_before(step):
    """Operators are timed once per set of tables; graphs are not part of the tables."""
    batch = Batch.of(decode=[1.0, 40.0, 300.0, 2000.0], context=3000.0)
    spec = load_model("gpt-oss-120b")
    first, second = (
        replace(place, tables=replace(place.tables, built={}), steps={})
        for place in [platform("h200_sxm", "sglang")] * 2
    )
    alone = first.step(spec, Parallel(2, 2), "bf16").seconds(batch)
    second.step(spec, Parallel(2), "bf16")
    assert second.step(spec, Parallel(2, 2), "bf16").seconds(batch) == pytest.approx(alone)
