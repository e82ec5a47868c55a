import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.model import layout_problem, load_model
from aiconf.parallel import Parallel
from aiconf.search.space import concurrencies, layouts

CASES = [
    ("QWEN3_32B", "h200_sxm", "vllm", 32),
    ("gpt-oss-120b", "b200_sxm", "sglang", 16),
    ("DEEPSEEK_R1", "gb200", "trtllm", 64),
]


@pytest.mark.parametrize(("model", "system", "backend", "gpus"), CASES)
def test_every_layout_is_legal_and_none_is_listed_twice(model, system, backend, gpus):
    place, spec = platform(system, backend), load_model(model)
    found = layouts(place, spec, gpus)
    assert len(found) == len(set(found)) > 0
    for parallel in found:
        assert parallel.gpus <= gpus
        assert parallel.tp <= place.system.nvlink_domain
        assert layout_problem(spec, parallel) is None
        assert not place.traits.allows(parallel, moe=spec.is_moe)


@pytest.mark.parametrize(("model", "system", "backend", "gpus"), CASES)
def test_more_gpus_only_add_layouts(model, system, backend, gpus):
    place, spec = platform(system, backend), load_model(model)
    less = set(layouts(place, spec, gpus // 2))
    more = set(layouts(place, spec, gpus))
    assert less <= more
    assert all(parallel.gpus > gpus // 2 for parallel in more - less)


def test_a_rack_is_one_domain():
    found = layouts(platform("gb200", "trtllm"), load_model("DEEPSEEK_R1"), 72)
    assert Parallel(1, 1, 32, 32) in found
    assert any(parallel.dp > 4 and parallel.ep > 4 for parallel in found)
    assert any(parallel.tp > 4 for parallel in found)  # beyond a tray of four
    assert any(parallel.gpus == 64 and parallel.ep == 64 for parallel in found)


def test_dense_models_are_not_given_dp_or_ep():
    for parallel in layouts(platform("h200_sxm", "vllm"), load_model("QWEN3_32B"), 32):
        assert parallel.dp == parallel.ep == 1


def test_concurrencies_are_dense_at_first_whole_and_end_at_the_most():
    found = concurrencies(1000.7)
    assert found[:16].tolist() == list(range(1, 17))
    assert found[-1] == 1000.0
    assert (found == np.round(found)).all()
    assert (np.diff(found) > 0).all()
    assert (found[1:] / found[:-1])[16:].max() < 1.15
    assert len(concurrencies(0.5)) == 0
    assert concurrencies(1).tolist() == [1.0]
