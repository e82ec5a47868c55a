"""Collectives: what is planned, and real runs over gloo with two and four processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiconf.errors import UserError
from profilers import journal, nccl
from profilers import team as team_module
from profilers.device import planned
from profilers.nccl_kernels import link_seconds
from profilers.plan import Job, plan
from profilers.report import plan_lines
from profilers.team import team
from profilers.timing import Method

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def under_torchrun(ranks, script, *words):
    pytest.importorskip("torch")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={ranks}", HERE / script, *words,
    ]  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, env=settings,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def torchrun(monkeypatch, size, local):
    monkeypatch.setenv("WORLD_SIZE", str(size))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))


@pytest.mark.parametrize(
    ("size", "local", "groups"),
    [(1, 1, ()), (2, 2, (2,)), (8, 8, (2, 4, 8)), (6, 6, (2, 4, 6)), (16, 8, (2, 4, 8, 16)),
     (24, 8, (2, 4, 8, 16, 24)), (2, 1, ()), (8, 4, (2, 4)), (12, 6, (2, 4, 6))],
)  # fmt: skip
def test_groups_are_of_one_node_or_of_whole_nodes(monkeypatch, size, local, groups):
    """On nodes of 8 GPUs: two of them on two nodes are no pair of one node."""
    torchrun(monkeypatch, size, local)
    assert team_module.group_sizes(planned("h200_sxm")) == groups


def test_a_rack_of_nodes_of_four_fills_them_too(monkeypatch, cpu):
    torchrun(monkeypatch, 8, 4)
    assert team_module.group_sizes(planned("gb200")) == (2, 4, 8)
    torchrun(monkeypatch, 2, 1)  # a rehearsal: its rows are of the system cpu
    assert team_module.group_sizes(cpu) == (2,)


@pytest.mark.parametrize(
    ("size", "local", "says"),
    [(8, 8, "nccl: groups of 2, 4, 8 ranks of one node"),
     (16, 8, "nccl: groups of 2, 4, 8 ranks of one node; groups of 16 over whole nodes"),
     (8, 4, "nccl: groups of 2, 4 ranks of one node; none over nodes: a group fills a node of 8 "
            "GPUs before it spans two, and here are 4 ranks on each: torchrun --nproc-per-node 8")],
)  # fmt: skip
def test_a_plan_says_which_groups_are_measured(monkeypatch, size, local, says):
    torchrun(monkeypatch, size, local)
    job = Job(ops=("nccl",))
    assert f"  {says}" in plan_lines(plan(job, planned("h200_sxm"), Method()), job)


def test_one_gpu_of_each_node_is_refused(monkeypatch):
    torchrun(monkeypatch, 2, 1)
    with pytest.raises(UserError, match=r"nothing to measure here: .*a group fills a node of 8"):
        plan(Job(ops=("nccl",)), planned("h200_sxm"), Method())


@pytest.mark.parametrize("quick", [True, False])
def test_lines_hold_the_imported_sizes_and_split_evenly(monkeypatch, quick):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    lines = nccl.lines(planned("h200_sxm"), quick)
    assert {line.fixed["gpus"] for line in lines} == {2, 4, 8}
    assert {line.fixed["op"] for line in lines} == set(nccl.OPS)
    for line in lines:
        assert list(line.values) == sorted(set(line.values))
        item = nccl.ITEM_BYTES[line.fixed["dtype"]]
        assert not [value for value in line.values if value % (line.fixed["gpus"] * item)]
        assert {1 << power for power in range(12, 30)} <= set(line.values)
        for value in line.values:
            work = nccl.work({**line.fixed, "bytes": value})
            assert max(work.read, work.written) == value


def test_without_torchrun_it_says_what_to_do(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    h200 = planned("h200_sxm")
    for kernel in nccl.OPERATORS[0].kernels:
        assert "torchrun" in kernel.missing(h200) or kernel.backend == "gloo"


def test_the_plan_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from profilers.device import planned\n"
        "from profilers import nccl, nixl\n"
        "device = planned('h200_sxm')\n"
        "assert nccl.lines(device, True) == () and nixl.lines(device, True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("ranks", [2, 4])
def test_wrong_collectives_are_found_on_every_rank(ranks, tmp_path):
    under_torchrun(ranks, "wrong_collectives.py", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 3 * len(nccl.OPS)
    for name, errors in found.items():
        limit = errors.pop("limit")
        assert errors.pop("right") <= limit, name
        assert all(not error <= limit for error in errors.values()), (name, errors)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_run_over_gloo_is_kept_and_goes_on(ranks, tmp_path):
    import pandas as pd

    out = tmp_path / "run"
    under_torchrun(ranks, "ranked.py", out, "4", "nccl")
    first = journal.read(out)
    done = {record["point"] for record in first.of("point") + first.of("refused")}
    assert len(done) >= 4
    with (out / journal.NAME).open("a") as file:
        file.write('{"sha256": "0", "rec')  # the process was killed here
    under_torchrun(ranks, "ranked.py", out, "3", "nccl")
    second = journal.read(out)
    assert not second.damaged
    assert len(second.of("session")) == 2
    names = [record["point"] for record in second.of("point") + second.of("refused")]
    assert len(names) == len(set(names))
    assert set(names) > done
    assert not [r for r in second.of("refused") if not r["why"].startswith("spread")]
    table = pd.read_parquet(out / "cpu/gloo/collective.parquet")
    assert set(table.kernel) == {"gloo"}
    assert (table.seconds > 0).all()
    assert table.gpus.max() == ranks


def test_the_link_bounds_a_collective():
    key = {"op": "all_reduce", "dtype": "fp16", "gpus": 4, "bytes": 1 << 20}
    assert link_seconds(key, 1e9) == pytest.approx(0.75 * (1 << 20) / 1e9)
    assert link_seconds(key | {"op": "send", "gpus": 2}, 1e9) == pytest.approx((1 << 20) / 1e9)
    assert link_seconds(key, 0.0) == 0.0


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="4 ranks on this node and 2 GPUs"), team("cuda"):
        pass


def test_nodes_with_unlike_many_ranks_are_refused_on_every_rank():
    pytest.importorskip("torch")
    code = (
        "from profilers.team import team\n"
        "from aiconf.errors import UserError\n"
        "try:\n    with team('cpu'):\n        print('joined')\n"
        "except UserError as error:\n    print(error)\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    each = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env=os.environ | each | {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(rank + 1)},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        said, _ = process.communicate(timeout=120)
        assert said.startswith("nodes have 1 and 2 ranks: give torchrun the same"), said


def test_a_port_in_use_is_one_line(monkeypatch):
    pytest.importorskip("torch")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"),
                            ("MASTER_PORT", str(taken.getsockname()[1]))):  # fmt: skip
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(UserError, match=r"the ranks cannot join: .*port") as raised,
            team("cpu"),
        ):
            pass
    assert "\n" not in str(raised.value)


def test_what_fails_on_one_rank_is_heard_by_all():
    under_torchrun(3, "agreed.py")
