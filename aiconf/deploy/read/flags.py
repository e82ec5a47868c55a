"""Settings of one worker by name: words of its command line, laid over its configuration file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiconf.errors import UserError

_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_MOST = 10**9  # of any count: beyond it lies a slip of the hand, not a setting
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class Flags:
    """Values by flag (without dashes, hyphens for underscores); remembers which were read.

    A bare flag has the value True. ``where`` begins the messages about wrong values.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._read: set[str] = set()
        self.where = where

    def raw(self, *names: str) -> Any:
        """Return the value of the first of ``names`` that is set; None where none is."""
        found = None
        for name in names:
            if name in self._values:
                self._read.add(name)
                found = self._values[name] if found is None else found
        return found

    def text(self, *names: str) -> str | None:
        """Return a text; a part that only the cluster knows is an error."""
        value = self.raw(*names)
        if value is None:
            return None
        if value is True or isinstance(value, (list, Mapping)):
            raise self._wrong(names[0], value, "a text")
        self._known(names[0], value)
        return str(value)

    def whole(self, *names: str) -> int | None:
        """Return a whole number; ``8k`` and ``8K`` are 8,000 and 8,192 as vLLM reads them."""
        value = self.raw(*names)
        if value is None:
            return None
        self._known(names[0], value)
        match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgG]?)", str(value).strip())
        number = float(match.group(1)) * _SUFFIXES.get(match.group(2), 1) if match else 0.5
        if abs(number) > _MOST:
            raise self._wrong(names[0], value, f"at most {_MOST:,}")
        if number != int(number):
            raise self._wrong(names[0], value, "a whole number")
        return int(number)

    def size(self, *names: str) -> int | None:
        """Return a whole number of at least 1."""
        found = self.whole(*names)
        if found is not None and found < 1:
            raise self._wrong(names[0], found, "at least 1")
        return found

    def number(self, *names: str) -> float | None:
        """Return a number."""
        value = self.raw(*names)
        if value is None:
            return None
        self._known(names[0], value)
        try:
            found = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = float("nan")
        if not math.isfinite(found):
            raise self._wrong(names[0], value, "a number")
        return found

    def share(self, *names: str) -> float | None:
        """Return a number above 0 and up to 1."""
        found = self.number(*names)
        if found is not None and not 0.0 < found <= 1.0:
            raise self._wrong(names[0], found, "between 0 and 1")
        return found

    def switch(self, *names: str) -> bool | None:
        """Return whether a switch is on; ``--no-NAME`` is its opposite; None: not set."""
        for name in names:
            if self.raw(f"no-{name}") is not None:
                return False
        value = self.raw(*names)
        if value is None or isinstance(value, bool):
            return value
        if str(value).lower() in _TRUE + _FALSE:
            return str(value).lower() in _TRUE
        raise self._wrong(names[0], value, "true or false")

    def mapping(self, *names: str) -> dict[str, Any]:
        """Return a JSON object, or the parts of ``--NAME.PART value``; empty: not set."""
        value = self.raw(*names)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                self._known(names[0], value)
                raise self._wrong(names[0], value, "a JSON object") from None
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(names[0], value, "a JSON object")
        found = dict(value or {})
        for name in names:
            for key in [key for key in self._values if key.startswith(f"{name}.")]:
                found[key.removeprefix(f"{name}.").replace("-", "_")] = self.raw(key)
        return found

    def sizes(self, *names: str) -> tuple[int, ...] | None:
        """Return whole numbers, ascending: separate words, a list, or one text with commas."""
        value = self.raw(*names)
        if value is None:
            return None
        items = value if isinstance(value, list) else re.split(r"[\s,]+", str(value).strip("[] "))
        try:
            found = tuple(sorted({int(item) for item in items}))
        except (TypeError, ValueError):
            found = (0,)
        if not found or found[0] < 1 or found[-1] > _MOST:
            raise self._wrong(names[0], value, "whole numbers of at least 1")
        return found

    def inside(self, *names: str) -> Flags:
        """Return the fields of a JSON object as settings of their own."""
        return Flags(named(self.mapping(*names)), f"{self.where}: {names[0]}")

    def skip(self, *names: str) -> None:
        """Count flags as read that change neither time nor memory."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """Return the flags that nobody asked for."""
        return [name for name in self._values if name not in self._read]

    def _known(self, name: str, value: Any) -> None:
        if isinstance(value, str) and re.search(r"\$[\w({]", value):
            raise UserError(
                f"{self.where}: --{name} is {value}, which the manifest does not say: "
                "put the value in"
            )

    def _wrong(self, name: str, value: Any, wanted: str) -> UserError:
        return UserError(f"{self.where}: --{name} must be {wanted}, not {_short(value)}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown):,} letters)"


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of a command line by flag; of a repeated flag the last one counts.

    Several words behind a flag become a list; words before the first flag are left out.
    """
    found: dict[str, Any] = {}
    name = ""
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            spelled, sign, value = word.lstrip("-").partition("=")
            head, dot, inside = spelled.partition(".")
            name = head.replace("_", "-") + dot + inside
            found[name] = value if sign else True
        elif name and found[name] is True:
            found[name] = word
        elif name:
            before = found[name]
            found[name] = [*before, word] if isinstance(before, list) else [before, word]
    return found


def named(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration file by flag."""
    return {str(key).replace("_", "-"): value for key, value in config.items()}
