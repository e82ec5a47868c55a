"""The fit finds parameters that made the runs; validation and spreads are what they say."""

from dataclasses import replace

import numpy as np
import pytest

from aiconf.engine.calibration import LEVELS, load_calibration
from aiconf.parallel import Parallel
from aiconf.runs import calibrate as module
from aiconf.runs import fit as fitting
from aiconf.runs.calibrate import Observed, covered, spreads, validation
from aiconf.runs.calibration_file import write_calibration
from aiconf.runs.fit import at, residuals, sample
from aiconf.runs.measured import Deployment, MeasuredRun, Metrics, Traffic, Workers
from aiconf.runs.parameters import KINDS, parameters
from aiconf.runs.predict import predict
from aiconf.system import load_system

TRUTH = {"host.seconds_per_request": 0.4, "scales.gemm": 0.05}


def deployments():
    for tp in (2, 4):
        yield Deployment("h200_sxm", "vllm", "Llama-3.1-70B", "fp8", Workers(Parallel(tp)))
        yield Deployment("h200_sxm", "vllm", "Qwen3-32B", "fp8", Workers(Parallel(tp)))


@pytest.fixture(scope="module")
def runs():
    """Runs that an engine with other parameters gave."""
    known = parameters()
    logs = np.array([TRUTH.get(one.kind.fact, 0.0) for one in known])
    found = []
    for deployment in deployments():
        for users in (1, 8, 32):
            traffic = Traffic("closed", 1024, 128, 0.8, users=users, requests=64)
            made = predict(at(deployment, known, logs), traffic)
            metrics = Metrics(ttft_mean=made.ttft_mean, tpot_mean=made.tpot_mean)
            found.append(MeasuredRun(deployment, traffic, metrics))
    return found


def test_the_fit_moves_towards_the_parameters_that_made_the_runs(runs):
    found = fitting.fit(runs, rows=6, progress=lambda _: None)
    moved = {
        one.kind.fact: log for one, log in zip(found.known, found.logs, strict=True)
        if one.of("vllm", load_system("h200_sxm"))
    }  # fmt: skip
    before = [fitting.residuals(run, predict(at(run.deployment, found.known, np.zeros(
        len(found.known))), run.traffic)) for run in runs]  # fmt: skip
    after = [residuals(run, predict(at(run.deployment, found.known, found.logs), run.traffic))
             for run in runs]  # fmt: skip
    for metric in ("ttft", "tpot"):
        worse, better = (np.abs([one[metric] for one in side]).mean() for side in (before, after))
        assert better < 0.95 * worse  # so few runs move priors a little only
    assert moved["host.seconds_per_request"] > 0.03
    untouched = [log for one, log in zip(found.known, found.logs, strict=True)
                 if one.backend not in ("vllm", "")]  # fmt: skip
    assert np.allclose(untouched, 0.0)
    group = found.groups[0]
    assert not np.allclose(found.without(group), found.logs)


def test_equal_seeds_draw_equal_runs_and_no_more_than_asked(runs):
    assert sample(runs, 2, 7) == sample(runs, 2, 7)
    groups = [fitting.group_of(run) for run in sample(runs, 2, 7)]
    assert max(groups.count(group) for group in groups) == 2


def observed(group, errors, fallback=0.0):
    run = MeasuredRun(next(deployments()), Traffic("closed", 10, 10, users=1), Metrics())
    found = predict(run.deployment, replace(run.traffic, requests=2))
    found = replace(found, origin=(1.0 - fallback, 0.0, fallback))
    return [Observed(run, group, found, {"tpot": error}) for error in errors]


def test_coverage_is_near_eighty_per_cent_on_groups_of_one_kind():
    random = np.random.default_rng(0)
    every = []
    for i in range(30):
        every += observed((f"s{i}", "vllm", "m", "agg"), random.normal(0.0, 0.2, 20))
    assert 0.76 < covered(every)["tpot"] < 0.84
    assert validation(every)["tpot_groups"] == 30
    assert validation(every)["tpot_mean"] == pytest.approx(0.16, abs=0.02)


def shifted_groups(*shifts):
    """Spreads of 20 groups of 40 runs, those named shifted as a whole."""
    random, every = np.random.default_rng(1), []
    for i in range(20):
        shift = shifts[i] if i < len(shifts) else 0.0
        every += observed((f"s{i}", "vllm", "m", "agg"), random.normal(shift, 0.1, 40))
    return [one for one in spreads(every, every) if one.metric == "tpot" and one.mode == "agg"]


def test_spreads_of_measured_groups_lie_where_their_runs_do():
    found = shifted_groups(0.12)
    common = next(one for one in found if not one.system)
    shifted = next(one for one in found if one.system == "s0")
    middle = LEVELS.index(0.5)
    assert common.groups == 20
    assert shifted.quantiles[middle] > 0.06 > common.quantiles[middle]
    assert shifted.rows == 40


def test_a_group_far_from_all_others_says_nothing_of_its_kind():
    found = shifted_groups(0.9)
    assert not [one for one in found if one.system == "s0"]
    assert len([one for one in found if one.system]) == 19


def test_every_interval_of_a_group_holds_the_prediction():
    low, high = LEVELS.index(0.1), LEVELS.index(0.9)
    for one in shifted_groups(0.13, -0.13):
        assert one.quantiles[low] <= 0.0 <= one.quantiles[high]
        assert list(one.quantiles) == sorted(one.quantiles)


def test_a_written_calibration_reads_as_what_it_was(tmp_path, runs, monkeypatch):
    path = tmp_path / "runs.csv"
    path.write_text("x")
    rows = [module.Row({"mtp/spec": "none"}, run, "ok") for run in runs[:6]]
    monkeypatch.setattr(module, "read_rows", lambda _path, _given: rows)
    found, left_out = module.calibrate([path], rows=3, progress=lambda _: None)
    assert len(left_out) == len(rows)
    write_calibration(tmp_path / "c.yaml", found)
    read = load_calibration(tmp_path / "c.yaml")
    assert read.files == found.files
    assert read.engines == found.engines
    assert read.spreads == found.spreads
    again, _ = module.calibrate([path], rows=3, progress=lambda _: None)
    assert again == found
    assert {kind.fact for kind in KINDS} >= set(read.engines[0].facts)
