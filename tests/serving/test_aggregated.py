import numpy as np
import pytest

from aiconf.engine.batch import Batch
from aiconf.serving.aggregated import aggregated
from aiconf.serving.point import busiest
from aiconf.workload import Workload

WORK = Workload(4000, 500)
USERS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
ENGINES = [
    ("tp2", "vllm", "QWEN3_32B", "h200_sxm"),
    ("tp2", "sglang", "QWEN3_32B", "h200_sxm"),
    ("tp2", "trtllm", "QWEN3_32B", "h200_sxm"),
    ("tp2pp2", "vllm", "QWEN3_32B", "h200_sxm"),
    ("tp1pp1dp8ep8", "trtllm", "DEEPSEEK_R1", "gb200"),
    ("tp1pp1dp8ep8", "sglang", "DEEPSEEK_R1", "gb200"),
]


def points(engine, work=WORK, users=USERS, budget=8192.0):
    users = np.asarray(users, dtype=float)
    return aggregated(engine, work, users, np.full(len(users), budget))


@pytest.fixture(params=ENGINES, ids="-".join)
def engine(request, step):
    return step(*request.param)


def test_every_figure_is_a_positive_number(engine):
    found = points(engine, users=USERS * engine.parallel.dp)
    for name in ("ttft", "tpot", "request_rate"):
        value = getattr(found, name)
        assert np.isfinite(value).all(), name
        assert (value > 0).all(), name
    assert ((found.mixed >= 0) & (found.mixed <= 1)).all()
    assert (found.busy >= 0).all()


def test_littles_law(engine):
    found = points(engine, users=USERS * engine.parallel.dp)
    inside = found.request_rate * (found.ttft + (WORK.osl - 1) * found.tpot)
    assert inside == pytest.approx(found.concurrency, rel=0.03)


def test_tpot_never_falls_with_concurrency(engine):
    found = points(engine, users=USERS * engine.parallel.dp)
    assert (np.diff(found.tpot) >= -1e-9 * found.tpot[1:]).all()


def test_throughput_rises_with_concurrency(engine):
    found = points(engine, users=USERS * engine.parallel.dp)
    assert (np.diff(found.request_rate) > 0).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_one_user_sees_plain_prefill_and_plain_decode(step, backend):
    engine = step(backend=backend)
    found = points(engine, users=[1.0], budget=16384.0)
    decode = engine.seconds(Batch.of(decode=1, context=WORK.mean_context))[0]
    prompt = engine.seconds(Batch.of(prefill_tokens=4000, prefill_sequences=1))[0]
    assert found.tpot[0] == pytest.approx(decode, rel=0.05)
    assert found.ttft[0] == pytest.approx(prompt, rel=0.25)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("osl", [1, 2, 3])
def test_ttft_of_one_user_does_not_depend_on_the_output(step, backend, osl):
    alone = points(step(backend=backend), Workload(4000, osl), users=[1.0], budget=16384.0)
    usual = points(step(backend=backend), Workload(4000, 500), users=[1.0], budget=16384.0)
    assert alone.ttft[0] == pytest.approx(usual.ttft[0], rel=1e-4)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_one_output_token_has_no_tpot(step, backend):
    found = points(step(backend=backend), Workload(4000, 1))
    assert np.isnan(found.tpot).all()
    assert (found.ttft > 0).all()
    assert found.request_rate * found.ttft == pytest.approx(USERS, rel=0.03)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_a_cached_prefix_shortens_the_wait(step, backend):
    plain = points(step(backend=backend))
    cached = points(step(backend=backend), Workload(4000, 500, 3000))
    assert (cached.ttft < plain.ttft).all()
    assert (cached.tpot <= plain.tpot * 1.001).all()
    assert (cached.request_rate > plain.request_rate).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_longer_prompts_and_outputs_never_help(step, backend):
    engine = step(backend=backend)
    base = points(engine)
    longer = points(engine, Workload(8000, 500))
    assert (longer.ttft > base.ttft).all()
    assert (longer.request_rate < base.request_rate).all()
    assert (points(engine, Workload(4000, 1000)).request_rate < base.request_rate).all()


def test_points_do_not_depend_on_what_else_is_asked(step):
    engine = step()
    alone = points(engine, users=[16.0])
    beside = points(engine)
    place = int(np.flatnonzero(USERS == 16.0)[0])
    assert alone.ttft[0] == pytest.approx(beside.ttft[place], rel=1e-9)
    assert alone.tpot[0] == pytest.approx(beside.tpot[place], rel=1e-9)


def test_the_busiest_rank_has_at_least_the_mean():
    mean = np.array([0.01, 0.5, 3.0, 40.0])
    for ranks in (1, 2, 8, 64):
        assert (busiest(mean, ranks) >= mean).all()
    assert (busiest(mean, 8) >= 1.0).all()
    assert (busiest(mean, 64) >= busiest(mean, 2)).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_chunks_of_one_prompt_overlap_in_the_stages_that_others_leave_free(step, backend):
    engine, budget = step("tp2pp8", backend), 8192.0
    long = Workload(isl=30000, osl=100)
    alone, crowd = (float(points(engine, long, np.array([n]), budget).ttft[0]) for n in (1.0, 64.0))
    passes = 4 * engine.seconds(Batch.of(prefill_tokens=7500.0, prefill_past=11250.0))[0]
    assert alone < 0.5 * passes
    assert crowd > passes


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_a_full_pipeline_computes_no_more_prompts_than_its_stages(step, backend):
    engine, budget = step("tp2pp8", backend), 8192.0
    users = np.array([8.0, 64.0, 256.0])
    rate = points(engine, Workload(isl=30000, osl=1), users, budget).request_rate
    chunk = engine.seconds(Batch.of(prefill_tokens=7500.0, prefill_past=11250.0))[0]
    assert (rate <= 8.0 / (4.0 * chunk) * 1.1).all()
