"""nvidia-smi: what the GPU does while it is measured, and whether others use it."""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from aiconf.errors import UserError

if TYPE_CHECKING:
    from profilers.device import Device

# Query names of nvidia-smi (nvidia-smi --help-query-gpu), and how they are stored.
_SAMPLED = {
    "power.draw.instant": "watt",
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "temperature.gpu": "celsius",
}
_STATED = ("driver_version", "vbios_version", "power.limit", "clocks.max.sm", "clocks.max.mem",
           "persistence_mode", "mig.mode.current", "ecc.mode.current")  # fmt: skip
_PERIOD_MS = 25
_BUSY_PERCENT = 5.0  # of the time a kernel ran, while we ran none
_SETTLES = 2.0  # seconds
_BUSY_BYTES = 2e9  # more is held by somebody: a context of ours takes about half a GB


def _ask(*words: str) -> str:
    """What nvidia-smi answers; "" where it is missing or refuses."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *words], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


@cache
def _selector(uuid: str, index: int) -> str:
    """How nvidia-smi finds the GPU that torch measures: by number where it hides the UUID.

    Numbers differ where CUDA_VISIBLE_DEVICES leaves GPUs out.
    """
    known = bool(uuid) and bool(_ask(f"--id={uuid}", "--list-gpus"))
    return f"--id={uuid if known else index}"


def _numbers(text: str) -> list[float]:
    """Numbers of one line of CSV; NaN for what the GPU does not tell."""
    found = []
    for cell in next(csv.reader([text]), []):
        try:
            found.append(float(cell))
        except ValueError:
            found.append(float("nan"))
    return found


def driver_facts(device: Device) -> dict[str, str]:
    """Driver, limits and modes of a GPU, as text; empty for the CPU."""
    if device.kind == "cpu":
        return {}
    found = {}
    for name in _STATED:  # one by one: a driver refuses the whole query for one unknown name
        words = (_selector(device.uuid, device.index), f"--query-gpu={name}")
        answer = _ask(*words, "--format=csv,noheader").strip()
        if answer:
            found[name] = answer
    return found


def require_idle(uuid: str, index: int) -> None:
    """Refuse a GPU that others use; must be called before this process gives it work.

    Raises
    ------
    UserError
        Says who or what makes it busy, also after a moment: use is averaged over a second, and a
        process that has just ended still shows.
    """
    selector = _selector(uuid, index)
    if _busy(selector):
        time.sleep(_SETTLES)
        why = _busy(selector)
        if why:
            raise UserError(f"the GPU is busy: {why}; wait, or add --allow-busy")


def _busy(selector: str) -> str:
    """Who or what uses a GPU; "" where nobody seems to."""
    columns = "--query-compute-apps=pid,process_name,used_memory"
    apps = _ask(selector, columns, "--format=csv,noheader")
    others = [row for row in csv.reader(apps.splitlines()) if row and row[0] != str(os.getpid())]
    if others:
        return f"process {others[0][0].strip()} ({others[0][1].strip()}) runs on it"
    state = "--query-gpu=utilization.gpu,memory.used"
    numbers = _numbers(_ask(selector, state, "--format=csv,noheader,nounits"))
    used, held = numbers if len(numbers) == 2 else (0.0, 0.0)
    if used > _BUSY_PERCENT:
        return f"it was {used:.0f} % busy"
    return f"{held / 1024:.1f} GiB of its memory are in use" if held * 2**20 > _BUSY_BYTES else ""


@dataclass
class Watch:
    """Samples clocks, power and temperature of a GPU in the background while it is open."""

    device: Device
    _rows: list[tuple[float, list[float]]] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Watch:
        """Start sampling; nothing is sampled on the CPU or where nvidia-smi is missing."""
        if self.device.kind == "cpu":
            return self
        command = [
            "nvidia-smi", _selector(self.device.uuid, self.device.index),
            f"--query-gpu={','.join(_SAMPLED)}", "--format=csv,noheader,nounits",
            f"--loop-ms={_PERIOD_MS}",
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            return self
        threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Stop sampling."""
        if self._process:
            self._process.terminate()
            self._process.wait()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            values = _numbers(line)
            if len(values) == len(_SAMPLED):
                self._rows.append((time.monotonic(), values))

    def between(self, start: float, end: float) -> dict[str, float]:
        """Medians of what was sampled in a span of ``time.monotonic``; {} where nothing was."""
        recent = itertools.takewhile(lambda row: row[0] >= start, reversed(self._rows))
        seen = [values for at, values in recent if at <= end]
        if not seen:
            return {}
        columns = zip(_SAMPLED.values(), np.array(seen).T, strict=True)
        told = ((name, column[np.isfinite(column)]) for name, column in columns)
        return {name: float(np.median(column)) for name, column in told if len(column)}
