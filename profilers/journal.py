"""The journal of a run: what was measured, line by line, so that a killed run loses one point.

Append-only JSONL. Each line is ``{"sha256": ..., "record": {...}}`` with the first 16 digits of
the checksum of the record's text; it is written whole and flushed to the disk before the next
point starts. A line that was cut off, or that does not have its checksum, is found when the
journal is read, and dropped when a run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiconf.errors import UserError

NAME = "journal.jsonl"
FORMAT = 1  # of the records, as the first one says
Record = dict[str, Any]


def line_of(record: Record) -> str:
    """One line of the journal, its line break included."""
    text = json.dumps(record, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f'{{"sha256": "{digest}", "record": {text}}}\n'


def record_of(line: str) -> Record | None:
    """The record of a line; None where the line was cut off or changed."""
    try:
        read = json.loads(line)
        record = read["record"]
    except (ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) and line_of(record) == line else None


@dataclass(frozen=True)
class Reading:
    """Records of a journal in order, and how many lines were damaged.

    cut: whether the last of the damaged ones was cut off, as a kill leaves it.
    """

    records: tuple[Record, ...]
    damaged: int
    cut: bool = False

    @property
    def damage(self) -> str:
        """How many lines are left out and why, in words; "" where none are."""
        if not self.damaged:
            return ""
        changed = self.damaged - self.cut
        whys = ["the last one was cut off"] * self.cut
        whys += [f"{changed} with a checksum that does not fit"] * (changed > 0)
        every = len(self.records) + self.damaged
        return f"{self.damaged} of {every} journal lines left out: {', '.join(whys)}"

    def of(self, kind: str) -> list[Record]:
        """Records of one kind: job, session, begin, point or refused."""
        return [record for record in self.records if record["kind"] == kind]


def exists(folder: Path) -> bool:
    """Whether ``folder`` holds a run; not when it was killed within its first line."""
    path = folder / NAME
    return path.is_file() and b"\n" in path.read_bytes()


def read(folder: Path) -> Reading:
    """Read the journal of ``folder``.

    Raises
    ------
    UserError
        There is none, it cannot be read, or its first line does not say what was asked for.
    """
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run: there is no {NAME}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    found = [record_of(line) for line in lines]
    kept = tuple(record for record in found if record is not None)
    if not kept or kept[0].get("kind") != "job":
        raise UserError(f"{path} does not begin with what was asked for: run into another folder")
    if kept[0].get("format") != FORMAT:
        raise UserError(f"{path} was written by another version of aiconf: run into another folder")
    return Reading(kept, len(found) - len(kept), not lines[-1].endswith("\n"))


def repair(folder: Path) -> Reading:
    """Read the journal and drop its damaged lines from the file, atomically."""
    reading = read(folder)
    if reading.damaged:
        staged = folder / f".{NAME}.new"
        with staged.open("w", encoding="utf-8", newline="") as file:
            file.writelines(map(line_of, reading.records))
            file.flush()
            os.fsync(file.fileno())
        staged.replace(folder / NAME)
    return reading


@dataclass
class Journal:
    """The journal of a run that goes on: one writer, who holds it from start to end."""

    folder: Path
    writes: bool = True  # one of several ranks does, the others pass
    _descriptor: int = field(default=-1, repr=False)

    def __enter__(self) -> Journal:
        """Open the journal for appending; ``UserError`` while another run writes it."""
        if not self.writes:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._descriptor = os.open(self.folder / NAME, flags, 0o644)
        if not _locked(self._descriptor):
            os.close(self._descriptor)
            raise UserError(f"another run is writing to {self.folder}")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Close it, which also lets others write."""
        if self.writes:
            os.close(self._descriptor)

    def begin(self, job: Record) -> None:
        """Write the first record, over what a kill may have left of it."""
        if self.writes:
            os.ftruncate(self._descriptor, 0)
        self.write(job)

    def write(self, *records: Record) -> None:
        """Append records; they are on the disk when this returns."""
        if self.writes:
            _write(self._descriptor, records)


def _write(descriptor: int, records: Iterable[Record]) -> None:
    data = "".join(map(line_of, records)).encode()
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether this process alone may write; always, where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
