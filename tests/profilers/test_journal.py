import pytest

from aiconf.errors import UserError
from profilers import journal
from profilers.journal import Journal

JOB = {"kind": "job", "format": 1}


def record(number):
    return {"kind": "point", "point": f"torch/gemm m={number}", "seconds": 1e-6 * number}


@pytest.fixture
def written(tmp_path):
    with Journal(tmp_path) as book:
        book.write(JOB)
        for number in range(3):
            book.write(record(number))
    return tmp_path


def test_what_is_written_is_read(written):
    reading = journal.read(written)
    assert reading.damaged == 0
    assert reading.records == (JOB, *map(record, range(3)))
    assert reading.of("point") == [record(number) for number in range(3)]


def test_a_line_cut_anywhere_is_found_and_dropped(written):
    """Whatever byte a kill stops at: all whole lines stay, the last one is measured again."""
    path = written / journal.NAME
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        reading = journal.repair(written)
        assert (len(reading.records), reading.damaged) == (3, 1), end
        assert path.read_bytes() == whole[:last]
        assert journal.read(written).damaged == 0


def test_a_changed_digit_is_found_by_its_checksum(written):
    path = written / journal.NAME
    text = path.read_text()
    assert "m=1" in text
    path.write_text(text.replace("m=1", "m=7"))
    reading = journal.repair(written)
    assert reading.damaged == 1
    assert [r["point"] for r in reading.of("point")] == ["torch/gemm m=0", "torch/gemm m=2"]


def test_a_run_goes_on_where_it_was(written):
    with Journal(written) as book:
        book.write(record(3))
    assert len(journal.read(written).of("point")) == 4


def test_only_one_run_writes(written):
    pytest.importorskip("fcntl")
    with Journal(written), pytest.raises(UserError, match="another run is writing"):
        Journal(written).__enter__()
    with Journal(written) as book:
        book.write(record(4))


def test_a_rank_that_does_not_lead_writes_nothing(tmp_path):
    with Journal(tmp_path / "out", writes=False) as book:
        book.write(JOB)
    assert not (tmp_path / "out").exists()


def test_no_journal_and_no_job_are_said(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        journal.read(tmp_path)
    (tmp_path / journal.NAME).write_text("not a journal\n")
    with pytest.raises(UserError, match="does not begin with what was asked for"):
        journal.read(tmp_path)
