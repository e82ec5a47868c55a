"""Plans need neither torch nor a GPU."""

import subprocess
import sys
from dataclasses import replace

import pytest

from aiconf.errors import UserError
from profilers import gemm
from profilers.device import planned
from profilers.measure import Bench
from profilers.operator import Kernel
from profilers.plan import Job, plan
from profilers.report import plan_lines
from profilers.timing import Method

H200 = planned("h200_sxm")
METHOD = Method()


def test_a_plan_imports_no_library():
    code = (
        "import sys; from profilers.plan import *; from profilers.device import planned;"
        "plan(Job(), planned('h200_sxm'), Method());"
        "print(*{'torch', 'triton', 'vllm', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_unknown_names_are_said_with_the_nearest():
    with pytest.raises(UserError, match="unknown operator 'gemn': did you mean gemm"):
        plan(Job(ops=("gemn",)), H200, METHOD)
    with pytest.raises(UserError, match="unknown backend 'vlm': did you mean vllm"):
        plan(Job(backends=("vlm",)), H200, METHOD)


def test_a_backend_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "torch" else None)
    mine = replace(H200, here=True)
    with pytest.raises(UserError, match=r"nothing to measure here: sglang .*sgl_kernel not inst"):
        plan(Job(ops=("gemm",), backends=("sglang",)), mine, METHOD)
    with pytest.raises(UserError, match="backend vllm cannot be measured here: vllm not installed"):
        plan(Job(ops=("gemm",), backends=("torch", "vllm")), mine, METHOD)


def test_a_plan_for_another_machine_does_not_ask_what_this_one_has_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = plan(Job(ops=("gemm",), backends=("sglang",)), H200, METHOD)
    assert {kernel.backend for _, kernel, _ in found.lines} == {"sglang"}


def test_a_precision_that_the_gpu_lacks_is_left_out():
    found = plan(Job(ops=("gemm",), backends=("torch",)), H200, METHOD)
    assert found.left_out["torch torch.scaled_mm: needs sm 100, this GPU is sm 90"] == 1
    assert not any(line.fixed["dtype"] == "nvfp4" for _, _, line in found.lines)


def test_what_does_not_fit_is_left_out_and_too_little_memory_is_said():
    small = plan(Job(ops=("gemm",), backends=("torch",)), replace(H200, memory_bytes=8e9), METHOD)
    whole = plan(Job(ops=("gemm",), backends=("torch",)), H200, METHOD)
    assert 0 < small.points() < whole.points()
    assert small.left_out["gemm: too large for the free memory"]
    largest = max(k.read + k.written for k in works(small))
    assert 12 * largest <= 8e9
    with pytest.raises(UserError, match=r"nothing to measure .*too large for the free memory"):
        plan(Job(ops=("gemm",), backends=("torch",)), replace(H200, memory_bytes=1e5), METHOD)


def works(found):
    for operator, _, line in found.lines:
        yield from (operator.work({**line.fixed, operator.axis: m}) for m in line.values)


def test_a_quick_pass_is_minutes_on_one_gpu():
    quick = plan(Job(ops=("gemm",), backends=("torch",), quick=True), H200, METHOD)
    seconds = sum(float(t.cost[t.seeds()].sum()) for t in quick.refinement.tracks)
    assert 5 < seconds < 120
    assert quick.first_looks() == 5 * len(quick.lines)


def test_points_are_found_by_name():
    found = plan(Job(backends=("torch",), quick=True), H200, METHOD)
    for track in (0, 7, len(found.lines) - 1):
        assert found.place(found.point(track, 3).name) == (track, 3)
    assert found.place("torch/gemm m=0") is None


def test_every_row_has_the_columns_of_its_table():
    found = plan(Job(), H200, METHOD)
    for track in range(len(found.lines)):
        point = found.point(track, 0)
        assert tuple(point.row) == point.operator.schema.key_names
        kinds = {"str": str, "int": int, "bool": bool}
        for column in point.operator.schema.keys:
            assert type(point.row[column.name]) is kinds[column.kind], column


def test_kernels_that_share_a_row_never_share_a_shape():
    """Two kernels of one name and backend would overwrite each other's rows."""
    seen = {}
    everything = replace(
        gemm.OPERATORS[0],
        kernels=tuple(replace(k, missing=lambda _d: "") for k in gemm.OPERATORS[0].kernels),
    )
    for device in (H200, planned("b200_sxm")):
        for line in everything.lines(device, True):
            for kernel in everything.kernels:
                key = {**line.fixed, "m": line.values[-1]}
                if not kernel.unsupported(device, key):
                    place = (device.system, kernel.backend, kernel.name, *key.items())
                    assert seen.setdefault(place, kernel) is kernel


def test_lines_of_a_plan_say_what_and_how_long():
    job = Job(backends=("torch",), quick=True, budget=600.0)
    text = "\n".join(plan_lines(plan(job, H200, METHOD), job))
    assert text.startswith("NVIDIA H200, system h200_sxm, 140 GiB free")
    assert "gemm torch: 36 lines, 180 points first (about " in text
    assert "budget 10 min 00 s" in text
    assert "left out: torch torch.scaled_mm: needs sm 100" in text


def test_a_job_comes_back_from_the_journal():
    job = Job(("gemm",), ("torch", "triton"), True, 90.0, 7, "cuda", "h200_sxm")
    assert Job.of(job.record()) == job


def test_a_failed_kernel_that_loses_the_device_is_told_apart(monkeypatch):
    """After an illegal access every call of the process fails: that is not the next one's fault."""
    torch = pytest.importorskip("torch")
    from profilers.measure import LostDevice
    from profilers.operator import Point

    def prepare(_key, _inputs):
        raise RuntimeError("an illegal memory access was encountered")

    def synchronize():
        raise RuntimeError("still broken")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(Bench, "_draw", lambda *_words: {})
    kernel = Kernel("k", "torch", lambda _d: "", lambda _d, _k: "", prepare)
    point = Point(gemm.OPERATORS[0], kernel, {"dtype": "bf16", "n": 64, "k": 64, "m": 1})
    with pytest.raises(LostDevice, match="illegal memory access"):
        Bench(H200, METHOD, 0, None).measure(point)
