"""Measured runs are not part of the repository: without them these tests are skipped."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def errors():
    """Errors of every aggregated closed-loop run that is answered."""
    from accuracy import predict
    from measured import FOLDER, aggregated_runs

    if not FOLDER.is_dir():
        pytest.skip(f"no measured runs in {FOLDER.name}")
    found, refused = predict(
        run for run in aggregated_runs() if not run.hides_drafts and not run.queued
    )
    assert len(found) > len(refused)
    return found
