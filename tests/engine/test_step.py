import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.engine.step import shares

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
    assert shares(time.by_origin).sum(axis=0) == pytest.approx(np.ones(4))
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
