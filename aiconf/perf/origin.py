"""Where a time came from: a measured shape, neighbouring shapes, or the speed of light."""

from __future__ import annotations

from enum import IntEnum


class Origin(IntEnum):
    """Ordered from the most to the least trustworthy; a sum takes each share separately."""

    MEASURED = 0  # this shape is in a table (the batch or length axis is interpolated)
    INTERPOLATED = 1  # combined from, or scaled from, neighbouring shapes of a table
    FALLBACK = 2  # speed of light scaled by the nearest measured efficiency, or by none
