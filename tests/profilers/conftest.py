import pytest

from profilers.device import Device


@pytest.fixture
def cpu():
    """A CPU of which nothing is measured."""
    return Device("cpu", "test", "cpu", 0, 1e10, 0.0, {"bf16": 1e11}, 1e10, datasheet=False)
