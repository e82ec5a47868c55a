import pytest

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel


@pytest.fixture(scope="session")
def step():
    """Step model of a layout of Qwen3-32B on h200_sxm, or of another model elsewhere."""

    def build(layout="tp2", backend="vllm", model="QWEN3_32B", system="h200_sxm"):
        spec = load_model(model)
        return platform(system, backend).step(spec, Parallel.parse(layout), spec.quantization.kv)

    return build
