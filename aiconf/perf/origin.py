"""Where a time came from: a measured shape, neighbouring shapes, or the speed of light."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from aiconf.perf.surface import Surface


class Origin(IntEnum):
    """Ordered from the most to the least trustworthy; a sum takes each share separately."""

    MEASURED = 0  # this shape is in a table (the batch or length axis is interpolated)
    INTERPOLATED = 1  # combined from, or scaled from, neighbouring shapes of a table
    FALLBACK = 2  # speed of light scaled by the nearest measured efficiency, or by none


Origins = NDArray[np.intp]  # one Origin per point


def unmeasured(points: NDArray[np.float64]) -> Origins:
    """Fallback at every point."""
    return np.full(points.shape, int(Origin.FALLBACK))


def reached(surface: Surface, origin: Origin, *coordinates: ArrayLike) -> Origins:
    """Origin of each point: ``origin`` inside the measured range, fallback beyond it."""
    return np.where(surface.inside(*coordinates), int(origin), int(Origin.FALLBACK))
