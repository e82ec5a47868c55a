"""The run: next point, measure, journal; until all is fit, time is up, or it is stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aiconf.errors import UserError
from profilers import facts, journal
from profilers.device import Device
from profilers.measure import Bench, Refused, Timed
from profilers.plan import Job, Plan
from profilers.team import Alone, Team
from profilers.timing import Method
from profilers.watch import Watch, driver_facts

_SEEDED = 0.6  # share of a budget for first looks; the rest is for refinement
_ATTEMPTS = 2  # a point that ended the process so often is not tried again
Say = Callable[[str], None]


@dataclass
class Progress:
    """What a run has done so far, for one line of progress."""

    measured: int = 0
    refused: int = 0
    seconds: float = 0.0  # of measuring, over all sessions
    paced: float = 0.0  # the same without points that also compiled and loaded a kernel
    expected: float = 0.0  # what the plan expected for the points of ``paced``
    fatal: list[str] = field(default_factory=list)  # points that ended the process, to be noted
    warm: set[str] = field(default_factory=set)  # kernels that this process has run

    @property
    def pace(self) -> float:
        """Measured over expected seconds per point; 1 before the first that tells."""
        return self.paced / self.expected if self.expected else 1.0

    def count(self, kernel: str, cost: float, wall: float, refused: bool) -> None:
        """Take in one point; a kernel's first one in a process tells nothing of the pace."""
        self.refused += refused
        self.measured += not refused
        self.seconds += wall
        if kernel in self.warm:
            self.paced += wall
            self.expected += cost
        elif not refused:
            self.warm.add(kernel)


@dataclass
class _Stop:
    """Whether a signal asked for the end: the point in hand is finished first."""

    asked: bool = False
    _before: dict[int, Any] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[_Stop]:
        """Take SIGINT and SIGTERM as the wish to stop; a second one stops at once."""

        def note(number: int, _frame: object) -> None:
            self.asked = True
            signal.signal(number, self._before[number])

        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            self._before[number] = signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)


def replay(plan: Plan, reading: journal.Reading) -> Progress:
    """Take what a journal holds into the plan, so that it is not measured again."""
    progress = Progress()
    tried: dict[str, int] = {}
    for record in reading.records:
        if record["kind"] == "session":
            progress.warm.clear()
        elif record["kind"] == "begin":
            tried[record["point"]] = tried.get(record["point"], 0) + 1
        elif record["kind"] in ("point", "refused"):
            tried.pop(record["point"], None)
            place = plan.place(record["point"])
            refused = record["kind"] == "refused"
            if place:
                plan.refinement.add(*place, record.get("seconds"))
                cost = float(plan.refinement.tracks[place[0]].cost[place[1]])
                kernel = plan.point(*place).kernel_name
                progress.count(kernel, cost, record["wall"], refused)
            else:
                progress.count("", 0.0, record["wall"], refused)
    for name, times in tried.items():
        place = plan.place(name)
        if place and times >= _ATTEMPTS:
            plan.refinement.add(*place, None)
            progress.refused += 1
            progress.fatal.append(name)
    progress.warm.clear()  # this process has run nothing yet
    return progress


def run(
    job: Job, plan: Plan, device: Device, method: Method, out: Path, say: Say,
    *, team: Team | None = None, budget: float | None = None,
) -> bool:  # fmt: skip
    """Measure the points of a plan, one after the other, into the journal of ``out``.

    budget: seconds that this session may take; None: the rest of the job's.

    Returns
    -------
    bool
        Whether it came to its end; False when a signal stopped it.

    Raises
    ------
    UserError
        Another run writes to ``out``; the journal is of another device; the budget is spent.
    LostDevice
        A kernel broke the device for this process: start it again.
    """
    ranks: Team = team or Alone()
    progress = _taken_up(job, plan, device, out, say, ranks)
    with journal.Journal(out, ranks.rank == 0) as book:
        session = facts.session(device, method, job.seed, driver_facts(device))
        why = f"ended the process {_ATTEMPTS} times"
        lost = [{"kind": "refused", "point": p, "why": why, "wall": 0.0} for p in progress.fatal]
        book.write({"kind": "session", **session}, *lost)
        limit = _limit(job, budget, progress)
        bench = Bench.on(device, method, job.seed)
        loop = _Loop(plan, bench, book, say, progress, ranks, limit)
        with Watch(device) as watch, _Stop().listening() as stop:
            return loop.go(watch, stop)


def _taken_up(job: Job, plan: Plan, device: Device, out: Path, say: Say, team: Team) -> Progress:
    """Begin the journal of ``out``, or mend it and take what it holds into the plan."""
    with journal.Journal(out, team.rank == 0) as book:  # so that nobody mends it meanwhile
        if not journal.exists(out):
            book.begin(job.record())
            return Progress()
        reading = journal.repair(out) if team.rank == 0 else journal.read(out)
    if reading.damaged:
        say(f"repaired the journal: {reading.damaged} damaged lines dropped")
    _require_same(reading, device)
    return replay(plan, reading)


def _limit(job: Job, budget: float | None, progress: Progress) -> float | None:
    if budget is not None or job.budget is None:
        return budget
    rest = job.budget - progress.seconds
    if rest <= 0:
        raise UserError(f"the budget of {job.budget:.0f} s is spent: give more with --budget")
    return rest


def _require_same(reading: journal.Reading, device: Device) -> None:
    """Refuse to mix what other GPUs or other versions of a library took in one table."""
    now = facts.versions()
    for session in reading.of("session"):
        name = session["device"]["name"]
        if name != device.name:
            raise UserError(f"this run was measured on {name}; this is {device.name}")
        for library, version in session.get("libraries", {}).items():
            if now.get(library, version) != version:
                raise UserError(
                    f"this run was measured with {library} {version}; this is {now[library]}: "
                    "begin another folder, and join them with `aiconf db merge`"
                )


@dataclass
class _Loop:
    plan: Plan
    bench: Bench
    book: journal.Journal
    say: Say
    progress: Progress
    team: Team
    limit: float | None

    def go(self, watch: Watch, stop: _Stop) -> bool:
        start = time.monotonic()
        while True:
            chosen: tuple[int, int] | None = None
            if self.team.rank == 0 and not stop.asked:
                chosen = self._next(time.monotonic() - start)
            chosen = self.team.share(chosen)
            if chosen is None:
                return not stop.asked
            track, place = chosen
            self._measure(track, place, watch, time.monotonic() - start)

    def _next(self, elapsed: float) -> tuple[int, int] | None:
        """The next point within the budget; one that is too dear for what is left is passed by."""
        refinement = self.plan.refinement
        seeding = self.limit is None or elapsed < _SEEDED * self.limit
        while True:
            chosen = (refinement.seed() if seeding else None) or refinement.worst()
            if chosen is None and not seeding:
                chosen = refinement.seed()  # nothing to refine: time is left for more lines
            if chosen is None or self.limit is None:
                return chosen
            if elapsed + self._wall(*chosen) <= self.limit:
                return chosen

    def _wall(self, track: int, place: int) -> float:
        return float(self.plan.refinement.tracks[track].cost[place]) * self.progress.pace

    def _measure(self, track: int, place: int, watch: Watch, elapsed: float) -> None:
        point = self.plan.point(track, place)
        self.book.write({"kind": "begin", "point": point.name})
        start = time.monotonic()
        result = self.bench.measure(point)
        end = time.monotonic()
        record: dict[str, Any] = {"point": point.name, "wall": round(end - start, 4)}
        if isinstance(result, Timed):
            record |= {
                "kind": "point", "table": point.operator.table, "backend": point.kernel.backend,
                "row": point.row, "seconds": result.seconds, "spread": round(result.spread, 5),
                "samples": result.samples, "sets": result.sets, "error": result.error,
                **watch.between(*result.window),
            }  # fmt: skip
        else:
            record |= {"kind": "refused", "why": result.why}
        self.book.write(record)
        self.plan.refinement.add(track, place, record.get("seconds"))
        cost = float(self.plan.refinement.tracks[track].cost[place])
        refused = isinstance(result, Refused)
        self.progress.count(point.kernel_name, cost, end - start, refused)
        self.say(self._line(point.name, result, elapsed + end - start))

    def _line(self, name: str, result: Timed | Refused, elapsed: float) -> str:
        left = self.plan.refinement.left() * self.progress.pace
        if self.limit is not None:
            left = min(left, max(self.limit - elapsed, 0.0))
        done = self.progress.measured + self.progress.refused
        what = f"{result.seconds * 1e6:.1f} us" if isinstance(result, Timed) else result.why
        return f"[{done}, {clock(left)} left] {name}: {what}"


def clock(seconds: float) -> str:
    """A duration in its two largest units: 12 s, 3 min 05 s, 2 h 10 min."""
    whole = int(np.ceil(seconds))
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
