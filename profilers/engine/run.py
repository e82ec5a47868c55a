"""The run of an engine: start it, measure point after point into a journal, stop it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import platform
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aiconf import __version__
from aiconf.errors import UserError
from profilers import facts, journal
from profilers.device import Device
from profilers.engine import operating
from profilers.engine.client import EngineError, Server
from profilers.engine.experiments import (
    Prompts,
    Seen,
    closed_loop,
    lone_prompt,
    prompt_beside,
    static_batch,
)
from profilers.engine.points import Point, points
from profilers.engine.serving import Ready, serving
from profilers.engine.settings import Settings, context_of, model_name, spec_of
from profilers.run import clock
from profilers.watch import Watch, driver_facts

SPREAD = 0.25  # widest (90th - 10th percentile) / median of a point: a network is part of it
_ATTEMPTS = 2  # a point that ended the server so often is not tried again
_PAUSE = 0.02  # seconds between points: closed streams leave the engine, signals are heard
_POINT_SECONDS = 900.0  # a point that takes longer is refused
Say = Callable[[str], None]


def run(
    settings: Settings, device: Device, out: Path, say: Say, *, limit: float | None = None
) -> bool:
    """Measure into the journal of ``out``; False when a signal stopped it.

    limit: seconds for this session; None: the settings' own.

    Raises
    ------
    UserError
        The engine is missing or does not start, its port is in use, another run writes to
        ``out``, or it holds another run.
    """
    with journal.Journal(out) as book:
        progress = _taken_up(settings, out, book, device)
        book_keeping = _Keeping(book, progress, limit if limit is not None else settings.limit)
        return asyncio.run(_measured(settings, device, out, say, book_keeping))


def finish(out: Path) -> list[str]:
    """Write the tables and operating points of a journal; lines that say where and how many."""
    from profilers import tables

    reading = journal.read(out)
    said = []
    if reading.of("point"):
        said = [f"{out}/{place}.parquet: {n} rows" for place, n in tables.finish(out).items()]
    rows = {record["point"]: record["row"] for record in reading.of("operating")}
    if rows:
        said.append(f"{operating.write(out, list(rows.values()))}: {len(rows)} operating points")
    if not said:
        raise UserError(f"{out} holds no measured point yet")
    return said


class _NoTime(Exception):
    """The time ended between the two attempts at a point, which is left for another session."""


@dataclass
class _Keeping:
    book: journal.Journal
    tried: dict[str, int]  # times each point was tried without an end; done ones: enough
    limit: float | None
    start: float = field(default_factory=time.monotonic)
    walls: list[float] = field(default_factory=list)

    def open(self, point: Point) -> bool:
        return self.tried.get(point.name, 0) < _ATTEMPTS

    def spent(self) -> bool:
        """Whether the next point would exceed the time."""
        typical = float(np.mean(self.walls)) if self.walls else 0.0
        return self.limit is not None and time.monotonic() - self.start + typical > self.limit

    def left(self, count: int) -> float:
        typical = float(np.mean(self.walls)) if self.walls else 0.0
        rest = count * typical
        if self.limit is not None:
            rest = min(rest, max(self.limit - (time.monotonic() - self.start), 0.0))
        return rest


def _taken_up(
    settings: Settings, out: Path, book: journal.Journal, device: Device
) -> dict[str, int]:
    if not journal.exists(out):
        return {}
    reading = journal.repair(out)
    if "engine" not in reading.records[0]:
        raise UserError(f"{out} holds a run of kernels: choose another folder")
    if Settings.of(reading.records[0]) != settings:
        raise UserError(f"{out} holds a run with other settings: resume it as it was, or choose "
                        "another folder")  # fmt: skip
    for session in reading.of("session"):
        if session["device"]["name"] != device.name:
            raise UserError(
                f"this run was measured on {session['device']['name']}; this is {device.name}"
            )
    tried: dict[str, int] = {}
    for record in reading.records:
        if record["kind"] == "begin":
            tried[record["point"]] = tried.get(record["point"], 0) + 1
        elif "point" in record:
            tried[record["point"]] = _ATTEMPTS
    return tried


async def _measured(
    settings: Settings, device: Device, out: Path, say: Say, keeping: _Keeping
) -> bool:
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        if stop.is_set() and task:
            task.cancel()  # the second time: at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        async with serving(settings, out, say, stop) as ready:
            if ready is None:
                return False
            if not journal.exists(out):  # what never got so far may be asked for anew
                keeping.book.write(settings.record())
            keeping.book.write(_session(settings, device, ready))
            with Watch(device) as watch:
                return await _points(settings, ready, watch, stop, say, keeping, out)
    except asyncio.CancelledError:
        return False
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _session(settings: Settings, device: Device, ready: Ready) -> dict[str, Any]:
    """What this session measures with, as ``facts.session`` states it of kernels."""
    libraries = facts.versions()
    if ready.facts.get("version"):
        libraries[settings.backend] = ready.facts["version"]
    return {
        "kind": "session",
        "device": dataclasses.asdict(device) | {"flops": dict(device.flops)},
        "driver": driver_facts(device), "libraries": libraries,
        "python": platform.python_version(), "platform": platform.platform(),
        "aiconf": __version__, "commit": facts.commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": settings.seed, "method": {"spread": SPREAD},
        "engine": dataclasses.asdict(settings) | ready.facts | {"model": model_name(settings)},
    }  # fmt: skip


async def _points(
    settings: Settings, ready: Ready, watch: Watch, stop: asyncio.Event, say: Say,
    keeping: _Keeping, out: Path,
) -> bool:  # fmt: skip
    spec = spec_of(settings)
    prompts = Prompts(spec.vocab, np.random.default_rng(settings.seed))
    wanted = [point for point in points(settings.quick, settings.loads) if keeping.open(point)]
    usable = [point for point in wanted if not ready.limits.problem(point)]
    for why in dict.fromkeys(ready.limits.problem(point) for point in wanted):
        if why:
            count = sum(ready.limits.problem(point) == why for point in wanted)
            say(f"left out {count}: {why}")
    await _warm(ready, prompts)
    for place, point in enumerate(usable):
        await asyncio.sleep(_PAUSE)
        if stop.is_set():
            return False
        if keeping.spent():
            say(f"the time is spent: {len(usable) - place} points are left")
            return True
        keeping.book.write({"kind": "begin", "point": point.name})
        start = time.monotonic()
        try:
            record = await asyncio.wait_for(
                _point(point, settings, ready, prompts, keeping), _POINT_SECONDS
            )
        except (EngineError, TimeoutError) as error:
            if ready.running and not ready.running.alive():
                raise UserError(f"the server ended: {ready.running.last_words()}") from None
            record = {"kind": "refused", "why": str(error) or "it took too long"}
        except _NoTime:
            say(f"the time is spent: {len(usable) - place} points are left")
            return True
        end = time.monotonic()
        keeping.walls.append(end - start)
        record |= {"point": point.name, "wall": round(end - start, 4), **watch.between(start, end)}
        keeping.book.write(record)
        left = clock(keeping.left(len(usable) - place - 1))
        say(f"[{place + 1} of {len(usable)}, {left} left] {point.name}: {_said(record)}")
    return True


async def _warm(ready: Ready, prompts: Prompts) -> None:
    """Compile and capture what the engine leaves to its first requests."""
    length = max(min(ready.limits.budget, ready.limits.context) // 2, 1)
    try:
        await lone_prompt(ready.server, prompts, length)
    except EngineError as error:
        raise UserError(f"the server does not serve: {error}") from None


def _said(record: dict[str, Any]) -> str:
    if record["kind"] == "refused":
        return str(record["why"])
    if record["kind"] == "operating":
        row = record["row"]
        return f"TTFT {row['ttft_ms_p50']:.1f} ms, TPOT {row['tpot_ms_mean']:.2f} ms"
    return f"{record['seconds'] * 1e3:.3f} ms"


async def _point(
    point: Point, settings: Settings, ready: Ready, prompts: Prompts, keeping: _Keeping
) -> dict[str, Any]:
    server, budget = ready.server, settings.budget
    if point.load:
        served = await closed_loop(server, prompts, point.load)
        return {"kind": "operating", "row": operating.row(
            point.load, served, _deployed(settings, ready, keeping))}  # fmt: skip
    for attempt in range(2):  # a disturbed measurement gets a second chance
        if attempt and keeping.spent():
            raise _NoTime
        seen = await _seen(point, server, prompts, budget)
        if seen.spread <= SPREAD:
            return _row(point, seen, settings, ready)
    return {"kind": "refused", "why": f"spread {seen.spread:.0%} of the median is too wide"}


async def _seen(point: Point, server: Server, prompts: Prompts, budget: int) -> Seen:
    if not point.decode:
        return await lone_prompt(server, prompts, point.prefill)
    if not point.prefill:
        return await static_batch(server, prompts, point.decode, point.context, budget)
    return await prompt_beside(server, prompts, point.prefill, point.decode, point.context, budget)


def _row(point: Point, seen: Seen, settings: Settings, ready: Ready) -> dict[str, Any]:
    row = {
        "model": model_name(settings), "config": ready.facts["config"],
        "layout": str(settings.layout), "settings": settings.flags, "seen": point.seen,
        "prefill": point.prefill, "decode": point.decode, "context": round(seen.context),
    }  # fmt: skip
    return {
        "kind": "point", "table": "iteration", "backend": settings.backend, "row": row,
        "seconds": seen.median, "spread": round(seen.spread, 5), "samples": len(seen.seconds),
    }  # fmt: skip


def _deployed(settings: Settings, ready: Ready, keeping: _Keeping) -> dict[str, Any]:
    """Cells of an operating point that say what was deployed."""
    from aiconf.system.catalog import load_system, system_names

    spec, one = spec_of(settings), settings.layout
    reading = journal.read(keeping.book.folder)
    session = reading.of("session")[-1]
    system = session["device"]["system"]
    known = system in system_names()
    flags = [f"budget={settings.budget}", f"context={context_of(settings)}", *settings.extra]
    return {
        "date": session["date"][:10],
        "hardware": load_system(system).gpu.name if known else session["device"]["name"],
        "num_gpus": one.gpus, "num_nodes": 1, "backend": settings.backend,
        "backend_version": session["libraries"].get(settings.backend, ""),
        "model": model_name(settings), "precision": spec.quantization.attention.partition("_")[0],
        "serving_mode": "agg", "tp": one.tp, "pp": one.pp, "dp": one.dp, "ep": one.ep,
        "mtp/spec": "none",
        "notes": "; ".join(["dummy weights" if ready.running else "running server", *flags]),
    }  # fmt: skip
