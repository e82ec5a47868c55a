"""nvidia-smi, played by a script: busy GPUs, facts of the driver, samples in the background."""

import os
import stat
import sys
import time
from dataclasses import replace

import pytest

from aiconf.errors import UserError
from profilers import watch
from profilers.device import planned
from profilers.watch import Watch, driver_facts, require_idle

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script plays nvidia-smi")
GPU = replace(planned("h200_sxm"), uuid="GPU-1")


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Install a nvidia-smi that answers by what is asked for."""
    watch._selector.cache_clear()
    monkeypatch.setattr(watch, "_SETTLES", 0.0)

    def install(apps="", state="0, 600", sampled="123.5, 1980, 3201, 40"):
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f"""#!{sys.executable}
import sys, time
words = " ".join(sys.argv[1:])
if "--id=GPU-1" not in words: sys.exit(6)
if "list-gpus" in words: print("GPU 0: NVIDIA H200")
elif "compute-apps" in words: print({apps!r})
elif "utilization" in words: print({state!r})
elif "--loop-ms" in words:
    while True: print({sampled!r}, flush=True); time.sleep(0.01)
elif "driver_version" in words: print("580.159.04")
elif "power.limit" in words: print("700.00 W")
else: sys.exit(2)
"""
        )
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return install


def test_an_idle_gpu_passes(smi):
    smi()
    require_idle("GPU-1", 0)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"apps": "4242, /usr/bin/python3, 20000 MiB"}, r"process 4242 \(/usr/bin/python3\) runs"),
        ({"state": "37, 600"}, "it was 37 % busy"),
        ({"state": "0, 8192"}, "8.0 GiB of its memory are in use"),
    ],
)
def test_a_busy_gpu_is_refused_in_one_line(smi, answers, says):
    smi(**answers)
    with pytest.raises(UserError, match=says) as error:
        require_idle("GPU-1", 0)
    assert str(error.value).endswith("wait, or add --allow-busy")
    assert "\n" not in str(error.value)


def test_this_process_does_not_make_it_busy(smi):
    smi(apps=f"{os.getpid()}, python3, 600 MiB")
    require_idle("GPU-1", 0)


def test_facts_that_the_driver_tells_are_kept_and_no_others(smi):
    smi()
    assert driver_facts(GPU) == {"driver_version": "580.159.04", "power.limit": "700.00 W"}


def test_samples_of_a_span_only(smi):
    smi(sampled="123.5, 1980, [N/A], 40")
    before = time.monotonic()
    with Watch(GPU) as watching:
        deadline = time.monotonic() + 20
        while not watching.between(before, time.monotonic()) and time.monotonic() < deadline:
            time.sleep(0.02)
        after = time.monotonic()
        assert watching.between(before, after) == {"watt": 123.5, "sm_mhz": 1980.0, "celsius": 40.0}
    assert watching.between(after + 100, after + 200) == {}
    assert watching.between(before - 200, before - 100) == {}


def test_a_hidden_uuid_is_found_by_number(smi, monkeypatch):
    smi()
    assert watch._selector("GPU-1", 3) == "--id=GPU-1"
    assert watch._selector("GPU-2", 3) == "--id=3"


def test_without_nvidia_smi_nothing_is_sampled(monkeypatch):
    monkeypatch.setenv("PATH", "")
    require_idle("GPU-1", 0)
    assert driver_facts(GPU) == {}
    with Watch(GPU) as watching:
        assert watching.between(0.0, time.monotonic()) == {}
