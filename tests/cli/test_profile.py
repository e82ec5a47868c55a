"""``aiconf profile``: what bad input gets, and what each command prints."""

import json
import sys
from pathlib import Path

import pytest

from profilers import journal
from profilers.journal import Journal
from profilers.plan import Job


@pytest.fixture
def without_gpu(monkeypatch):
    """A machine with torch and no GPU."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def finished(tmp_path):
    """A run with two points, one refused and a damaged last line."""
    out = tmp_path / "run"
    device = {"name": "NVIDIA H200", "system": "h200_sxm"}
    session = {
        "kind": "session", "device": device, "driver": {"driver_version": "580.1"},
        "libraries": {"torch": "2.11.0"}, "date": "2026-11-26T10:00:00+00:00",
    }  # fmt: skip
    with Journal(out) as book:
        book.write(Job(("gemm",), ("torch",), True, 540.0).record(), session)
        for m in (1, 64):
            row = {"dtype": "bf16", "n": 64, "k": 64, "kernel": "torch.mm", "m": m}
            book.write(
                {"kind": "point", "point": f"torch/gemm m={m}", "table": "gemm",
                 "backend": "torch", "row": row, "seconds": m * 1e-6, "spread": 0.01,
                 "samples": 11, "sets": 4, "error": 1e-3, "wall": 30.0, "watt": 500.0 + m},
            )  # fmt: skip
        book.write({"kind": "refused", "point": "torch/gemm m=2", "why": "too wide", "wall": 1.0})
    with (out / journal.NAME).open("a") as file:
        file.write('{"sha256": "half')
    return out


def test_list_says_what_can_run_here(aiconf):
    code, out, _ = aiconf("profile", "list")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "CutlassNvFp4LinearKernel" in line]
    assert line.split()[:3] == ["gemm", "gemm", "vllm"]
    assert line.endswith(("vllm not installed", "needs sm 100", "a GPU", "yes", "sm 90"))


def test_plan_of_a_named_system_needs_no_gpu(aiconf):
    words = ("profile", "plan", "--system", "h200", "--quick", "--backend", "torch")
    code, out, err = aiconf(*words)
    assert (code, err) == (0, "")
    assert "gemm torch: 36 lines" in out


@pytest.mark.parametrize("ops", ["nixl", "nixl,nccl", "moe"])
def test_a_plan_for_elsewhere_asks_for_no_backend_that_nobody_named(aiconf, ops):
    code, out, err = aiconf("profile", "plan", "--system", "h200", "--quick", "--ops", ops)
    assert (code, err) == (0, "")
    assert " lines, " in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "--ops", "gemn"), "unknown operator 'gemn': did you mean gemm?"),
        (("plan", "--backend", "vlm"), "unknown backend 'vlm': did you mean vllm?"),
        (("plan", "--backend", "nixl"), "nixl is an operator and no backend: give --ops nixl"),
        (("plan", "--backend", "torch,nccl"), "nccl is an operator and no backend: give --ops"),
        (("plan", "--ops", "vllm"), "vllm is a backend and no operator: give --backend vllm"),
        (("plan", "--budget", "soon"), "'soon' is no time to spend: write 90s, 20m or 2h"),
        (("plan", "--budget", "0m"), "'0m' is no time to spend"),
        (("plan", "--system", "h20"), "unknown system 'h20'"),
        (("run", "--device", "tpu", "--out", "x"), "'tpu' is not one of cuda, cpu"),
        (("status", "nothing"), "nothing holds no run: there is no journal.jsonl"),
        (("resume", "nothing"), "nothing holds no run"),
        (("import", "nothing", "--into", "x"), "nothing holds no run"),
        (("run",), "Missing option '--out'"),
    ],
)
def test_bad_input_gets_one_line(aiconf, words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = aiconf("profile", *words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


def test_no_gpu_is_one_line_before_anything_runs(aiconf, without_gpu, tmp_path):
    out = tmp_path / "out"
    code, _, err = aiconf("profile", "run", "--out", out)
    assert code == 2
    assert err == (
        "error: no GPU: torch sees no CUDA device here; plan with --system NAME, "
        "or rehearse with --device cpu\n"
    )
    assert not out.exists()


def test_no_torch_is_one_line(aiconf, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = aiconf("profile", "run", "--out", tmp_path / "out")
    assert code == 2
    assert "profiling needs PyTorch: pip install 'aiconf[profile]'" in err


def test_a_folder_with_a_run_is_not_written_over(aiconf, finished):
    code, _, err = aiconf("profile", "run", "--out", finished)
    assert code == 2
    assert f"go on with `aiconf profile resume {finished}`" in err


def test_a_folder_with_tables_of_others_is_not_written_over(aiconf, finished, tmp_path):
    mine = tmp_path / "mine"
    assert aiconf("profile", "import", str(finished), "--into", str(mine))[0] == 0
    before = {path: path.read_bytes() for path in mine.rglob("*.*") if path.is_file()}
    code, _, err = aiconf("profile", "run", "--device", "cpu", "--ops", "gemm", "--out", str(mine))
    assert code == 2
    assert f"{mine} holds tables: measure into another folder" in err
    assert {path: path.read_bytes() for path in mine.rglob("*.*") if path.is_file()} == before


def test_status_tells_points_refusals_and_damage(aiconf, finished):
    code, out, _ = aiconf("profile", "status", finished)
    assert code == 0
    assert out.splitlines() == [
        f"{finished}: 2 points measured, 1 refused, 1 min 01 s in 1 sessions",
        "  asked for: gemm, torch, quick, budget 9 min 00 s",
        "  on NVIDIA H200, driver 580.1, torch 2.11.0",
        "  torch/gemm: 2 points, spread 1.0% (median)",
        "  refused 1: too wide",
        "  1 damaged lines, which `resume` drops",
    ]


def test_import_lays_a_run_over_a_perf_db(aiconf, finished, tmp_path):
    into = tmp_path / "db"
    code, out, err = aiconf("profile", "import", finished, "--into", into)
    told = "1 of 6 journal lines left out: the last one was cut off"
    assert (code, err) == (0, f"{finished}: {told}\n")
    assert f"h200_sxm/torch/gemm: 2 rows (2 from {finished})" in out
    code, out, _ = aiconf("db", "show", "h200_sxm", "torch", "gemm", "m=64", "--perf-db", into)
    assert "1 rows match" in out
    assert aiconf("db", "verify", "--perf-db", into)[0] == 0
    (entry,) = json.loads((into / "manifest.json").read_text())["tables"]
    assert entry["origin"]["refused"] == 1
    # Again: nothing changes.
    before = (into / "h200_sxm/torch/gemm.parquet").read_bytes()
    assert aiconf("profile", "import", finished, "--into", into)[0] == 0
    assert (into / "h200_sxm/torch/gemm.parquet").read_bytes() == before


def rewritten(folder, change):
    """Change the records of a journal, checksums and all."""
    records = list(journal.read(folder).records)
    for record in records:
        change(record)
    (folder / journal.NAME).write_text("".join(map(journal.line_of, records)))


def elsewhere(record):
    if record["kind"] == "session":
        record["device"]["system"] = "../../elsewhere"


def without_a_column(record):
    if record["kind"] == "point":
        record["row"].pop("m")


def without_a_session(record):
    if record["kind"] == "session":
        record["kind"] = "note"


def later_format(record):
    if record["kind"] == "job":
        record["format"] = 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (elsewhere, "'../../elsewhere' is no name of a system, backend or table"),
        (without_a_column, "torch/gemm m=1 is no row of table gemm"),
        (without_a_session, "does not say on what its points were measured"),
        (later_format, "was written by another version of aiconf"),
    ],
)
def test_a_journal_of_others_is_checked_before_anything_is_written(
    aiconf, finished, tmp_path, change, says
):
    rewritten(finished, change)
    code, _, err = aiconf("profile", "import", finished, "--into", tmp_path / "a" / "db")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.parquet"))


def test_import_says_which_lines_it_leaves_out(aiconf, finished, tmp_path):
    path = finished / journal.NAME
    path.write_text(path.read_text().replace('"m": 64', '"m": 65'))
    code, out, err = aiconf("profile", "import", finished, "--into", tmp_path / "db")
    assert code == 0
    assert "2 of 6 journal lines left out: the last one was cut off, 1 with a checksum that" in err
    assert "h200_sxm/torch/gemm: 1 rows" in out
    path.write_text(path.read_text().replace('"m": 1,', '"m": 2,'))
    code, out, err = aiconf("profile", "import", finished, "--into", tmp_path / "db")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no measured point yet (3 of 6 journal lines left out: the last one was cut" in err


def test_import_into_an_empty_folder(aiconf, finished, tmp_path):
    into = tmp_path / "db"
    into.mkdir()
    assert aiconf("profile", "import", finished, "--into", into)[0] == 0
    assert (into / "manifest.json").is_file()


def test_a_damaged_session_costs_no_point(aiconf, finished, tmp_path):
    """What a later session says of the device holds for all."""
    records = list(journal.read(finished).records)
    lines = [*records[:1], *records[2:], records[1]]
    (finished / journal.NAME).write_text("".join(map(journal.line_of, lines)))
    code, out, _ = aiconf("profile", "import", finished, "--into", tmp_path / "db")
    assert code == 0
    assert "h200_sxm/torch/gemm: 2 rows" in out


def test_reasons_that_differ_in_numbers_are_counted_together(aiconf, finished):
    journal.repair(finished)
    with Journal(finished) as book:
        whys = ("spread 12% of the median", "spread 340% of the median", "beats 1.2e-06 s")
        for why in whys:
            book.write({"kind": "refused", "point": "p", "why": why, "wall": 1.0})
    _, out, _ = aiconf("profile", "status", finished)
    assert "  refused 2: spread 12% of the median and alike\n" in out
    assert "  refused 1: beats 1.2e-06 s\n" in out


def test_a_lost_device_starts_the_run_again(aiconf, finished, monkeypatch):
    pytest.importorskip("torch")
    from profilers import device, run
    from profilers.measure import LostDevice

    started = []

    def execv(program, words):
        started.append((program, words))
        raise SystemExit(0)

    def lost(*_words, **_options):
        raise LostDevice("illegal access")

    monkeypatch.setattr("os.execv", execv)
    monkeypatch.setattr(run, "run", lost)
    monkeypatch.setattr(device, "detect", lambda *_words, **_options: device.planned("h200_sxm"))
    with pytest.raises(SystemExit):
        aiconf("profile", "resume", finished, "--budget", "9m")
    ((program, words),) = started
    assert program == sys.executable
    resume = ["-m", "aiconf", "profile", "resume", str(finished), "--allow-busy", "--budget"]
    assert words[1:-1] == resume
    assert 500 < float(words[-1].removesuffix("s")) <= 540


@pytest.mark.parametrize("words", [(), ("--budget", "1s")])
def test_a_device_that_is_lost_when_the_budget_is_spent_is_not_taken_up_again(
    aiconf, finished, monkeypatch, words
):
    pytest.importorskip("torch")
    from profilers import device, run
    from profilers.measure import LostDevice

    def lost(*_words, **_options):
        with Journal(finished) as book:
            book.write({"kind": "refused", "point": "x", "why": "slow", "wall": 500.0})
        raise LostDevice("illegal access")

    journal.repair(finished)
    monkeypatch.setattr("os.execv", lambda *_words: pytest.fail("it was started again"))
    monkeypatch.setattr(run, "run", lost)
    monkeypatch.setattr(device, "detect", lambda *_words, **_options: device.planned("h200_sxm"))
    code, out, _ = aiconf("profile", "resume", finished, *words)
    assert code == 0
    assert "broke the GPU's context (illegal access): the budget is spent" in out
    assert "h200_sxm/torch/gemm.parquet: 2 rows" in out


def test_resume_shows_the_budget_that_it_was_given(aiconf, finished, monkeypatch):
    pytest.importorskip("torch")
    from profilers import device, run

    monkeypatch.setattr(run, "run", lambda *_words, **_options: True)
    monkeypatch.setattr(device, "detect", lambda *_words, **_options: device.planned("h200_sxm"))
    out = aiconf("profile", "resume", finished, "--budget", "2m")[1]
    assert "  budget 2 min 00 s: " in out
    assert "  budget 9 min 00 s: " in aiconf("profile", "resume", finished)[1]


def test_a_rehearsal_on_the_cpu(aiconf, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "out"
    words = ("--ops", "gemm", "--device", "cpu", "--quick", "--budget", "4s", "--backend", "torch")
    code, said, err = aiconf("profile", "run", *words, "--out", out)
    assert (code, err) == (0, "")
    assert f"{Path(out)}/cpu/torch/gemm.parquet" in said
    code, said, _ = aiconf("db", "verify", "--perf-db", out)
    assert code == 0
