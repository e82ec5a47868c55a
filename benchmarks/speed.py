"""Speed: wall time and peak memory of whole processes, and of warm calls, as a table.

    python benchmarks/speed.py [--runs N] [--peer PYTHON]

Every figure is taken in one run beside a reference of the same machine (a process that only
imports NumPy), so that ratios can be compared between machines. ``--peer`` names the Python of a
virtual environment with aiconfigurator installed; its command line is timed for the same task.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# ru_maxrss counts KiB on Linux and bytes on macOS (getrusage(2) of each).
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

MAIN = ("--model", "QWEN3_32B", "--total-gpus", "32", "--system", "h200_sxm",
        "--isl", "4000", "--osl", "500", "--ttft", "300", "--tpot", "10")  # fmt: skip
LARGE = ("--model", "DEEPSEEK_R1", "--total-gpus", "64", "--system", "gb200",
         "--backend", "trtllm", "--isl", "4000", "--osl", "500", "--ttft", "2000",
         "--tpot", "30")  # fmt: skip
# The same two tasks for AIConfigurator 0.12 (its flags take underscores or hyphens).
PEER = {
    "main": ("cli", "default", "--model-path", "Qwen/Qwen3-32B-FP8", "--total-gpus", "32",
             "--system", "h200_sxm", "--isl", "4000", "--osl", "500", "--ttft", "300",
             "--tpot", "10", "--backend", "vllm"),
    "large": ("cli", "default", "--model-path", "deepseek-ai/DeepSeek-R1", "--total-gpus", "64",
              "--system", "gb200", "--isl", "4000", "--osl", "500", "--ttft", "2000",
              "--tpot", "30", "--backend", "trtllm"),
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Seconds of each run; peak resident bytes of the largest process, 0 where not measured."""

    name: str
    seconds: list[float]
    peak: float = 0.0
    target: float | None = None  # seconds
    peak_target: float | None = None  # bytes

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def run_process(command: Sequence[str], cwd: str) -> tuple[float, float]:
    """Run ``command`` from ``cwd``; return wall seconds and peak resident bytes.

    Raises
    ------
    SystemExit
        With the end of its output, when it fails.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        child = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(child.pid, 0)
            code = child.returncode = os.waitstatus_to_exitcode(status)
            peak = float(usage.ru_maxrss * _MAXRSS_UNIT)
        else:
            code, peak = child.wait(), 0.0
        seconds = time.perf_counter() - start
        if code:
            output.seek(0)
            tail = output.read().decode(errors="replace")[-800:]
            raise SystemExit(f"{' '.join(command)} failed with exit code {code}:\n{tail}")
    return seconds, peak


def time_process(
    name: str,
    command: Sequence[str],
    runs: int,
    target: float | None = None,
    peak_target: float | None = None,
) -> Timing:
    """Time ``runs`` processes from an empty folder, after one that fills the file cache."""
    with tempfile.TemporaryDirectory() as folder:
        run_process(command, folder)
        found = [run_process(command, folder) for _ in range(runs)]
    seconds = [wall for wall, _ in found]
    return Timing(name, seconds, max(peak for _, peak in found), target, peak_target)


def time_call(name: str, call: Callable[[], object], runs: int, target: float) -> Timing:
    """Time ``runs`` warm calls in this process; the first call is not counted."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Timing(name, seconds, target=target)


def processes(runs: int) -> list[Timing]:
    """Whole processes. This process has imported nothing large yet: its memory would count."""
    cli = [sys.executable, "-m", "aiconf", "cli"]
    return [
        time_process("reference: import numpy", [sys.executable, "-c", "import numpy"], runs),
        time_process("cli, Qwen3-32B on 32 h200_sxm", [*cli, *MAIN], runs, 1.0, 300 * MIB),
        time_process("cli, DeepSeek-R1 on 64 gb200", [*cli, *LARGE], runs, 2.0, 300 * MIB),
    ]


def warm(runs: int) -> list[Timing]:
    """Calls of the Python interface in a process that has made them once."""
    from aiconf import api  # noqa: PLC0415  # loaded late: see ``processes``

    def search() -> object:
        return api.search("QWEN3_32B", "h200_sxm", 32, 4000, 500, 300, 10)

    def large() -> object:
        return api.search("DEEPSEEK_R1", "gb200", 64, 4000, 500, 2000, 30, backend="trtllm")

    def estimate() -> object:
        return api.estimate("QWEN3_32B", "h200_sxm", "tp4", 4000, 500, concurrency=32)

    return [
        time_call("warm search, Qwen3-32B on 32 h200_sxm", search, runs, 0.050),
        time_call("warm search, DeepSeek-R1 on 64 gb200", large, runs, 2.0),
        time_call("warm estimate, Qwen3-32B tp4", estimate, runs * 4, 0.005),
    ]


def peer(python: str, runs: int) -> list[Timing]:
    """AIConfigurator's command line for the same two tasks."""
    program = Path(python).with_name("aiconfigurator")
    if not program.exists():
        raise SystemExit(f"no aiconfigurator beside {python}")
    labels = {"main": "Qwen3-32B on 32 h200_sxm", "large": "DeepSeek-R1 on 64 gb200"}
    return [
        time_process(f"peer cli, {labels[task]}", [str(program), *arguments], runs)
        for task, arguments in PEER.items()
    ]


def _row(timing: Timing, reference: float) -> str:
    low, high = min(timing.seconds), max(timing.seconds)
    peak = f"{timing.peak / MIB:6.0f} MiB" if timing.peak else " " * 10
    target = verdict = ""
    if timing.target is not None:
        target = f"{timing.target * 1e3:.0f} ms"
        held = timing.median < timing.target
        if timing.peak_target is not None:
            target += f", {timing.peak_target / MIB:.0f} MiB"
            held = held and timing.peak < timing.peak_target
        verdict = "held" if held else "MISSED"
    return (
        f"{timing.name:40s} {timing.median * 1e3:9.1f} {low * 1e3:9.1f} {high * 1e3:9.1f} "
        f"{timing.median / reference:8.2f} {peak}  {target:17s} {verdict}".rstrip()
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time aiconf beside a reference process.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peer", metavar="PYTHON", help="Python with aiconfigurator installed")
    options = parser.parse_args()
    timings = processes(options.runs)
    if options.peer:
        timings += peer(shutil.which(options.peer) or options.peer, min(options.runs, 3))
    timings += warm(options.runs)
    reference = timings[0].median
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {options.runs} runs each\n")
    print(f"{'milliseconds':40s} {'median':>9s} {'min':>9s} {'max':>9s} {'x ref':>8s} "
          f"{'peak RSS':>10s}  target")  # fmt: skip
    for timing in timings:
        print(_row(timing, reference))
    named = {timing.name: timing.median for timing in timings}
    for name in [name for name in named if name.startswith("peer ")]:
        own = name.removeprefix("peer ")
        print(f"\n{own}: AIConfigurator takes {named[name] / named[own]:.0f} times as long")


if __name__ == "__main__":
    main()
