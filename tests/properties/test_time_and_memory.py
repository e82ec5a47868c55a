"""What holds for the time and the memory of any engine, on drawn models, systems and layouts."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aiconf.engine.batch import Batch
from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.search.space import layouts
from aiconf.serving.aggregated import aggregated
from aiconf.workload import Workload

MODELS = ("QWEN3_32B", "Llama-3.1-8B", "gpt-oss-120b", "DEEPSEEK_R1", "Qwen3-235B-A22B",
          "Kimi-K2", "MiniMax-M2", "Mixtral-8x7B")  # fmt: skip
SYSTEMS = ("h200_sxm", "gb200", "b300_sxm", "h100_sxm")
BACKENDS = ("vllm", "sglang", "trtllm")
SOME = settings(max_examples=60, deadline=None)
FEW = settings(max_examples=30, deadline=None)

batches = st.fixed_dictionaries(
    {
        "prefill_tokens": st.sampled_from([0, 1, 100, 2048, 8192, 30000]),
        "prefill_sequences": st.integers(1, 8),
        "prefill_past": st.sampled_from([0, 1000, 20000]),
        "decode": st.sampled_from([0, 1, 3, 16, 100, 256, 700]),
        "context": st.sampled_from([1, 100, 3000, 30000, 100_000]),
    }
)


@st.composite
def engines(draw):
    """A step model of a drawn model, system, backend and legal layout of at most 16 GPUs."""
    spec = load_model(draw(st.sampled_from(MODELS)))
    place = platform(draw(st.sampled_from(SYSTEMS)), draw(st.sampled_from(BACKENDS)))
    legal = layouts(place, spec, 16)
    assume(legal)
    return place.step(spec, draw(st.sampled_from(legal)), draw(st.sampled_from(["bf16", "fp8"])))


@SOME
@given(engines(), batches, st.sampled_from(["decode", "context", "prefill_tokens",
                                            "prefill_past"]),
       st.lists(st.integers(0, 20000), min_size=2, max_size=6))  # fmt: skip
def test_an_iteration_never_gets_shorter_when_something_grows(engine, batch, name, more):
    grown = np.sort(np.array([batch[name], *(batch[name] + m for m in more)], dtype=float))
    if name == "decode":
        grown = np.minimum(grown, 2000.0)
    time = engine.seconds(Batch.of(**(batch | {name: grown})))
    assert np.isfinite(time).all()
    assert (time >= 0).all()
    assert (np.diff(time) >= -1e-6 * time[1:]).all(), (engine.parallel, grown, time)


@SOME
@given(engines(), batches)
def test_parts_and_origins_add_up(engine, batch):
    time = engine.time(Batch.of(**batch))
    assert time.by_part.sum() == pytest.approx(time.seconds[0])
    assert time.by_origin.sum() == pytest.approx(time.seconds[0])
    assert time.seconds[0] == pytest.approx(engine.seconds(Batch.of(**batch))[0])


@FEW
@given(engines(), st.sampled_from([(128, 128), (1000, 1000), (4000, 500), (8000, 100)]),
       st.sampled_from([2048.0, 8192.0]))  # fmt: skip
def test_tpot_never_falls_with_concurrency(engine, lengths, budget):
    users = np.unique(np.round(2.0 ** np.arange(0, 8.01, 0.25))) * engine.parallel.dp
    found = aggregated(engine, Workload(*lengths), users, np.full(len(users), budget))
    assert np.isfinite(found.tpot).all()
    # Once the token budget is full, prompts take whole iterations more (see the next test).
    slack = np.where(found.busy[1:] > 0.8, 0.12, 1e-3)
    assert (np.diff(found.tpot) >= -slack * found.tpot[1:]).all(), (
        engine.spec.name, engine.parallel, engine.traits.name,
        np.stack([users, found.tpot * 1e3]).round(3),
    )  # fmt: skip


def test_tpot_never_falls_with_concurrency_when_the_budget_is_full():
    spec, place = load_model("QWEN3_32B"), platform("h200_sxm", "vllm")
    users = np.array([64.0, 76.0, 91.0, 108.0, 128.0, 152.0, 181.0, 215.0, 256.0])
    engine = place.step(spec, Parallel(1), "bf16")
    found = aggregated(engine, Workload(8000, 100), users, np.full(len(users), 2048.0))
    assert (np.diff(found.tpot) >= 0).all()


@FEW
@given(engines(), st.sampled_from([(128, 128), (1000, 1000), (4000, 500), (8000, 100)]))
def test_littles_law_holds_in_every_engine(engine, lengths):
    work = Workload(*lengths)
    users = np.array([1.0, 4.0, 32.0, 200.0]) * engine.parallel.dp
    found = aggregated(engine, work, users, np.full(4, 8192.0))
    inside = found.request_rate * (found.ttft + (work.osl - 1) * found.tpot)
    assert inside == pytest.approx(users, rel=0.03)


@SOME
@given(st.sampled_from(MODELS), st.sampled_from(SYSTEMS), st.sampled_from(BACKENDS), st.data())
def test_memory_adds_up(model, system, backend, data):
    place, spec = platform(system, backend), load_model(model)
    parallel = data.draw(st.sampled_from(layouts(place, spec, 16)))
    room = place.capacity(
        spec, parallel, token_budget=data.draw(st.sampled_from([512, 2048, 8192])),
        max_sequences=data.draw(st.sampled_from([1, 64, 1024])),
        kv_dtype=data.draw(st.sampled_from(["bf16", "fp8"])),
    )  # fmt: skip
    taken = room.weights + room.activations + room.graphs + room.reserved
    if room.kv > 0:
        assert taken + room.kv <= room.total * (1 + 1e-9)
    isl, osl = data.draw(st.sampled_from([(1, 1), (1000, 100), (4000, 4000)]))
    count = room.sequences(isl, osl)
    assert count * float(room.sequence_bytes(isl + osl / 2)) <= max(room.kv, 0.0) * (1 + 1e-9)
