"""The GPU that an engine will use, without using it: as nvidia-smi names it."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import replace

from aiconf.errors import UserError
from profilers.device import Device, described, of_system, planned, system_of


def device(system: str = "", *, remote: bool = False) -> Device:
    """Return the first GPU of this machine as a device of its system.

    system: what it is meant to be, or whose it is on another machine (``remote``).

    Raises
    ------
    UserError
        There is no GPU, it is another than ``system``, or no system describes it.
    """
    name, uuid = ("", "") if remote else _first()
    if not name and not (remote and system):
        raise UserError(
            "whose server is it? say so with --system NAME" if remote
            else "no GPU: nvidia-smi lists none here"
        )  # fmt: skip
    known = system_of(name, system) if name else None
    if name and not known:
        raise UserError(f"this GPU is a {name}, which no system describes: {described(name)}")
    found = of_system(known) if known else planned(system)
    return replace(found, name=name or found.name, uuid=uuid)


def _first() -> tuple[str, str]:
    """Name and UUID of the first GPU; empty where nvidia-smi is missing or lists none."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,uuid", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "", ""
    row = next(csv.reader(done.stdout.splitlines()), [])
    return (row[0].strip(), row[1].strip()) if len(row) == 2 else ("", "")
