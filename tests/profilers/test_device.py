"""Which system a GPU is, and what is said when it is another than was meant."""

from types import SimpleNamespace

import numpy as np
import pytest

from aiconf.errors import UserError
from aiconf.resources import data_dir
from aiconf.system import load_system, system_names
from profilers import ceilings, device, watch
from profilers.device import detect, planned

torch = pytest.importorskip("torch")


@pytest.fixture
def gpu(monkeypatch):
    """Install a GPU by name and compute capability."""

    def install(name, major=9, minor=0):
        seen = SimpleNamespace(
            name=name, major=major, minor=minor, L2_cache_size=60 << 20, uuid="1-2-3"
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: seen)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _index: (100 << 30, 140 << 30))
        monkeypatch.setattr(ceilings, "ceilings", lambda _device: (1e12, {"bf16": 1e14}))

    return install


def test_a_gpu_is_known_by_what_the_driver_calls_it(gpu):
    gpu("NVIDIA H200")
    found = detect("cuda")
    assert (found.system, found.sm, found.torch, found.uuid) == (
        "h200_sxm",
        90,
        "cuda:0",
        "GPU-1-2-3",
    )
    assert found.memory_bytes == 100 << 30  # what is free
    assert found.cache_bytes == 60 << 20
    assert found.datasheet
    assert found.flops == load_system("h200_sxm").gpu.flops
    assert detect("cuda", "H200").system == "h200_sxm"


def test_every_system_has_a_gpu_of_its_own():
    names = [load_system(name).device_name for name in system_names()]
    assert all(names)
    assert len(set(names)) == len(names)
    assert planned("h200").name == "NVIDIA H200"


@pytest.mark.parametrize(
    ("name", "sm", "system", "says"),
    [
        ("NVIDIA H200", (9, 0), "b200_sxm", r"this GPU is a NVIDIA H200 \(h200_sxm\), not b200"),
        ("NVIDIA H20", (9, 0), "h200", "a NVIDIA H20, not the NVIDIA H200 of h200_sxm: take sys"),
        ("NVIDIA H100 NVL", (9, 0), "h100_sxm", r"take systems/h100_sxm.yaml \(NVIDIA H100 80GB"),
        ("NVIDIA H100 PCIe", (9, 0), "h100_sxm", "with this device_name, then --system FILE.yaml"),
        ("NVIDIA H800", (9, 0), "h100_sxm", "a NVIDIA H800, not the NVIDIA H100 80GB HBM3 of h100"),
        ("NVIDIA H200 NVL", (9, 0), "h200_sxm", "a NVIDIA H200 NVL, not the NVIDIA H200 of h200"),
        ("NVIDIA GB200", (10, 0), "b200_sxm", r"a NVIDIA GB200 \(gb200\), not b200_sxm"),
        ("NVIDIA H200", (9, 0), "h20", "unknown system 'h20'"),
    ],
)
def test_another_gpu_than_was_named(gpu, name, sm, system, says):
    gpu(name, *sm)
    with pytest.raises(UserError, match=says):
        detect("cuda", system)


def test_an_unknown_gpu_is_measured_first_and_has_no_datasheet(gpu):
    gpu("NVIDIA GeForce RTX 4090", 8, 9)
    found = detect("cuda")
    assert found.system == "nvidia_geforce_rtx_4090"
    assert (found.bandwidth, found.flops, found.datasheet) == (1e12, {"bf16": 1e14}, False)


@pytest.mark.parametrize("name", ["NVIDIA H100 NVL", "NVIDIA H20", "NVIDIA H200 NVL"])
def test_a_relative_of_a_known_gpu_is_none_of_its_system(gpu, name):
    gpu(name)
    found = detect("cuda")
    assert (found.system, found.datasheet) == (name.lower().replace(" ", "_"), False)


def own_file(tmp_path, name):
    text = (data_dir("systems") / "h100_sxm.yaml").read_text()
    text = text.replace("NVIDIA H100 80GB HBM3", name).replace("name: h100_sxm", "name: h100_nvl")
    path = tmp_path / f"{name.replace(' ', '_')}.yaml"
    path.write_text(text)
    return str(path)


def test_a_gpu_that_a_file_of_the_user_describes_takes_its_datasheet(gpu, tmp_path):
    gpu("NVIDIA H100 NVL", 9, 0)
    found = detect("cuda", own_file(tmp_path, "NVIDIA H100 NVL"))
    assert (found.system, found.name, found.datasheet) == ("h100_nvl", "NVIDIA H100 NVL", True)
    with pytest.raises(UserError, match="a NVIDIA H100 NVL, not the NVIDIA H20 of h100_nvl"):
        detect("cuda", own_file(tmp_path, "NVIDIA H20"))


def test_a_file_that_names_another_compute_capability_is_refused(gpu, tmp_path):
    gpu("NVIDIA H100 NVL", 10, 0)
    with pytest.raises(UserError, match="of sm 100; h100_nvl has 90"):
        detect("cuda", own_file(tmp_path, "NVIDIA H100 NVL"))


def test_a_busy_gpu_is_refused_before_it_is_given_work(gpu, monkeypatch):
    gpu("NVIDIA GeForce RTX 4090", 8, 9)
    monkeypatch.setattr(watch, "_busy", lambda _selector: "it was 90 % busy")
    monkeypatch.setattr(watch, "_SETTLES", 0.0)
    monkeypatch.setattr(ceilings, "ceilings", lambda _device: pytest.fail("work was given"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _i: pytest.fail("it has a context"))
    with pytest.raises(UserError, match="the GPU is busy: it was 90 % busy"):
        detect("cuda", idle=True)


def test_peaks_are_measured_in_the_memory_that_is_free(monkeypatch):
    """On a small GPU, or one that others fill: in a quarter of it."""
    made = []
    empty = torch.empty

    def on_the_cpu(*shape, device, dtype):
        made.append(int(np.prod(shape)) * dtype.itemsize)
        return empty(8, 8, dtype=dtype)

    monkeypatch.setattr(torch, "empty", on_the_cpu)
    monkeypatch.setattr(torch, "Generator", lambda device: torch.default_generator)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    for free, largest in ((2 << 30, 256 << 20), (140 << 30, 4 << 30)):
        made.clear()
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _d, free=free: (free, 0))
        ceilings.ceilings("cuda:0")
        assert max(made) == largest


def test_the_processor_measures_its_own_peaks():
    found = detect("cpu")
    assert (found.kind, found.system, found.datasheet) == ("cpu", "cpu", False)
    assert found.bandwidth > 1e8
    assert found.flops["bf16"] > 1e8
    with pytest.raises(UserError, match="--device cpu writes tables of the system cpu"):
        detect("cpu", "h200_sxm")


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UserError, match="pip install 'aiconf\\[profile\\]'"):
        device.require_torch()
