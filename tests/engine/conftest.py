import pytest

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel


@pytest.fixture(scope="session")
def step():
    """Step model of (model, system, backend, layout)."""

    def build(model="QWEN3_32B", system="h200_sxm", backend="vllm", layout="tp2", kv="bf16"):
        return platform(system, backend).step(load_model(model), Parallel.parse(layout), kv)

    return build
