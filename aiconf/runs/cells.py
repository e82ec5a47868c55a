"""Reading cells of a measured row: numbers, layouts, loads; and the reasons for not using one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

from aiconf.errors import unknown
from aiconf.runs.measured import Traffic, TrafficKind

Cells = Mapping[str, str]


class Skipped(Exception):
    """The row does not say enough, or says something impossible."""


class Unsupported(Exception):
    """The row is clear, but what it describes is not modelled."""


def number(cells: Cells, name: str) -> float | None:
    """Read a positive number; None for an empty cell.

    Raises
    ------
    Skipped
        For text, zero, a negative number or infinity.
    """
    text = cells.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise Skipped(f"{name} '{text}' is not a number") from None
    if not math.isfinite(value) or value <= 0:
        raise Skipped(f"impossible value: {name} is {text}")
    return value


def count(cells: Cells, name: str, default: int | None = None) -> int:
    """Read a whole number of at least 1; ``0`` and an empty cell stand for ``default``."""
    text = cells.get(name, "").strip()
    if text in ("", "0") and default is not None:
        return default
    if not text:
        raise Skipped(f"{name} is not stated")
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise Skipped(f"{name} '{text}' is not a whole number of at least 1")
    return int(text)


def settings(text: str) -> dict[str, str]:
    """Read ``workers=2;tp=4`` into a mapping."""
    pairs = (part.partition("=") for part in text.split(";") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in pairs}


def traffic(cells: Cells) -> tuple[Traffic, str]:
    """Read lengths and load of a row, and what had to be read into them."""
    isl, osl = _length(cells, "isl"), _length(cells, "osl")
    stated = cells.get("length_range", "").strip()
    note = "" if stated else "distribution of lengths not stated: taken as fixed"
    least = _share(stated) if stated else 1.0
    text = cells.get("concurrency_or_rate", "").strip()
    kind, _, value = text.partition("=")
    sent = count(cells, "requests", 0) or None  # not in the CSV: clients' own files state it
    if not text:
        raise Skipped("the load is not stated")
    if kind == "sessions":
        raise Unsupported(f"{kind} load")
    if kind in ("burst", "offline"):
        queued: TrafficKind = "burst" if kind == "burst" else "offline"
        return Traffic(queued, isl, osl, least, requests=sent or _stated_requests(cells)), note
    if kind == "static":
        together = count({"static": value}, "static")
        return Traffic("static", isl, osl, least, users=together), note
    if kind in ("rate", "concurrency") and value:
        given = number({kind: value}, kind)
        assert given is not None
        if kind == "rate":
            return Traffic("rate", isl, osl, least, rate=given, requests=sent), note
        text = value
    users = count({"concurrency": text}, "concurrency")
    return Traffic("closed", isl, osl, least, users=users, requests=sent), note


def _stated_requests(cells: Cells) -> int | None:
    """Requests that were sent, where a remark says so (``num_requests=1000``)."""
    found = re.search(r"num_requests=(\d+)", cells.get("isl_osl_note", "") + cells.get("notes", ""))
    return int(found.group(1)) or None if found else None


def _length(cells: Cells, name: str) -> int:
    value = number(cells, name)
    if value is None:
        raise Skipped(f"{name} is not stated")
    return max(1, round(value))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Skipped(f"length_range '{text}' is not a number") from None
    if not 0 <= value <= 1:
        raise Skipped(f"impossible value: length_range is {text}")
    return value


@cache
def _systems() -> dict[str, str]:
    from aiconf.system import load_system, system_names

    return {load_system(name).gpu.name.lower(): name for name in system_names()}


def system_of(hardware: str) -> str:
    """Return the system of a GPU as the files name it (``H200 SXM``), or of a system's own name.

    Raises
    ------
    Skipped
        When it is not stated.
    UserError
        For hardware that is not known.
    """
    from aiconf.system import load_system

    if not hardware.strip():
        raise Skipped("hardware is not stated")
    known = _systems()
    found = known.get(hardware.strip().lower())
    if found:
        return found
    if hardware in known.values():
        return load_system(hardware).name
    raise unknown("hardware", hardware, [*known.values()])


_PRECISION = re.compile(r"\b(nvfp4|mxfp4|fp4|fp8|int4|int8|w4a16|bf16|fp16)\b")


def precision_of(text: str) -> str | None:
    """Return the first precision that a cell names (``fp8 (FP8 KV)`` is fp8); None for none."""
    found = _PRECISION.search(text.lower())
    if not found:
        return None
    return {"fp16": "bf16"}.get(found.group(1), found.group(1))
