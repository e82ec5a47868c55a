"""Conversions at the edges: inside, everything is seconds and bytes."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])

GIB = float(1 << 30)


def to_ms(seconds: Number) -> Number:
    """Seconds to milliseconds."""
    return seconds * 1e3


def from_ms(milliseconds: float) -> float:
    """Milliseconds to seconds."""
    return milliseconds / 1e3
