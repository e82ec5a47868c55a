"""Start and stop of an engine's server, and what it says about itself.

Flags as vllm 0.24.0 (engine/arg_utils.py, entrypoints/openai/cli_args.py) and sglang 0.5.14
(srt/server_args.py) have them. Prefix caches are off: every prompt is new all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.parallel import Parallel
from profilers.engine import guard
from profilers.engine.client import get

_POLL = 0.5  # seconds between two looks whether it is ready
_GRACE = 30.0  # seconds to end by itself
_GUARDED = 10.0  # the same, where this process was killed
LOG = "server.log"
ENGINES = ("vllm", "sglang")
# What each log says of its cache: vllm v1/core/kv_cache_utils.py and v1/worker/gpu_worker.py;
# sglang srt/managers/scheduler.py.
_KV_TOKENS = (r"GPU KV cache size: ([\d,]+) tokens", r"max_total_num_tokens=(\d+)")
_SAID = {
    "kv_memory_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "weights_gib": r"[Mm]odel loading took ([\d.]+) GiB",
}
# Nothing is fetched and nothing reported: there may be no network.
_QUIET = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    budget: tokens of one iteration. sequences: most requests at once; memory: share of the GPU's
    memory; 0: the engine's defaults. extra: flags of the engine, appended as they are.
    """

    engine: str
    folder: Path
    name: str
    parallel: Parallel
    context: int
    budget: int
    sequences: int
    memory: float = 0.0
    extra: tuple[str, ...] = ()

    def command(self, host: str, port: int) -> list[str]:
        """Words of the command line.

        Raises
        ------
        UserError
            An engine that is not known or not installed.
        """
        require(self.engine)
        words = _vllm(self) if self.engine == "vllm" else _sglang(self)
        return [sys.executable, *words, "--host", host, "--port", str(port), *self.extra]


def require(engine: str) -> None:
    """Refuse an engine that is not known or not installed."""
    if engine not in ENGINES:
        raise UserError(f"'{engine}' is no engine that can be measured: {', '.join(ENGINES)}")
    if importlib.util.find_spec(engine) is None:
        raise UserError(f"{engine} is not installed here: use its container, or measure a running "
                        "server with --url")  # fmt: skip


def _vllm(launch: Launch) -> list[str]:
    one = launch.parallel
    words = [
        "-m", "vllm.entrypoints.openai.api_server", "--model", str(launch.folder),
        "--load-format", "dummy", "--served-model-name", launch.name,
        "--tensor-parallel-size", str(one.tp), "--pipeline-parallel-size", str(one.pp),
        "--data-parallel-size", str(one.dp), "--max-model-len", str(launch.context),
        "--max-num-batched-tokens", str(launch.budget),
        "--generation-config", "vllm", "--no-enable-prefix-caching",
        "--disable-uvicorn-access-log", "--seed", "0",
    ]  # fmt: skip
    words += ["--enable-expert-parallel"] * (one.ep > 1)
    words += ["--max-num-seqs", str(launch.sequences)] * (launch.sequences > 0)
    return words + ["--gpu-memory-utilization", str(launch.memory)] * (launch.memory > 0)


def _sglang(launch: Launch) -> list[str]:
    one = launch.parallel
    words = [
        "-m", "sglang.launch_server", "--model-path", str(launch.folder),
        "--load-format", "dummy", "--served-model-name", launch.name,
        "--tp-size", str(one.tp * one.dp), "--pp-size", str(one.pp),
        "--ep-size", str(one.ep), "--context-length", str(launch.context),
        "--chunked-prefill-size", str(launch.budget), "--disable-radix-cache",
        "--random-seed", "0",
    ]  # fmt: skip
    words += ["--max-running-requests", str(launch.sequences)] * (launch.sequences > 0)
    words += ["--dp-size", str(one.dp), "--enable-dp-attention"] * (one.dp > 1)
    return words + ["--mem-fraction-static", str(launch.memory)] * (launch.memory > 0)


def free_port(host: str, wanted: int) -> int:
    """Return ``wanted``, or any free port for 0; ``UserError`` where it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise UserError(
                f"port {wanted} of {host} is in use, perhaps by a server that another run left: "
                "end it, or begin a run with another --port"
            ) from error
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """A server that this process started, in a process group of its own.

    guard: the process that ends it should this one be killed.
    """

    process: subprocess.Popen[bytes]
    log: Path
    host: str
    port: int
    begins: int  # bytes of the log that are of earlier starts
    guard: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: list[str], log: Path, host: str, port: int) -> Running:
        """Start it; what it says goes to the end of ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            begins = file.tell()
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | _QUIET, start_new_session=True,
            )  # fmt: skip
        watch = [sys.executable, str(Path(guard.__file__)), str(process.pid), str(_GUARDED)]
        guardian = subprocess.Popen(
            watch, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process
        )  # fmt: skip
        return cls(process, log, host, port, begins, guardian)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    async def ready(self, patience: float) -> None:
        """Wait until it answers.

        Raises
        ------
        UserError
            It ended, or does not answer within ``patience`` seconds; with the end of its log.
        """
        limit = time.monotonic() + patience
        while True:
            if not self.alive():
                code = self.process.returncode
                raise UserError(f"the server ended with code {code}: {self.last_words()}")
            status, _ = await get(self.host, self.port, "/health")
            if status == 200:
                return
            if time.monotonic() > limit:
                raise UserError(f"the server was not ready after {patience:.0f} s: see {self.log}")
            await asyncio.sleep(_POLL)

    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_bytes()[self.begins :].decode("utf-8", "replace")

    def last_words(self) -> str:
        """The last line of the log that tells of an error, else the last one; and where it is."""
        lines = self.said().splitlines()
        tells = [line for line in lines if re.search(r"\w(Error|Exception)\b", line)]
        said = (tells or [line for line in lines if line.strip()] or [""])[-1].strip()
        return f"{said[:200]} (see {self.log})"

    def stop(self) -> None:
        """End it and all that it started: ask, then insist."""
        for number, patience in ((signal.SIGINT, _GRACE), (signal.SIGTERM, 10.0)):
            if self._signalled(number):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
            if not self.alive():
                break
        self._signalled(signal.SIGKILL)  # workers that outlived it
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.guard.communicate(b"ended")

    def _signalled(self, number: signal.Signals) -> bool:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True


def log_facts(text: str) -> dict[str, Any]:
    """What a server's log says: tokens of its KV cache (the smallest of its ranks), memory."""
    found: dict[str, Any] = {}
    tokens = [int(n.replace(",", "")) for rule in _KV_TOKENS for n in re.findall(rule, text)]
    if tokens:
        found["kv_tokens"] = min(tokens)
    for name, rule in _SAID.items():
        seen = re.search(rule, text)
        if seen:
            found[name] = float(seen[1])
    return found
