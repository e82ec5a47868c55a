"""The GPU that an engine will use, without using it: as nvidia-smi names it."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import replace

from aiconf.errors import UserError
from aiconf.system.catalog import load_system, system_names
from profilers.device import Device, planned


def device(system: str = "", *, remote: bool = False) -> Device:
    """Return the first GPU of this machine as a device of its system.

    system: its name where the GPU is not recognised, or is another machine's (``remote``).

    Raises
    ------
    UserError
        There is no GPU, it is another than ``system``, or no system describes it.
    """
    name, uuid = ("", "") if remote else _first()
    known = next((each for each in system_names() if load_system(each).device_name == name), "")
    if not name and not (remote and system):
        raise UserError(
            "whose server is it? say so with --system NAME" if remote
            else "no GPU: nvidia-smi lists none here"
        )  # fmt: skip
    if known and system and load_system(system).name != known:
        raise UserError(f"this GPU is a {name} ({known}), not {system}")
    if not known and not system:
        raise UserError(f"this GPU is a {name}, which no system describes: say which with --system")
    found = planned(known or system)
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
