"""What a job comes to on a device: the points, those left out and why, and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from aiconf.errors import UserError
from aiconf.perf.manifest import read_entries
from aiconf.perf.schema import SECONDS
from aiconf.perf.store import Folder
from profilers import catalog
from profilers.device import Device
from profilers.journal import FORMAT
from profilers.operator import Kernel, Line, Operator, Point
from profilers.refine import Refinement, Track
from profilers.timing import Method

# Guesses for a plan before anything ran; a run replaces them by what its points took.
_EFFICIENCY = 0.5  # of the speed of light
_LAUNCH = 5e-6  # s, shortest call
_AROUND = 0.12  # s per point besides timing: inputs, check, capture
_DRAWN = 20.0  # times the bytes of a set that its drawing and quantising move
_ROOM = 12.0  # times the bytes of a set that must be free: it is drawn in float32


@dataclass(frozen=True)
class Job:
    """What was asked for; stored in the journal, so that a resumed run needs no options."""

    ops: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    quick: bool = False
    budget: float | None = None  # seconds
    seed: int = 0
    device: str = "cuda"
    system: str = ""
    perf_db: str = ""  # folder whose rows need not be measured again

    @classmethod
    def of(cls, record: dict[str, Any]) -> Job:
        """Read it back from the journal."""
        known = {name: record[name] for name in asdict(cls())}
        return cls(**known | {"ops": tuple(known["ops"]), "backends": tuple(known["backends"])})

    def record(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {"kind": "job", "format": FORMAT, **asdict(self)}


@dataclass
class Plan:
    """Points of a job by line, in order of worth, and what cannot be measured."""

    device: Device
    refinement: Refinement
    lines: list[tuple[Operator, Kernel, Line]]
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> points
    known: int = 0  # points that an earlier table holds
    _places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def point(self, track: int, place: int) -> Point:
        """The point at a place of a line."""
        operator, kernel, line = self.lines[track]
        return Point(operator, kernel, {**line.fixed, operator.axis: line.values[place]})

    def place(self, name: str) -> tuple[int, int] | None:
        """Where the point of this name stands; None: it is not part of the plan."""
        if not self._places:
            self._places = {
                self.point(track, place).name: (track, place)
                for track, (_, _, line) in enumerate(self.lines)
                for place in range(len(line.values))
            }
        return self._places.get(name)

    def points(self) -> int:
        """Candidates in all."""
        return sum(len(line.values) for _, _, line in self.lines)

    def first_looks(self) -> int:
        """Points that are measured before any refinement."""
        tracks = self.refinement.tracks
        return sum(track.open(place) for track in tracks for place in track.seeds())


def plan(job: Job, device: Device, method: Method, *, every: bool = True) -> Plan:
    """Lay out the points of a job.

    every: whether each backend of the job must have a point; not where nobody named them.

    Raises
    ------
    UserError
        Unknown names; nothing of what was asked for can run here, with the reasons.
    """
    operators = catalog.operators(job.ops)
    backends = catalog.backends(job.backends)
    left_out: Counter[str] = Counter()
    found: list[tuple[Operator, Kernel, Line]] = []
    for each in zip_longest(*(_lines(o, backends, job, device, left_out) for o in operators)):
        found += [one for one in each if one is not None]
    _require_some(found, job.backends if every else (), left_out)
    tracks = [_track(operator, line, device, method) for operator, _, line in found]
    made = Plan(device, Refinement(tracks), found, left_out)
    if job.perf_db:
        made.known = _take_known(made, Path(job.perf_db))
    return made


def _take_known(made: Plan, path: Path) -> int:
    """Count rows of earlier tables as measured, so that refinement starts from them."""
    folder = Folder(path, read_entries(path))
    rows: dict[tuple[str, str], dict[tuple[Any, ...], float]] = {}
    known = 0
    for track, (operator, kernel, line) in enumerate(made.lines):
        table = (kernel.backend, operator.table)
        entry = folder.entries.get((made.device.system, *table))
        if entry is None:
            continue
        if table not in rows:
            columns = folder.select(entry, {})
            keys = zip(*(columns[name].tolist() for name in operator.schema.key_names), strict=True)
            rows[table] = dict(zip(keys, columns[SECONDS].tolist(), strict=True))
        for place in range(len(line.values)):
            seconds = rows[table].get(tuple(made.point(track, place).row.values()))
            if seconds:
                made.refinement.add(track, place, seconds)
                known += 1
    return known


def _lines(
    operator: Operator, backends: tuple[str, ...], job: Job, device: Device, left_out: Counter[str]
) -> Iterator[tuple[Operator, Kernel, Line]]:
    kernels = []
    for kernel in operator.kernels:
        if kernel.backend in backends or (kernel.backend not in catalog.BACKENDS):
            why = kernel.missing(device)
            if why:
                left_out[f"{kernel.backend} {kernel.name}: {why}"] += 1
            else:
                kernels.append(kernel)
    for line in operator.lines(device, job.quick):
        for kernel in kernels:
            values = tuple(
                value for value in line.values
                if _usable(operator, kernel, line, value, device, left_out)
            )  # fmt: skip
            if len(values) > 1:
                yield operator, kernel, Line(line.fixed, values)


def _usable(
    operator: Operator, kernel: Kernel, line: Line, value: int, device: Device,
    left_out: Counter[str],
) -> bool:  # fmt: skip
    key = {**line.fixed, operator.axis: value}
    if kernel.unsupported(device, key):
        return False
    work = operator.work(key)
    if _ROOM * (work.read + work.written) > device.memory_bytes:
        left_out[f"{operator.name}: too large for the free memory"] += 1
        return False
    return True


def _require_some(
    found: list[tuple[Operator, Kernel, Line]], backends: tuple[str, ...], left_out: Counter[str]
) -> None:
    why = "; ".join(chain(list(left_out)[:4], ["..."] * (len(left_out) > 4)))
    if not found:
        raise UserError(f"nothing to measure here: {why or 'no kernel takes these shapes'}")
    for backend in backends:
        if not any(kernel.backend == backend for _, kernel, _ in found):
            own = [reason for reason in left_out if reason.startswith(f"{backend} ")]
            why = own[0].partition(": ")[2] if own else "none of these operators has it"
            raise UserError(f"backend {backend} cannot be measured here: {why}")


def _track(operator: Operator, line: Line, device: Device, method: Method) -> Track:
    works = [operator.work({**line.fixed, operator.axis: value}) for value in line.values]
    light = np.array([w.seconds(device.flops, device.bandwidth, cached=False) for w in works])
    keys = ({**line.fixed, operator.axis: value} for value in line.values)
    light = np.maximum(light, [operator.least(device, key) for key in keys])
    sizes = np.array([w.read + w.written for w in works])
    return Track(
        np.array(line.values, dtype=np.float64),
        light,
        _costs(light, sizes, device, method),
        operator.power,
    )


def _costs(light: Any, sizes: Any, device: Device, method: Method) -> Any:
    """Seconds that measuring takes, guessed from the speed of light and the bytes of a set."""
    call = np.maximum(light / _EFFICIENCY, _LAUNCH)
    sets = np.array(
        [method.calls(t, s, device.memory_bytes) for t, s in zip(call, sizes, strict=True)]
    )
    drawn = sets * sizes * _DRAWN / device.bandwidth
    return _AROUND + drawn + np.maximum(method.timed_seconds, method.samples[0] * sets * call)
