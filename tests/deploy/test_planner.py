"""The planner: a configuration it accepts, and a profile that its own code reads."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from deploy_plans import REFERENCE_PLANNER, worker

from aiconf.deploy.planner import CONFIG, PROFILE, planner
from aiconf.deploy.planner_config import planner_config
from aiconf.deploy.planner_profile import DECODE_JSON, PREFILL_JSON, kv_tokens
from aiconf.engine.platform import platform
from aiconf.errors import UserError
from aiconf.model.library import load_model
from aiconf.parallel import Parallel
from aiconf.serving.plan import Plan
from aiconf.workload import Sla, Workload

GOALS = Sla(2.0, 0.03)


def _plan(backend="vllm", *workers, model="Qwen/Qwen3-32B-FP8"):
    workers = workers or (worker("prefill", "tp2"), worker("decode", "tp4", max_sequences=256))
    return Plan(load_model(model), backend, "0.24.0", Workload(4000, 1000), workers, 64)


def _built(plan, sla=GOALS, gpus=16):
    place = platform("h200_sxm", plan.backend)
    return planner(plan, {one.role: place for one in plan.workers}, sla, gpus)


def _arrays(built, kind):
    data = built.files[f"{PROFILE}/selected_{kind}_interpolation/raw_data.npz"]
    with np.load(io.BytesIO(data)) as found:
        return dict(found)


def _same_form(kind, found):
    """Keys, types and shapes of a profile that Dynamo's profiler measured."""
    wanted = {
        "prefill": {"prefill_isl": "i", "prefill_ttft": "f", "prefill_thpt_per_gpu": "f"},
        "decode": {"x_kv_usage": "f", "y_context_length": "f", "z_itl": "f",
                   "z_thpt_per_gpu": "f", "max_kv_tokens": "i"},
    }[kind]  # fmt: skip
    assert {name: values.dtype.kind for name, values in found.items()} == wanted
    assert {values.dtype.itemsize for values in found.values()} == {8}
    lengths = {name: values.shape for name, values in found.items()}
    assert lengths.pop("max_kv_tokens", (1,)) == (1,)
    assert len(set(lengths.values())) == 1
    assert next(iter(lengths.values()))[0] >= 5


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("mode", ["agg", "disagg"])
def test_profile_has_the_form_of_a_measured_one(backend, mode):
    plan = _plan(backend, *([worker()] if mode == "agg" else []))
    built = _built(plan)
    assert built.config.mode == mode
    for kind in ("prefill", "decode"):
        found = _arrays(built, kind)
        _same_form(kind, found)
        assert all(np.isfinite(values).all() and (values > 0).all() for values in found.values())


def test_the_form_is_that_of_the_sample():
    folder = REFERENCE_PLANNER / "H200_TP1P_TP1D"
    if not folder.exists():
        pytest.skip("the measured profile is not here")
    for kind in ("prefill", "decode"):
        with np.load(folder / f"selected_{kind}_interpolation" / "raw_data.npz") as found:
            _same_form(kind, dict(found))


def test_points_follow_the_model():
    plan = _plan()
    first, last = plan.workers
    built = _built(plan)
    prefill, decode = _arrays(built, "prefill"), _arrays(built, "decode")
    assert (np.diff(prefill["prefill_isl"]) > 0).all()
    assert (np.diff(prefill["prefill_ttft"]) > 0).all()
    assert prefill["prefill_isl"][-1] < first.max_model_len
    rate = prefill["prefill_isl"] / prefill["prefill_ttft"] * 1000.0 / first.parallel.gpus
    np.testing.assert_allclose(prefill["prefill_thpt_per_gpu"], rate, rtol=1e-5)
    held = decode["max_kv_tokens"][0]
    assert held == kv_tokens(plan.model, last, platform("h200_sxm", "vllm"))
    assert decode["x_kv_usage"].max() <= 1.0
    batch = np.round(decode["x_kv_usage"] * held / decode["y_context_length"])
    assert batch.min() == 1 and batch.max() == last.max_sequences
    step = platform("h200_sxm", "vllm").step(plan.model, last.parallel, last.kv_dtype)
    from aiconf.engine.batch import Batch

    context = decode["y_context_length"]
    seconds = step.seconds(Batch.of(decode=batch, context=context))
    np.testing.assert_allclose(decode["z_itl"], seconds * 1000.0, rtol=1e-3)
    out = batch / decode["z_itl"] * 1000.0 / last.parallel.gpus
    np.testing.assert_allclose(decode["z_thpt_per_gpu"], out, rtol=1e-3)
    for context in np.unique(decode["y_context_length"]):
        at = decode["y_context_length"] == context
        assert (np.diff(decode["z_itl"][at]) >= -1e-9).all()


def test_both_forms_hold_the_same():
    built = _built(_plan())
    for kind, name in (("prefill", PREFILL_JSON), ("decode", DECODE_JSON)):
        told = json.loads(built.texts[name])
        for key, values in _arrays(built, kind).items():
            np.testing.assert_array_equal(np.ravel(told[key]), values)
    assert isinstance(json.loads(built.texts[DECODE_JSON])["max_kv_tokens"], int)


def test_attention_ranks_share_the_batch():
    plan = _plan(
        "sglang", worker("prefill", "dp8ep8"), worker("decode", "dp8ep8", max_sequences=512),
        model="Qwen/Qwen3-235B-A22B-FP8",
    )  # fmt: skip
    decode = _arrays(_built(plan, gpus=32), "decode")
    batch = decode["x_kv_usage"] * decode["max_kv_tokens"][0] / decode["y_context_length"]
    np.testing.assert_allclose(batch / 8, np.round(batch / 8), atol=1e-3)


def test_the_planners_own_code_reads_it(tmp_path):
    metrics = pytest.importorskip("dynamo.planner.monitoring.perf_metrics")
    from dynamo.planner.config.defaults import SubComponentType
    from dynamo.planner.config.planner_config import PlannerConfig

    built = _built(_plan())
    for path, data in built.files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name, text in built.texts.items():
        (mounted / name).write_text(text)
    for folder in (tmp_path / PROFILE, mounted):
        for kind in (SubComponentType.PREFILL, SubComponentType.DECODE):
            points = metrics._convert_profiling_data_to_fpms(str(folder), kind)
            name = "prefill" if kind == SubComponentType.PREFILL else "decode"
            found = _arrays(built, name)
            times = found["prefill_ttft"] if name == "prefill" else found["z_itl"]
            assert [one.wall_time for one in points] == pytest.approx(times / 1000.0)
    config = PlannerConfig.model_validate_json(built.texts[CONFIG])
    assert (config.mode, config.optimization_target) == ("disagg", "sla")
    assert (config.ttft_ms, config.itl_ms) == (2000.0, 30.0)
    assert config.enable_throughput_scaling and config.enable_load_scaling
    assert (config.prefill_engine_num_gpu, config.decode_engine_num_gpu) == (2, 4)
    assert set(json.loads(built.texts[CONFIG])) <= set(PlannerConfig.model_fields)


def test_config_fields_are_in_the_planners_schema():
    schema = REFERENCE_PLANNER.parents[1] / "flags" / "planner_config_1.6.1.schema.json"
    if not schema.exists():
        pytest.skip("the planner's schema is not here")
    known = json.loads(schema.read_text())["properties"]
    told = json.loads(_built(_plan()).texts[CONFIG])
    for name, value in told.items():
        assert name in known
        assert value in known[name].get("enum", [value])


def test_older_releases_spell_their_fields_otherwise():
    config = _built(_plan()).config
    old = json.loads(config.text("1.1.1"))
    assert (old["ttft"], old["itl"], old["load_adjustment_interval"]) == (2000.0, 30.0, 5)
    assert not any(name.endswith(("_ms", "_seconds")) for name in old)
    assert "optimization_target" in old and "optimization_target" not in json.loads(
        config.text("1.0.2")
    )
    assert json.loads(config.text("1.2.1")) == json.loads(config.text("1.6.1"))


def test_without_both_targets_it_scales_by_load():
    built = _built(_plan(), Sla(ttft=2.0))
    assert built.config.optimization_target == "throughput"
    assert not built.config.enable_throughput_scaling
    assert any("needs targets" in note for note in built.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_gpu_budget": 3}, "budget of 3 GPUs"),
        ({"ttft_ms": -1.0}, "ttft_ms"),
        ({"ttft_ms": None}, "needs a TTFT"),
        ({"load_adjustment_interval_seconds": 7}, "must divide"),
        ({"backend": "tgi"}, "backend"),
        ({"budget": 1}, "budget"),
    ],
)
def test_what_the_planner_would_refuse(changes, words):
    base = {
        "backend": "vllm", "mode": "disagg", "optimization_target": "sla", "ttft_ms": 500.0,
        "itl_ms": 20.0, "max_gpu_budget": 16, "prefill_engine_num_gpu": 2,
        "decode_engine_num_gpu": 4, "enable_throughput_scaling": True,
        "profile_results_dir": "x",
    }  # fmt: skip
    with pytest.raises(UserError, match=words):
        planner_config(**base | changes)


def test_a_profile_needs_room():
    short = replace(worker(), max_model_len=100, parallel=Parallel(1))
    with pytest.raises(UserError, match="too few"):
        _built(_plan("vllm", short))
