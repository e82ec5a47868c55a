"""What the terminal can show: Unicode or ASCII, colour or none, and how wide it is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TextIO

_NEEDED = "●○█│─≤"
_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_COLOURS = {"agg": "\x1b[36m", "disagg": "\x1b[33m", "target": "\x1b[31m"}


@dataclass(frozen=True)
class Style:
    """How text is drawn. width: columns of the terminal."""

    unicode: bool = True
    colour: bool = False
    width: int = 100

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Find what ``stream`` can show; colour only on a terminal and without ``NO_COLOR``."""
        terminal = stream.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        width = shutil.get_terminal_size((100, 24)).columns if terminal else 100
        return cls(_encodes(stream), terminal and not plain, max(width, 60))

    def bold(self, text: str) -> str:
        """Return ``text`` as a heading."""
        return f"{_BOLD}{text}{_RESET}" if self.colour else text

    def dim(self, text: str) -> str:
        """Return ``text`` as something secondary."""
        return f"{_DIM}{text}{_RESET}" if self.colour else text

    def paint(self, text: str, role: str) -> str:
        """Return ``text`` in the colour of ``role``: ``agg``, ``disagg`` or ``target``."""
        return f"{_COLOURS[role]}{text}{_RESET}" if self.colour and role in _COLOURS else text

    def plain(self, text: str) -> str:
        """Return ``text`` in characters that the stream has."""
        return text if self.unicode else text.replace("≤", "<=").replace("×", "x")


def _encodes(stream: TextIO) -> bool:
    try:
        _NEEDED.encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
