"""Whole runs: a server is started, measured, stopped, and the run goes on where it ended."""

import dataclasses
import os
import signal
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from aiconf.errors import UserError
from aiconf.runs.read import read_rows
from profilers import journal
from profilers.device import planned
from profilers.engine import run as engine_run
from profilers.engine.points import Point, load_of
from profilers.engine.server import Launch
from profilers.engine.settings import Settings, context_of

SCRIPT = Path(__file__).with_name("token_server.py")
H200 = planned("h200_sxm")
BASE, PROMPT, SEQUENCE = 0.02, 2e-5, 2e-4
FLAGS = ("--base", str(BASE), "--prompt", str(PROMPT), "--sequence", str(SEQUENCE), "--kv", "9000")
SETTINGS = Settings("vllm", "Qwen/Qwen3-0.6B", quick=True, loads=(load_of("2:64:8:6"),))
FEW = (
    Point(prefill=512), Point(decode=4, context=500), Point(decode=64, context=1000),
    Point(256, 4, 500), Point(load=load_of("2:64:8:6")),
)  # fmt: skip


@pytest.fixture(autouse=True)
def token_server(monkeypatch):
    """An engine that is the token server, and few points."""

    def command(self, host, port):
        assert (self.folder / "config.json").is_file()
        return [sys.executable, str(SCRIPT), "--host", host, "--port", str(port), *FLAGS]

    monkeypatch.setattr(Launch, "command", command)
    monkeypatch.setattr(engine_run, "points", lambda quick, loads: iter(FEW))
    monkeypatch.setattr(engine_run, "SPREAD", 5.0)  # this machine does other things as well


def test_a_run_gives_a_table_of_iterations_and_operating_points(tmp_path):
    said = []
    assert engine_run.run(SETTINGS, H200, tmp_path, said.append)
    engine_run.finish(tmp_path)
    table = pd.read_parquet(tmp_path / "h200_sxm/vllm/iteration.parquet")
    expected = BASE + PROMPT * table.prefill + SEQUENCE * table.decode
    assert table.seconds.tolist() == pytest.approx(expected.tolist(), rel=0.3)
    assert set(table.seen) == {"first", "interval"}
    assert set(table.model) == {"Qwen/Qwen3-0.6B"}
    assert set(table.layout) == {"tp1pp1dp1ep1"}
    assert any("KV cache" in line for line in said)  # 64 sequences of 1,000 tokens
    session = journal.read(tmp_path).of("session")[0]
    assert session["engine"]["kv_tokens"] == 9000
    assert not [word for word in session["engine"]["command"] if str(tmp_path) in word]
    (row,) = read_rows(tmp_path / "operating_points.csv", {})
    assert row.status == "ok", row.reason
    run = row.run
    assert (run.traffic.kind, run.traffic.users, run.traffic.isl) == ("closed", 2, 64)
    assert run.traffic.requests == 6
    assert run.deployment.system == "h200_sxm"
    assert run.metrics.tpot_mean == pytest.approx(BASE + 2 * SEQUENCE, rel=0.5)


def test_a_second_run_measures_what_is_left_and_nothing_twice(tmp_path):
    assert engine_run.run(SETTINGS, H200, tmp_path, print, limit=0.0)  # no time for any point
    assert not journal.read(tmp_path).of("point")
    with pytest.raises(UserError, match="no measured point"):
        engine_run.finish(tmp_path)
    assert engine_run.run(SETTINGS, H200, tmp_path, print)
    first = len(journal.read(tmp_path).records)
    assert engine_run.run(SETTINGS, H200, tmp_path, print)
    again = journal.read(tmp_path)
    assert [record["kind"] for record in again.records[first:]] == ["session"]


def test_a_disturbed_point_is_not_repeated_when_the_time_is_spent(tmp_path, monkeypatch):
    """It is neither refused nor lost: another session takes it up."""
    monkeypatch.setattr(engine_run, "SPREAD", -1.0)
    monkeypatch.setattr(engine_run._Keeping, "spent", lambda self: bool(self.walls or calls))
    calls = []
    seen = engine_run._seen

    async def counted(*words):
        calls.append(words)
        return await seen(*words)

    monkeypatch.setattr(engine_run, "_seen", counted)
    said = []
    assert engine_run.run(SETTINGS, H200, tmp_path, said.append)
    assert len(calls) == 1
    assert said[-1].startswith("the time is spent: ")
    assert not journal.read(tmp_path).of("refused")


def test_a_point_that_twice_ended_the_run_is_left_out(tmp_path):
    with journal.Journal(tmp_path) as book:
        book.write(SETTINGS.record())
        for point in FEW[1:]:
            book.write(*[{"kind": "begin", "point": point.name}] * 2)
    assert engine_run.run(SETTINGS, H200, tmp_path, print)
    points = journal.read(tmp_path).of("point")
    assert [record["point"] for record in points] == [FEW[0].name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_point_in_hand(tmp_path, number):
    def stop_after_one(line):
        if line.startswith("[1 of"):
            os.kill(os.getpid(), number)

    assert not engine_run.run(SETTINGS, H200, tmp_path, stop_after_one)
    assert len(journal.read(tmp_path).of("point")) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert engine_run.run(SETTINGS, H200, tmp_path, print)


def test_a_signal_while_the_server_starts_ends_it_at_once(tmp_path, monkeypatch):
    words = [sys.executable, str(SCRIPT), "--load", "600"]
    monkeypatch.setattr(Launch, "command", lambda self, host, port: words)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert not engine_run.run(SETTINGS, H200, tmp_path, print)
    assert not journal.exists(tmp_path)


def test_a_server_that_ends_is_an_error_of_one_line(tmp_path, monkeypatch):
    words = [sys.executable, str(SCRIPT), "--fail", "RuntimeError: out of memory"]
    monkeypatch.setattr(Launch, "command", lambda self, host, port: words)
    with pytest.raises(UserError, match="RuntimeError: out of memory"):
        engine_run.run(SETTINGS, H200, tmp_path, print)
    assert not journal.exists(tmp_path)


def test_a_running_server_is_measured_by_its_address(tmp_path, serving):
    with serving(base=0.01) as server:
        url = f"http://{server.host}:{server.port}"
        settings = dataclasses.replace(SETTINGS, url=url, sequences=8)
        assert engine_run.run(settings, H200, tmp_path, print)
        session = journal.read(tmp_path).of("session")[0]
        assert session["libraries"]["vllm"] == "1.2.3"
        with pytest.raises(UserError, match="write http://HOST:PORT"):
            bad = dataclasses.replace(settings, url="ftp://x")
            engine_run.run(bad, H200, tmp_path / "b", print)
    with pytest.raises(UserError, match="no engine answers"):
        engine_run.run(settings, H200, tmp_path, print)


def test_a_folder_of_another_run_is_refused(tmp_path):
    with journal.Journal(tmp_path) as book:
        book.write(SETTINGS.record())
    other = dataclasses.replace(SETTINGS, budget=4096)
    with pytest.raises(UserError, match="other settings"):
        engine_run.run(other, H200, tmp_path, print)


def test_the_context_is_what_the_model_has():
    small = dataclasses.replace(SETTINGS, model="meta-llama/Llama-2-7b-hf")
    assert context_of(SETTINGS) == 20480
    assert context_of(small) == 4096
    assert context_of(dataclasses.replace(small, context=2048)) == 2048


def test_settings_survive_the_journal():
    assert Settings.of(SETTINGS.record()) == SETTINGS
    assert SETTINGS.flags != dataclasses.replace(SETTINGS, extra=("--enforce-eager",)).flags
