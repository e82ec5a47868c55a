import numpy as np
import pytest

from aiconf.engine.platform import platform
from aiconf.perf.collective import collective_seconds, link_light, send_seconds
from aiconf.perf.origin import Origin
from aiconf.system import load_system

SIZES = np.array([1e3, 1e5, 1e7, 1e9])
H200 = load_system("h200_sxm")


def rows(op, source_dtype, gpus, efficiency):
    light = link_light(H200, op, gpus, SIZES)
    count = len(SIZES)
    return {
        "op": [op] * count, "kernel": ["k"] * count, "dtype": [source_dtype] * count,
        "gpus": [gpus] * count, "bytes": SIZES.astype(int).tolist(),
        "seconds": (efficiency * (5e-6 + light)).tolist(),
    }  # fmt: skip


def test_one_rank_needs_no_time(hand_made):
    time, origin = collective_seconds(hand_made({}), "all_reduce", 1, SIZES)
    assert (time == 0).all()
    assert (origin == Origin.MEASURED).all()


def test_a_measured_count_of_ranks_is_returned(hand_made):
    table = rows("all_reduce", "bf16", 8, 2.0)
    time, origin = collective_seconds(hand_made({"collective": table}), "all_reduce", 8, SIZES)
    assert time == pytest.approx(table["seconds"])
    assert (origin == Origin.MEASURED).all()


def test_the_faster_of_the_engine_and_nccl_is_taken(hand_made):
    own, nccl = rows("all_reduce", "bf16", 8, 4.0), rows("all_reduce", "fp16", 8, 2.0)
    tables = hand_made({"collective": own, ("nccl", "collective"): nccl})
    time, _ = collective_seconds(tables, "all_reduce", 8, SIZES)
    assert time == pytest.approx(nccl["seconds"])


def test_another_count_of_ranks_is_a_fallback_with_its_own_traffic(hand_made):
    tables = hand_made({"collective": rows("all_reduce", "bf16", 8, 2.0)})
    time, origin = collective_seconds(tables, "all_reduce", 2, SIZES)
    assert (origin == Origin.FALLBACK).all()
    assert time[-1] < collective_seconds(tables, "all_reduce", 8, SIZES)[0][-1]


def test_without_tables_it_is_the_link_and_its_latency(hand_made):
    time, origin = collective_seconds(hand_made({}), "all_gather", 4, SIZES)
    assert time == pytest.approx(link_light(H200, "all_gather", 4, SIZES) + H200.nvlink_latency)
    assert (origin == Origin.FALLBACK).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_beyond_the_domain_it_is_nccl_and_the_network(backend):
    tables = platform("h100_sxm", backend).tables
    inside, _ = collective_seconds(tables, "all_reduce", 8, SIZES)
    outside, origin = collective_seconds(tables, "all_reduce", 16, SIZES)
    network = SIZES / 8 / tables.system.network_bandwidth + 2 * tables.system.network_latency
    assert (outside - network >= inside * (1 - 1e-9)).all()
    assert (outside - network)[0] > 1.2 * inside[0]  # the engine's own kernel ends at the domain
    assert (origin == Origin.FALLBACK).all()


def test_an_all_reduce_moves_twice_what_an_all_gather_moves():
    assert link_light(H200, "all_reduce", 4, SIZES) == pytest.approx(
        2 * link_light(H200, "all_gather", 4, SIZES)
    )


def test_a_send_is_slower_over_the_network():
    near = send_seconds(H200, SIZES, crosses_domain=False)
    far = send_seconds(H200, SIZES, crosses_domain=True)
    assert (far > near).all()
    assert (np.diff(near) > 0).all()


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", ["h200_sxm", "gb200", "b300_sxm"])
@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_embedded_time_never_falls_with_size(embedded, system, backend, op):
    tables = embedded(system, backend)
    sizes = 2.0 ** np.arange(8, 32)
    for ranks in (2, 4, 8, 16, 72):
        time, _ = collective_seconds(tables, op, ranks, sizes)
        assert np.isfinite(time).all()
        assert (time > 0).all()
        assert (np.diff(time) >= -1e-12).all()


def test_outside_a_graph_the_kernel_measured_so_is_read(hand_made):
    own, later = rows("all_reduce", "bf16", 8, 2.0), rows("all_reduce", "bf16", 8, 3.0)
    own["kernel"] = np.full(len(own["seconds"]), "custom_graph")
    later["kernel"] = np.full(len(own["seconds"]), "custom_eager")
    both = {name: np.concatenate([own[name], later[name]]) for name in own}
    tables = hand_made({"collective": both})
    inside, _ = collective_seconds(tables, "all_reduce", 8, SIZES)
    outside, _ = collective_seconds(tables, "all_reduce", 8, SIZES, eager=True)
    assert inside == pytest.approx(own["seconds"])
    assert outside == pytest.approx(later["seconds"])


def test_the_kernel_that_norms_may_be_lent(hand_made):
    tables = hand_made({"collective": rows("all_reduce", "bf16", 8, 2.0)})
    plain, _ = collective_seconds(tables, "all_reduce", 8, SIZES)
    normed, _ = collective_seconds(tables, "all_reduce", 8, SIZES, normed=True)
    assert normed == pytest.approx(plain)  # nobody lends one


@pytest.mark.parametrize("name", ["custom", "nccl"])
def test_kernels_outside_graphs_have_times_of_their_own(hand_made, name):
    graph, eager = rows("all_reduce", "bf16", 8, 2.0), rows("all_reduce", "bf16", 8, 3.0)
    names = [f"{name}_graph"] * 4 + [f"{name}_eager"] * 4
    both = {key: graph[key] + eager[key] for key in graph} | {"kernel": names}
    tables = hand_made({"collective": both})
    inside, _ = collective_seconds(tables, "all_reduce", 8, SIZES)
    outside, _ = collective_seconds(tables, "all_reduce", 8, SIZES, eager=True)
    assert inside == pytest.approx(graph["seconds"])
    assert outside == pytest.approx(eager["seconds"])
