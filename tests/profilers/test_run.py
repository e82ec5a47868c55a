"""Whole runs on the CPU: nothing is made up but the shapes, which are small."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiconf.errors import UserError
from aiconf.perf.store import PerfDb
from profilers import catalog, facts, gemm, journal
from profilers.journal import Journal
from profilers.operator import Line
from profilers.plan import Job, plan
from profilers.run import Progress, _Loop, clock, replay, run
from profilers.tables import finish
from profilers.team import Alone
from profilers.timing import Method

ROOT = Path(__file__).resolve().parents[2]
JOB = Job(ops=("gemm",), backends=("torch",), device="cpu", seed=3)
METHOD = Method(samples=(3, 3), timed_seconds=0.0, most_sets=2, spread=1e9)
M = (1, 2, 4, 8, 16, 32, 64)


@pytest.fixture
def small(monkeypatch):
    """Two lines of small products."""
    pytest.importorskip("torch")
    lines = tuple(Line({"dtype": "bf16", "n": n, "k": 64}, M) for n in (32, 64))
    operator = replace(gemm.OPERATORS[0], lines=lambda _device, _quick: lines)
    monkeypatch.setattr(catalog, "operators", lambda _names: (operator,))


def measure(out, device, job=JOB, stop_after=None, **options):
    said = []

    def say(line):
        said.append(line)
        if stop_after and len(said) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    return run(job, plan(job, device, METHOD), device, METHOD, out, say, **options), said


def points(out):
    return [record["point"] for record in journal.read(out).of("point")]


def test_a_run_gives_tables_that_perf_db_takes(small, cpu, tmp_path):
    whole, said = measure(tmp_path, cpu)
    assert whole
    assert len(said) == len(points(tmp_path)) >= 10
    assert "left] torch/gemm dtype=bf16 n=32 k=64" in said[0]
    count = finish(tmp_path)["cpu/torch/gemm"]
    assert count == len(points(tmp_path))
    db = PerfDb.open(tmp_path)
    rows = db.read("cpu", "torch", "gemm", {"n": 32})
    assert set(rows["m"].tolist()) <= set(M)
    assert {1, 64} <= set(rows["m"].tolist())
    written = pd.read_parquet(tmp_path / "cpu/torch/gemm.parquet")
    assert (written.spread >= 0).all()
    assert written.watt.isna().all()  # nothing is sampled on a CPU
    by_point = {r["point"]: r["seconds"] for r in journal.read(tmp_path).of("point")}
    name = "torch/gemm dtype=bf16 n=32 k=64 kernel=torch.nn.functional.linear m=64"
    own = rows["seconds"][rows["m"] == 64]
    assert own == pytest.approx(by_point[name], rel=2**-12)


def test_power_and_clocks_of_the_samples_enter_the_table(small, cpu, tmp_path, monkeypatch):
    def between(_self, start, end):
        assert start < end
        return {"watt": 512.0, "sm_mhz": 1755.0}

    monkeypatch.setattr("profilers.watch.Watch.between", between)
    measure(tmp_path, cpu, stop_after=3)
    finish(tmp_path)
    rows = pd.read_parquet(tmp_path / "cpu/torch/gemm.parquet")
    assert (rows.watt == 512.0).all()
    assert (rows.sm_mhz == 1755.0).all()


def test_the_manifest_says_how_it_was_measured(small, cpu, tmp_path):
    measure(tmp_path, cpu)
    finish(tmp_path)
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["tables"]
    import torch

    assert entry["version"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(entry["sha256"]) == 64
    (session,) = entry["origin"]["sessions"]
    assert session["device"]["name"] == "test"
    assert session["seed"] == 3
    assert session["method"]["samples"] == [3, 3]
    assert {"driver", "cuda", "libraries", "commit", "date", "aiconf"} <= set(session)
    assert session["libraries"]["torch"] == entry["version"]


def test_a_stopped_run_goes_on_and_measures_nothing_twice(small, cpu, tmp_path):
    whole, said = measure(tmp_path, cpu, stop_after=4)
    assert not whole
    assert len(said) == 4  # the point in hand was finished
    whole, more = measure(tmp_path, cpu)
    assert whole
    names = points(tmp_path)
    assert len(names) == len(set(names)) == 4 + len(more)
    assert len(journal.read(tmp_path).of("session")) == 2


def test_a_half_written_line_is_repaired_and_measured_again(small, cpu, tmp_path):
    measure(tmp_path, cpu, stop_after=3)
    path = tmp_path / journal.NAME
    lost = points(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-20])
    _, said = measure(tmp_path, cpu)
    assert said[0] == "repaired the journal: 1 damaged lines dropped"
    assert points(tmp_path).count(lost) == 1


def test_a_run_killed_in_its_first_line_begins_anew(small, cpu, tmp_path):
    whole = journal.line_of(JOB.record())
    for end in (0, 1, 20, len(whole) - 1):
        out = tmp_path / str(end)
        out.mkdir()
        (out / journal.NAME).write_text(whole[:end])
        assert not journal.exists(out)
        measure(out, cpu, stop_after=1)
        reading = journal.read(out)
        assert (reading.damaged, len(reading.of("job")), len(reading.of("point"))) == (0, 1, 1)


def test_a_point_that_kills_the_process_twice_is_left(small, cpu, tmp_path):
    found = plan(JOB, cpu, METHOD)
    guilty = found.point(*found.refinement.seed()).name
    with Journal(tmp_path) as book:
        book.write(JOB.record(), *[{"kind": "begin", "point": guilty}] * 2)
    measure(tmp_path, cpu)
    assert guilty not in points(tmp_path)
    assert points(tmp_path)
    measure(tmp_path, cpu)
    refused = journal.read(tmp_path).of("refused")
    assert [(r["point"], r["why"]) for r in refused] == [(guilty, "ended the process 2 times")]


def test_a_budget_ends_the_run_and_is_spent_once(small, cpu, tmp_path):
    job = replace(JOB, budget=1e-9)
    assert measure(tmp_path, cpu, job)[1] == []
    with Journal(tmp_path) as book:
        book.write({"kind": "refused", "point": "none", "why": "slow", "wall": 1.0})
    with pytest.raises(UserError, match="budget of 0 s is spent: give more with --budget"):
        measure(tmp_path, cpu, job)
    assert measure(tmp_path, cpu, job, budget=600.0)[0]


def test_a_point_that_the_budget_cannot_pay_is_passed_by(small, cpu, tmp_path):
    found = plan(JOB, cpu, METHOD)
    for track in found.refinement.tracks:
        track.cost[-1] = 1e6  # the first look of every line
    assert run(JOB, found, cpu, METHOD, tmp_path, lambda _line: None, budget=60.0)
    assert points(tmp_path)
    assert not any(name.endswith(" m=64") for name in points(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 s"), (0.2, "1 s"), (60.0, "1 min 00 s"), (185.0, "3 min 05 s"),
     (7800.0, "2 h 10 min")],
)  # fmt: skip
def test_times_are_said_with_their_units(seconds, said):
    assert clock(seconds) == said


def test_the_first_point_of_a_kernel_does_not_set_the_pace():
    """It compiles and loads; the others of a budget do not."""
    progress = Progress()
    progress.count("a", 1.0, 60.0, refused=False)
    assert progress.pace == 1.0
    progress.count("b", 1.0, 0.1, refused=True)  # ended before it ran
    progress.count("b", 1.0, 60.0, refused=False)
    progress.count("a", 1.0, 2.0, refused=False)
    progress.count("b", 1.0, 4.0, refused=True)
    assert progress.pace == 3.0
    assert progress.seconds == pytest.approx(126.1)
    assert (progress.measured, progress.refused) == (3, 2)


def test_a_resumed_run_knows_the_pace_without_the_first_points_of_its_sessions(small, cpu):
    found = plan(JOB, cpu, METHOD)
    names = [found.point(0, place).name for place in range(4)]
    cost = float(found.refinement.tracks[0].cost[0])
    records = [JOB.record()]
    for wall, *two in ((50.0, *names[:2]), (70.0, *names[2:])):
        records.append({"kind": "session"})
        for name, taken in zip(two, (wall, 2.0 * cost), strict=True):
            records.append({"kind": "point", "point": name, "seconds": 1e-3, "wall": taken})
    progress = replay(found, journal.Reading(tuple(records), 0))
    assert progress.pace == pytest.approx(2.0, rel=0.1)
    assert progress.seconds == pytest.approx(120.0 + 4.0 * cost)
    assert not progress.warm


@pytest.mark.parametrize(("elapsed", "line"), [(50.0, 1), (70.0, 0)])
def test_the_last_part_of_a_budget_halves_gaps_of_lines_begun(small, cpu, elapsed, line):
    found = plan(JOB, cpu, METHOD)
    order = found.refinement
    for _ in range(5):  # the first line; far from straight
        track, place = order.seed()
        order.add(track, place, 1e-3 if place in {0, len(M) - 1} else 1.0)
    loop = _Loop(found, None, None, print, Progress(), Alone(), 100.0)
    assert loop._next(elapsed)[0] == line


def test_rows_of_an_earlier_table_are_not_measured_again(small, cpu, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    measure(first, cpu, stop_after=4)
    finish(first)
    job = replace(JOB, perf_db=str(first))
    assert plan(job, cpu, METHOD).known == 4
    measure(second, cpu, job)
    assert points(second)
    assert not set(points(first)) & set(points(second))


def test_another_device_does_not_go_on(small, cpu, tmp_path):
    measure(tmp_path, cpu, stop_after=2)
    with pytest.raises(UserError, match="was measured on test; this is other"):
        measure(tmp_path, replace(cpu, name="other"))


def test_another_version_of_a_library_does_not_go_on(small, cpu, tmp_path, monkeypatch):
    measure(tmp_path, cpu, stop_after=2)
    before = facts.versions()["torch"]
    monkeypatch.setattr(facts, "versions", lambda: {"torch": "99.0"})
    with pytest.raises(UserError, match=rf"with torch {re.escape(before)}; this is 99.0: begin"):
        measure(tmp_path, cpu)


def test_refused_points_leave_no_row(small, cpu, tmp_path):
    def prepare(_key, inputs):
        return lambda: inputs["x"] @ inputs["w"].T * 1.1

    (operator,) = catalog.operators(())
    wrong = replace(operator.kernels[0], name="wrong", prepare=prepare)
    both = replace(operator, kernels=(operator.kernels[0], wrong))
    catalog.operators = lambda _names: (both,)  # undone by the fixture's monkeypatch
    measure(tmp_path, cpu)
    reading = journal.read(tmp_path)
    assert all("kernel=wrong" in r["point"] for r in reading.of("refused"))
    assert len(reading.of("refused")) == 10  # first looks; nothing is refined from them
    finish(tmp_path)
    rows = PerfDb.open(tmp_path).read("cpu", "torch", "gemm")
    assert set(rows["kernel"]) == {"torch.nn.functional.linear"}
    assert np.isfinite(rows["seconds"]).all()


def test_nothing_measured_gives_no_tables(small, cpu, tmp_path):
    measure(tmp_path, cpu, replace(JOB, budget=1e-9))
    with pytest.raises(UserError, match="no measured point yet"):
        finish(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_process_loses_at_most_the_point_in_hand(tmp_path):
    """SIGKILL in the middle of a real command; what it had said is in the journal."""
    pytest.importorskip("torch")
    out = tmp_path / "out"
    words = ["profile", "run", "--ops", "gemm", "--device", "cpu", "--quick", "--out", str(out)]
    command = [sys.executable, "-m", "aiconf", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[1,"):
                break
        process.kill()
    before = points(out)
    assert before
    command = [*command[:3], "profile", "resume", str(out), "--budget", "3s"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{out}/cpu/torch/gemm.parquet" in done.stdout
    after = points(out)
    assert after[: len(before)] == before
    assert len(after) == len(set(after))
