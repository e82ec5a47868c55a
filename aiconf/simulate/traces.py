"""Traces of requests: when each arrived and how long its prompt and output were.

Three forms, told apart by their fields: Mooncake's JSON lines (timestamps in milliseconds),
the CSV of the Azure LLM inference trace (dates), and Vidur's CSV (seconds, or lengths alone).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    form: which form it was read from. arrival: seconds from the first on; None where the file
    states lengths alone. prompt, output: tokens. left_out: requests without output, which no
    client waits for.
    """

    form: str
    arrival: Array | None
    prompt: Ints
    output: Ints
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.prompt)


@dataclass(frozen=True)
class _Form:
    """Fields of prompt, output and arrival (None: none), and how an arrival becomes seconds."""

    title: str
    prompt: str
    output: str
    arrival: str | None
    seconds: Callable[[Any], float] = float


def _milliseconds(value: Any) -> float:
    return float(value) / 1e3


def _date(value: Any) -> float:
    """Seconds of ``2023-11-16 18:17:03.9799600``: seven decimals are one more than Python's."""
    whole, _, part = str(value).partition(".")
    digits = part.split("+")[0].rstrip("Z")
    then = datetime.fromisoformat(f"{whole}+00:00")
    return then.timestamp() + (float(f"0.{digits}") if digits else 0.0)


_FORMS = (
    _Form("Mooncake JSONL", "input_length", "output_length", "timestamp", _milliseconds),
    _Form("Azure LLM inference CSV", "ContextTokens", "GeneratedTokens", "TIMESTAMP", _date),
    _Form("Vidur CSV", "num_prefill_tokens", "num_decode_tokens", "arrived_at"),
    _Form("Vidur CSV of lengths", "num_prefill_tokens", "num_decode_tokens", None),
)


def read_trace(path: Path) -> Trace:
    """Read a trace in any of the forms.

    Raises
    ------
    UserError
        One line: for a file that cannot be read or is of no known form, or for a request that
        states no whole number of tokens or no time; with its line.
    """
    records = _records(path)
    first = next(records, None)
    form = next((f for f in _FORMS if first and _fields(f) <= set(first[1])), None)
    if first is None or form is None:
        titles = ", ".join(dict.fromkeys(f.title for f in _FORMS))
        raise UserError(f"{path} is not a trace that is known: {titles}")
    times, prompts, outputs, empty = [], [], [], 0
    for line, record in _again(first, records):
        prompt, output = _tokens(path, line, record, form.prompt, 1), 0
        output = _tokens(path, line, record, form.output, 0)
        if output == 0:
            empty += 1
            continue
        times.append(_when(path, line, record, form))
        prompts.append(prompt)
        outputs.append(output)
    if not prompts:
        raise UserError(f"{path} holds no request with output")
    when = np.array(times)
    order = np.argsort(when, kind="stable")
    return Trace(
        form=form.title,
        arrival=when[order] - when[order[0]] if form.arrival else None,
        prompt=np.array(prompts, dtype=np.int64)[order],
        output=np.array(outputs, dtype=np.int64)[order],
        left_out=empty,
    )


def _fields(form: _Form) -> set[str]:
    return {form.prompt, form.output} | ({form.arrival} if form.arrival else set())


def _again(
    first: tuple[int, Record], rest: Iterator[tuple[int, Record]]
) -> Iterator[tuple[int, Record]]:
    yield first
    yield from rest


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """Lines of a JSONL or CSV file as mappings, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(1)
            file.seek(0)
            yield from _json_lines(path, file) if start == "{" else _csv_lines(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a text file of requests: {error}") from None


def _json_lines(path: Path, file: Any) -> Iterator[tuple[int, Record]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(f"{path} line {line} is not JSON") from None
        if not isinstance(found, dict):
            raise UserError(f"{path} line {line} is not a JSON object")
        yield line, found


def _csv_lines(file: Any) -> Iterator[tuple[int, Record]]:
    yield from enumerate(csv.DictReader(file), start=2)


def _tokens(path: Path, line: int, record: Record, name: str, least: int) -> int:
    value = record.get(name)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number == int(number) and number >= least):
        raise UserError(f"{path} line {line}: {name} '{value}' is not a number of tokens")
    return int(number)


def _when(path: Path, line: int, record: Record, form: _Form) -> float:
    if form.arrival is None:
        return 0.0
    value = record.get(form.arrival)
    try:
        seconds = form.seconds(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"{path} line {line}: {form.arrival} '{value}' is not a time")
    return seconds
