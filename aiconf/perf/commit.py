"""Changing the tables of a perf_db folder so that it can be read at every moment.

The manifest is the only commit point. New tables are written elsewhere, then laid beside the old
ones under names that hold their checksum (``manifest.waiting``), which the old manifest does not
name. The manifest is replaced in one step. Only then do the new tables take the places of the
old; until each has, a reader finds it under its waiting name. Whatever a killed change left is
removed by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiconf.perf.manifest import MANIFEST, WAITING, Place, read_entries, waiting


@dataclass(frozen=True)
class Change:
    """New tables of the folder ``out``, which stays as it is until ``commit``."""

    out: Path
    _staging: Path

    def path(self, place: Place) -> Path:
        """Where the new table of a place is to be written."""
        return self._staging / f"{','.join(place)}{WAITING}"

    def commit(self, entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> None:
        """Replace the manifest by one of ``entries``, and the tables by those that were written.

        entries: with size and checksum (``file_facts``); tables that were not written stay, and
        those that the manifest named and no entry names are removed. left_out: as
        ``write_manifest`` takes it.
        """
        from aiconf.perf.convert.write import write_manifest

        old = _settle(self.out) if (self.out / MANIFEST).is_file() else set()
        for entry in entries:
            place = (entry["system"], entry["backend"], entry["table"])
            if self.path(place).is_file():
                target = waiting(table_path(self.out, place), entry["sha256"])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(self.path(place), target)
                with target.open("rb+") as file:  # on the disk before the manifest names it
                    os.fsync(file.fileno())
        self.out.mkdir(parents=True, exist_ok=True)
        write_manifest(self.out, entries, left_out)
        for dropped in old - _settle(self.out):
            dropped.unlink(missing_ok=True)


@contextmanager
def changing(out: Path) -> Iterator[Change]:
    """A change of ``out``, which need not exist: without a ``commit`` nothing happens to it.

    One process at a time: what another one has begun counts as left over.
    """
    whole = out.resolve()
    inside, beside = whole / ".staging", whole.with_name(f".{whole.name}.staging")
    for left in (inside, beside):
        shutil.rmtree(left, ignore_errors=True)
    # Beside a folder that is not there yet, so that a failure leaves none; else within it, since
    # where it lies may not be ours to write to.
    staging = inside if whole.is_dir() else beside
    staging.mkdir(parents=True)
    try:
        yield Change(out, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def table_path(folder: Path, place: Place) -> Path:
    """Where a perf_db folder holds the table of a place."""
    return Path(folder, *place[:2], f"{place[2]}.parquet")


def _settle(out: Path) -> set[Path]:
    """Give waiting tables that the manifest names their places, and return all these places.

    Other waiting tables are left over from changes that were killed before their commit.
    """
    kept = set()
    for entry in read_entries(out).values():
        path = table_path(out, entry.place)
        kept.add(path)
        if waiting(path, entry.sha256).is_file():
            waiting(path, entry.sha256).replace(path)
    for left in out.glob(f"*/*/.*{WAITING}"):
        left.unlink()
    return kept
