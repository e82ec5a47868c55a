from __future__ import annotations

import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.simulate.requests import Load
from aiconf.simulate.timer import IterationTimer

LONGEST = 4096


@pytest.fixture(scope="session")
def step():
    spec = load_model("qwen3-32b", "fp8")
    return platform("h200_sxm", "vllm").step(spec, Parallel(4), spec.quantization.kv)


@pytest.fixture(scope="session")
def timer(step):
    return IterationTimer(step, 9216, 512, LONGEST)


@pytest.fixture
def load():
    def build(count=40, users=8, isl=1000, osl=200, seed=0, arrival=None):
        random = np.random.default_rng(seed)
        prompt = random.integers(isl // 2, isl + 1, count)
        output = random.integers(max(osl // 2, 1), osl + 1, count)
        return Load(prompt, output, arrival, 0 if arrival is not None else users)

    return build
