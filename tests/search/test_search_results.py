"""Whole searches: what holds for every candidate, and that the winner is the best of them."""

import numpy as np
import pytest

from aiconf.api import estimate, search
from aiconf.deploy.dgd import build
from aiconf.engine.platform import platform
from aiconf.errors import UserError
from aiconf.search.candidates import pareto
from aiconf.search.explain import explain, origins
from aiconf.search.plan import plan
from aiconf.search.rows import record
from aiconf.search.search import frontier

CASES = {
    "qwen-vllm": (("QWEN3_32B", "h200_sxm", 16, 4000, 500, 300, 10), {}),
    "qwen-sglang": (("QWEN3_32B", "h100_sxm", 8, 2000, 200, 500, 30), {"backend": "sglang"}),
    "llama-trtllm": (("Llama-3.1-70B", "b200_sxm", 12, 1000, 1000, 2000, 20),
                     {"backend": "trtllm"}),
    "gpt-oss-vllm": (("gpt-oss-120b", "h200_sxm", 8, 8000, 1000, 1000, 15), {}),
    "deepseek-gb200": (("DEEPSEEK_R1", "gb200", 16, 4000, 500, 2000, 40), {"backend": "trtllm"}),
    "all-backends": (("Qwen3-8B", "h200_sxm", 3, 1000, 100, 500, 20), {"backend": "any"}),
    "prefix": (("QWEN3_32B", "gb300", 8, 8000, 500, 300, 10), {"prefix": 6000}),
}  # fmt: skip


@pytest.fixture(params=CASES, scope="module")
def result(request, run_search):
    arguments, options = CASES[request.param]
    return run_search(*arguments, **options)


def test_no_candidate_uses_more_than_it_has(result):
    frame, gpus = result.frame, result.request.gpus
    assert (frame.gpus <= gpus).all()
    assert (frame.gpus_idle == gpus - frame.gpus).all()
    used = frame.workers * frame.gpus_per_worker
    used += frame.prefill_workers * frame.prefill_gpus_per_worker
    assert (used == frame.gpus).all()
    assert (frame.workers >= 1).all()
    assert (frame[frame["mode"] == "disagg"].prefill_workers >= 1).all()


def test_every_figure_is_finite_and_positive(result):
    frame = result.frame
    for name in ("ttft_ms", "tpot_ms", "latency_ms", "request_per_s", "output_tok_per_s",
                 "output_tok_per_s_per_gpu", "tok_per_s_per_user", "usd_per_hour",
                 "usd_per_million_output_tok", "concurrency", "batch"):  # fmt: skip
        assert np.isfinite(frame[name]).all(), name
        assert (frame[name] > 0).all(), name
    assert (frame.kv_transfer_ms >= 0).all()
    moved = frame["mode"] == "disagg"
    assert (frame.kv_transfer_ms[moved] > 0).all()
    assert (frame.load[moved] <= 0.95 + 1e-9).all()
    assert (frame.load >= 0).all()


def test_derived_columns_agree(result):
    frame, work = result.frame, result.request.workload
    assert np.allclose(frame.latency_ms, frame.ttft_ms + (work.osl - 1) * frame.tpot_ms)
    assert np.allclose(frame.output_tok_per_s, frame.request_per_s * work.osl)
    assert np.allclose(frame.output_tok_per_s_per_gpu, frame.output_tok_per_s / result.request.gpus)
    assert np.allclose(frame.tok_per_s_per_user, 1e3 / frame.tpot_ms)


def test_littles_law_holds_for_every_aggregated_candidate(result):
    frame = result.frame[result.frame["mode"] == "agg"]
    inside = frame.request_per_s * frame.latency_ms / 1e3
    assert np.allclose(inside, frame.concurrency, rtol=0.03)


def test_littles_law_holds_for_disaggregated_candidates(result):
    frame = result.frame[result.frame["mode"] == "disagg"]
    inside = frame.request_per_s * frame.latency_ms / 1e3
    assert np.allclose(inside, frame.concurrency, rtol=0.03, atol=1.0)


def test_the_winner_is_the_best_row_that_meets_the_targets(result):
    frame, sla = result.frame, result.request.sla
    best = record(result.request, result.outcome.best)  # a replay may set it back: test_finalists
    met = (frame.ttft_ms <= sla.ttft * 1e3 * (1 + 1e-12)) & (
        frame.tpot_ms <= sla.tpot * 1e3 * (1 + 1e-12)
    )
    assert (met == frame.meets_targets).all()
    assert result.outcome.met == met.any()
    if met.any():
        assert best["meets_targets"]
        highest = frame[met].output_tok_per_s_per_gpu.max()
        assert best["output_tok_per_s_per_gpu"] == pytest.approx(highest)


def test_the_lists_are_ranked_and_hold_each_pair_of_layouts_once(result):
    for mode, found in result.outcome.top.items():
        assert {one.side.mode for one in found} <= {mode}
        met = [one.side.candidates.tpot[one.place] <= result.request.sla.tpot and
               one.side.candidates.ttft[one.place] <= result.request.sla.ttft
               for one in found]  # fmt: skip
        if all(met):
            rates = [one.value("request_rate") for one in found]
            assert rates == sorted(rates, reverse=True)
        names = [
            (one.side.backend, *(
                (v.spec.checkpoint, v.parallel)
                for v in (one.variant, one.prefill_variant) if v is not None
            ))
            for one in found
        ]  # fmt: skip
        assert len(set(names)) == len(names)


def test_the_front_has_no_dominated_point(result):
    for side in result.outcome.sides:
        place = frontier(result.request, side)
        tpot, rate = side.candidates.tpot, side.candidates.request_rate
        inside = side.candidates.ttft <= result.request.sla.ttft
        if not inside.any():
            inside[:] = True
        assert len(place) == len(pareto(1.0 / tpot[inside], rate[inside]))
        for i in place:
            better = inside & (tpot <= tpot[i]) & (rate >= rate[i])
            better &= (tpot < tpot[i]) | (rate > rate[i])
            assert not better.any()


def test_an_aggregated_winner_is_what_estimate_predicts(result):
    found = result.outcome.top["agg"][0]
    request = result.request
    again = estimate(
        found.variant.spec.checkpoint, found.variant.platform.system.name,
        str(found.variant.parallel), request.workload.isl, request.workload.osl,
        concurrency=round(found.value("batch")), workers=round(found.value("workers")),
        token_budget=round(found.value("token_budget")), prefix=request.workload.prefix,
        backend=found.side.backend,
    ).best  # fmt: skip
    assert again["ttft_ms"] == pytest.approx(found.value("ttft") * 1e3, rel=1e-3)
    assert again["tpot_ms"] == pytest.approx(found.value("tpot") * 1e3, rel=1e-3)
    assert again["request_per_s"] == pytest.approx(found.value("request_rate"), rel=1e-3)


def test_a_disaggregated_winner_is_what_estimate_predicts(result):
    found = result.outcome.top["disagg"][0]
    request, before = result.request, found.prefill_variant
    again = estimate(
        found.variant.spec.checkpoint, found.variant.platform.system.name,
        str(found.variant.parallel), request.workload.isl, request.workload.osl,
        concurrency=round(found.value("batch")), workers=round(found.value("workers")),
        prefill_layout=str(before.parallel),
        prefill_workers=round(found.value("prefill_workers")),
        prefill_batch=round(found.value("prefill_batch") / before.parallel.dp),
        token_budget=round(found.value("prefill_token_budget")),
        prefix=request.workload.prefix, backend=found.side.backend,
    ).best  # fmt: skip
    assert again["tpot_ms"] == pytest.approx(found.value("tpot") * 1e3, rel=0.02)
    assert again["request_per_s"] == pytest.approx(found.value("request_rate"), rel=0.02)
    # Units that are replicated keep their own queues; together they wait less.
    assert again["ttft_ms"] <= found.value("ttft") * 1e3 * 1.02


def test_the_explanation_adds_up(result):
    for found in [top[0] for top in result.outcome.top.values() if top]:
        iterations = explain(result.request, found)
        for iteration in iterations:
            assert sum(iteration.parts.values()) == pytest.approx(iteration.seconds)
            assert sum(iteration.origins.values()) == pytest.approx(1.0)
            assert 0 <= iteration.share <= 1
        shares = origins(iterations)
        assert set(shares) == {"measured", "interpolated", "fallback"}
        assert sum(shares.values()) == pytest.approx(1.0)


def test_the_plan_is_the_candidate(result):
    for found in [top[0] for top in result.outcome.top.values() if top]:
        deployment = plan(result.request, found)
        assert deployment.gpus == round(found.value("gpus"))
        assert deployment.disaggregated == (found.side.mode == "disagg")
        work = result.request.workload
        for worker in deployment.workers:
            assert worker.max_model_len >= work.isl + work.osl
            assert worker.max_sequences >= 1
            assert worker.replicas >= 1
            assert 0 < worker.memory_fraction < 1
            assert worker.prefix_caching == (work.prefix > 0)


def test_a_laxer_target_is_never_worse(run_search):
    rates = [
        run_search("QWEN3_32B", "h200_sxm", 8, 4000, 500, ttft, tpot).best[
            "output_tok_per_s_per_gpu"
        ]
        for ttft, tpot in ((300, 10), (300, 20), (1000, 20), (1000, 50), (None, None))
    ]
    assert rates == sorted(rates)


def test_when_nothing_meets_the_targets_the_closest_is_shown(run_search):
    result = run_search("QWEN3_32B", "h200_sxm", 8, 4000, 500, 1.0, 0.1)
    assert not result.outcome.met
    assert not result.frame.meets_targets.any()
    over = np.maximum(result.frame.ttft_ms / 1.0, result.frame.tpot_ms / 0.1)
    best = max(result.best["ttft_ms"] / 1.0, result.best["tpot_ms"] / 0.1)
    assert best == pytest.approx(over.min(), rel=1e-6)


@pytest.mark.parametrize("objective", ["latency", "cost"])
def test_other_objectives_find_their_own_best(run_search, objective):
    options = {"objective": objective}
    result = run_search("QWEN3_32B", "h200_sxm", 8, 4000, 500, 1000, 30, **options)
    column = {"latency": "latency_ms", "cost": "usd_per_million_output_tok"}[objective]
    lowest = result.frame[result.frame.meets_targets][column].min()
    assert result.best[column] == pytest.approx(lowest, rel=1e-9)


def test_one_mode_only(run_search):
    for mode in ("agg", "disagg"):
        frame = run_search("QWEN3_32B", "h200_sxm", 8, 4000, 500, 1000, 30, mode=mode).frame
        assert set(frame["mode"]) == {mode}


def test_two_systems_decode_on_the_second(run_search):
    best = run_search(
        "QWEN3_32B", "h100_sxm", 16, 4000, 500, 2000, 30, decode_system="h200_sxm"
    ).best
    assert best["mode"] == "disagg"
    assert (best["prefill_system"], best["system"]) == ("h100_sxm", "h200_sxm")


def test_one_output_token_is_prefill_only(run_search):
    result = run_search("QWEN3_32B", "h200_sxm", 8, 4000, 1, 500, None)
    assert set(result.frame["mode"]) == {"agg"}
    assert result.frame.tpot_ms.isna().all()
    assert result.best["tpot_ms"] is None
    assert result.best["output_tok_per_s"] > 0


def test_leftover_gpus_are_reported(run_search):
    result = run_search("QWEN3_32B", "h200_sxm", 7, 4000, 500, 1000, 30, mode="agg")
    assert result.best["gpus"] + result.best["gpus_idle"] == 7


def test_a_model_that_does_not_fit_says_how_many_gpus_it_needs():
    with pytest.raises(UserError, match=r"needs at least \d+ GPUs"):
        search("DEEPSEEK_R1", "h200_sxm", 2, 4000, 500)


def test_both_sides_of_a_pair_hold_the_same_checkpoint(result):
    for side in result.outcome.sides:
        if side.mode == "disagg":
            after = np.array([v.spec.checkpoint for v in side.variants])
            before = np.array([v.spec.checkpoint for v in side.prefill_variants])
            found = side.candidates
            assert (after[found.variant] == before[found.prefill_variant]).all()


def test_a_family_is_as_good_as_its_best_checkpoint():
    task = ("h200_sxm", 16, 4000, 500, 300, 10)
    family = search("QWEN3_32B", *task, backend="sglang", mode="disagg")
    alone = [
        search(spec.checkpoint, *task, backend="sglang", mode="disagg").best["request_per_s"]
        for spec in family.request.specs
    ]
    assert len(alone) > 1
    assert family.best["request_per_s"] == pytest.approx(max(alone), rel=1e-12)


def test_no_deployment_is_listed_twice(result):
    keys = ["mode", "backend", "model", "layout", "workers", "batch", "token_budget",
            "prefill_layout", "prefill_workers", "prefill_batch",
            "prefill_token_budget"]  # fmt: skip
    assert not result.frame.duplicated(keys).any()


def test_a_pipelined_prefill_worker_may_hold_prompts_in_every_stage():
    result = search(
        "QWEN3_32B", "h200_sxm", 16, 4000, 500, 300, 10, mode="disagg", backend="trtllm", top=50
    )
    staged = [f for f in result.outcome.top["disagg"] if f.prefill_variant.parallel.pp > 1]
    assert staged
    for found in staged:
        (worker,) = (w for w in plan(result.request, found).workers if w.role == "prefill")
        assert worker.max_sequences == found.value("prefill_batch") * worker.parallel.pp


@pytest.mark.parametrize(
    ("task", "backend"),
    [
        (("gpt-oss-120b", "h100_sxm", 24, 200, 200, None, None), "vllm"),
        (("DeepSeek-R1", "h200_sxm", 32, 4000, 500, None, None), "sglang"),
        (("DeepSeek-R1", "gb200", 64, 4000, 500, None, None), "vllm"),
    ],
)
def test_what_is_deployed_fits_and_can_be_written(task, backend):
    result = search(*task, backend=backend)
    for found in [one for ranked in result.outcome.top.values() for one in ranked]:
        planned = plan(result.request, found)
        assert build(planned)
        variants = [v for v in (found.prefill_variant, found.variant) if v]
        for worker, variant in zip(planned.workers, variants, strict=True):
            if worker.role == "prefill":
                continue
            per_rank = -(-worker.max_sequences // worker.parallel.dp)
            room = variant.platform.capacity(
                variant.spec, variant.parallel, token_budget=worker.token_budget,
                max_sequences=per_rank, kv_dtype=variant.kv_dtype,
            )  # fmt: skip
            assert room.sequences(task[3], task[4]) >= per_rank * 0.999


def test_more_domains_are_never_worse_where_the_transfer_decides():
    host = platform("h200_sxm", "vllm").traits.host
    ttft = 19.8 + 1e3 * (host.outside(4000) + host.seconds_per_handover)
    task = {"isl": 4000, "osl": 300, "ttft": ttft, "tpot": None, "mode": "disagg"}
    rates = [
        search("Qwen3-0.6B", "h200_sxm", gpus, **task).best["output_tok_per_s_per_gpu"]
        for gpus in (8, 16, 32)
    ]
    assert rates[1] >= rates[0] * (1 - 1e-9)
    assert rates[2] >= rates[1] * (1 - 1e-9)


def test_two_systems_share_one_block_size():
    result = search(
        "DeepSeek-R1", "h200_sxm", 32, 4000, 500, 2000, 50, backend="vllm", decode_system="gb200"
    )
    planned = plan(result.request, result.outcome.best)
    assert len({worker.kv_block_size for worker in planned.workers}) == 1
    assert build(planned)
