import numpy as np
import pytest

from aiconf.perf.collective import collective_seconds
from aiconf.perf.exchange import (
    GATHER,
    Exchange,
    exchange_light,
    exchange_seconds,
    measured_kernels,
)
from aiconf.perf.origin import Origin
from aiconf.system import load_system

TOKENS = np.array([1.0, 64.0, 1024.0, 8192.0])
SHAPE = Exchange(ranks=8, hidden=7168, topk=8, experts=256, dtype="fp8")


def test_one_rank_exchanges_nothing(hand_made):
    alone = Exchange(1, 7168, 8, 256, "bf16")
    assert (exchange_seconds(hand_made({}), GATHER, alone, TOKENS)[0] == 0).all()


def test_the_gather_way_is_a_gather_and_a_scatter_of_all_tokens(hand_made):
    tables = hand_made({})
    moved = TOKENS * 8 * 7168 * 2.0
    expected = sum(
        collective_seconds(tables, op, 8, moved)[0] for op in ("all_gather", "reduce_scatter")
    )
    assert exchange_seconds(tables, GATHER, SHAPE, TOKENS)[0] == pytest.approx(expected)


def test_light_counts_the_distinct_ranks_of_a_token():
    system = load_system("h200_sxm")
    seconds = exchange_light(system, SHAPE, "combine", np.array([1.0]))[0]
    copies = seconds * system.nvlink_bandwidth / SHAPE.hidden / 2.0  # bf16
    assert 0 < copies < 7  # at most every other rank once, although topk is 8


def test_beyond_the_domain_the_network_is_the_slower_part():
    system = load_system("h200_sxm")
    wide = Exchange(16, 7168, 8, 256, "fp8")
    inside = exchange_light(system, SHAPE, "dispatch", TOKENS)
    assert (exchange_light(system, wide, "dispatch", TOKENS) > inside).all()


def test_an_unmeasured_kernel_is_a_fallback(hand_made):
    time, origin = exchange_seconds(hand_made({}), "deepep_ll", SHAPE, TOKENS)
    assert (origin == Origin.FALLBACK).all()
    assert (time > 0).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", ["h200_sxm", "gb200", "gb300"])
def test_embedded_kernels_answer_and_never_fall(embedded, system, backend):
    tables = embedded(system, backend)
    for kernel in (GATHER, *sorted(measured_kernels(tables))):
        for ranks in (4, 8, 16, 64):
            shape = Exchange(ranks, 7168, 8, 256, "fp8")
            time, _ = exchange_seconds(tables, kernel, shape, TOKENS)
            assert np.isfinite(time).all()
            assert (time > 0).all()
            assert (np.diff(time) >= -1e-12).all()
