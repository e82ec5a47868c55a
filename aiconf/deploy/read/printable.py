"""Text of a manifest made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with a ``?`` for all that is no letter, such as terminal escapes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
