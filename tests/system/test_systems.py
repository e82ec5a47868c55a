"""The embedded systems and the reader of system files."""

import pytest

from aiconf.errors import UserError
from aiconf.resources import data_dir
from aiconf.system import load_system, system_names

MIB = 1024**2


def test_all_load():
    assert system_names() == ("b200_sxm", "b300_sxm", "gb200", "gb300", "h100_sxm", "h200_sxm")
    for name in system_names():
        system = load_system(name)
        assert system.name == name
        assert system.gpu.flops["fp8"] == pytest.approx(2 * system.gpu.flops["bf16"])
        assert ("fp4" in system.gpu.flops) == (system.gpu.sm >= 100)
        assert set(system.sources) >= {"memory_bytes", "flops", "nvlink_bandwidth"}
        assert all(system.sources.values())


def test_driver_reported_memory():
    assert load_system("h200_sxm").gpu.memory_bytes == 143771 * MIB
    assert load_system("gb200").gpu.memory_bytes == 189471 * MIB


def test_nvlink_domains():
    assert load_system("gb200").nvlink_domain == 72
    assert load_system("gb200").gpus_per_node == 4
    assert load_system("h200_sxm").nvlink_domain == 8


@pytest.mark.parametrize("name", ["H200-SXM", "h200", "H200_SXM", "h200sxm"])
def test_spellings(name):
    assert load_system(name).name == "h200_sxm"


@pytest.mark.parametrize("name", ["h20", "b", "", "mi300"])
def test_unknown(name):
    with pytest.raises(UserError, match="unknown system"):
        load_system(name)


def test_own_file(tmp_path):
    text = (data_dir("systems") / "h200_sxm.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("name: h200_sxm", "name: mine"))
    assert load_system(str(mine)).name == "mine"
    mine.write_text(text.replace("value: 4.8e+12", "value: -1"))
    with pytest.raises(UserError, match=r"mine.yaml: memory_bandwidth.value"):
        load_system.__wrapped__(str(mine))
    mine.write_text(text + "colour: green\n")
    with pytest.raises(UserError, match="colour"):
        load_system.__wrapped__(str(mine))
