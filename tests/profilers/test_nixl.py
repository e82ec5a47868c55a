"""KV blocks moved with NIXL: real transfers between two processes of this machine."""

import numpy as np
import pytest

from profilers import nixl
from profilers.device import planned
from profilers.measure import Bench, Refused, Timed
from profilers.nixl_peer import Peer
from profilers.operator import Point
from profilers.source import Source
from profilers.timing import Samples, method_of

(OPERATOR,) = nixl.OPERATORS
KEY = {
    "op": "read", "from": "dram", "to": "dram", "path": "local", "block_bytes": 4096, "blocks": 64,
}  # fmt: skip


def transfer(op, seed=0):
    pytest.importorskip("torch")
    pytest.importorskip("nixl")
    key = KEY | {"op": op}
    inputs = OPERATOR.draw(key, Source.of("cpu", seed, op))
    return key, inputs, OPERATOR.kernels[0].prepare(key, inputs)


@pytest.mark.parametrize("op", ["read", "write"])
def test_blocks_arrive_where_they_were_sent(op):
    key, inputs, call = transfer(op)
    assert OPERATOR.error(key, inputs, call()) == 0.0


@pytest.mark.parametrize("op", ["read", "write"])
def test_what_did_not_arrive_is_found(op):
    key, inputs, call = transfer(op, seed=1)
    call()
    call.spoil()
    assert OPERATOR.error(key, inputs, call) > 0.5
    call()
    assert OPERATOR.error(key, inputs, call) == 0.0
    if op == "read":
        nixl._blocks(call.link.pool, 1, 4096)[int(call.own[5]), 77] ^= 1
        assert OPERATOR.error(key, inputs, call) == pytest.approx(1 / (64 * 4096))


def test_timed_transfers_are_checked_after_they_were_timed():
    key, inputs, call = transfer("write", seed=2)
    samples = nixl.timer([call], False, method_of("cpu"))
    assert len(samples.seconds) >= method_of("cpu").samples[0]
    assert (samples.seconds > 0).all()
    assert OPERATOR.error(key, inputs, samples.output) == 0.0


def test_blocks_are_scattered_and_never_twice():
    pytest.importorskip("torch")
    key = KEY | {"blocks": 4096}
    drawn = OPERATOR.draw(key, Source.of("cpu", 0, "x"))
    again = OPERATOR.draw(key, Source.of("cpu", 0, "x"))
    for side in ("from", "to"):
        assert len(set(drawn[side].tolist())) == 4096
        assert (drawn[side] == again[side]).all()
        assert np.mean(np.diff(drawn[side]) == 1) < 0.01
    assert not (drawn["from"] == drawn["to"]).all()


def test_a_far_end_that_cannot_start_says_why():
    pytest.importorskip("nixl")
    pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match=r"did not start: \w"):
        Peer.start("tape", 0, 1 << 20)


@pytest.mark.parametrize("quick", [True, False])
def test_lines_are_of_the_memories_that_engines_move_between(quick):
    lines = OPERATOR.lines(planned("h200_sxm"), quick)
    pairs = {(line.fixed["from"], line.fixed["to"]) for line in lines}
    assert pairs == {("vram", "vram"), ("vram", "dram"), ("dram", "vram")}
    assert {line.fixed["path"] for line in lines} == {"local", "node"}
    for line in lines:
        assert set(line.fixed) | {"blocks", "kernel"} == set(OPERATOR.schema.key_names)
        assert max(line.values) * line.fixed["block_bytes"] <= 1 << 30
        work = OPERATOR.work({**line.fixed, "blocks": 2})
        assert work.read == work.written == 2 * line.fixed["block_bytes"]


@pytest.mark.parametrize(
    ("system", "path", "start", "rate"),
    [("h200_sxm", "node", "vram", 450e9), ("h200_sxm", "network", "vram", 100e9),
     ("h200_sxm", "network", "dram", 100e9), ("gb200", "network", "vram", 900e9),
     ("gb200", "network", "dram", 200e9), ("h200_sxm", "node", "dram", 0.0),
     ("h200_sxm", "local", "vram", 0.0)],
)  # fmt: skip
def test_the_link_bounds_a_transfer(monkeypatch, system, path, start, rate):
    monkeypatch.delenv("UCX_MAX_RMA_RAILS", raising=False)
    key = KEY | {"path": path, "from": start, "to": "vram"}
    assert OPERATOR.least(planned(system), key) == (64 * 4096 / rate if rate else 0.0)


@pytest.mark.parametrize(("told", "rails"), [("1", 1), ("4", 4), ("", 2), ("auto", 2)])
def test_a_transfer_over_several_cards_is_as_fast_as_all_of_them(monkeypatch, told, rails):
    monkeypatch.setenv("UCX_MAX_RMA_RAILS", told)
    key = KEY | {"path": "network"}
    assert OPERATOR.least(planned("h200_sxm"), key) == 64 * 4096 / (50e9 * rails)


def test_a_transfer_that_beats_its_link_is_refused():
    device, key = planned("h200_sxm"), KEY | {"path": "node", "from": "vram", "to": "vram"}
    point = Point(OPERATOR, OPERATOR.kernels[0], key)
    bench = Bench(device, method_of("cuda"), 0, None)
    light = 64 * 4096 / 450e9
    fast, slow = (
        bench.judge(point, Samples(np.full(11, share * light), None), 0.0, 1)
        for share in (0.97, 0.99)
    )
    assert isinstance(fast, Refused)
    assert "beats the speed of light" in fast.why
    assert isinstance(slow, Timed)


def test_over_ranks_it_is_the_path_between_nodes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    lines = OPERATOR.lines(planned("h200_sxm"), True)
    assert {line.fixed["path"] for line in lines} == {"network"}
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "without torchrun" in OPERATOR.kernels[0].missing(planned("h200_sxm"))
