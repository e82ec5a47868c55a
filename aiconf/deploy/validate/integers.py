"""Whole numbers in text from anybody."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?[0-9]{1,18}")  # below 2^63; str.isdigit would take '²' too


def whole(text: str) -> int | None:
    """Return the whole number that ``text`` is, None when it is none or beyond 64 bits."""
    return int(text) if _WHOLE.fullmatch(text) else None
