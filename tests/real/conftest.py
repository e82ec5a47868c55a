"""Measured runs are not part of the repository: without them these tests are skipped."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

EVERY = 9  # rows of the files: one of so many is predicted


@pytest.fixture(scope="session")
def checked():
    """A part of the measured rows with their predictions."""
    from accuracy import FILES, FOLDER, scored

    from aiconf.runs.check import check

    if not FOLDER.is_dir():
        pytest.skip(f"no measured runs in {FOLDER.name}")
    rows = [row for name in FILES for row in scored(FOLDER / f"{name}.csv")]
    return check(rows[::EVERY])
