"""Prompt and output lengths of requests: uniform, lognormal, or drawn from a trace."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError

Ints = NDArray[np.int64]


def uniform_lengths(
    random: np.random.Generator, count: int, isl: int, osl: int, least: float
) -> tuple[Ints, Ints]:
    """Prompt and output lengths, each a uniform whole number in [least x L, L].

    ``least`` 1 gives fixed lengths.

    Raises
    ------
    UserError
        For a share outside 0 to 1.
    """
    if not 0.0 <= least <= 1.0:
        raise UserError(f"the shortest length is a share (0 to 1) of the longest, not {least}")
    prompt = random.integers(max(int(isl * least), 1), isl + 1, count)
    output = random.integers(max(int(osl * least), 1), osl + 1, count)
    return prompt.astype(np.int64), output.astype(np.int64)


def lognormal_lengths(
    random: np.random.Generator, count: int, isl: float, osl: float, cv: float
) -> tuple[Ints, Ints]:
    """Lognormal lengths of means ``isl`` and ``osl`` and coefficient of variation ``cv``.

    For ln X ~ N(m, s): mean = exp(m + s^2 / 2) and cv^2 = exp(s^2) - 1.

    Raises
    ------
    UserError
        For a coefficient that is negative or not finite.
    """
    if not (math.isfinite(cv) and cv >= 0.0):
        raise UserError(f"a coefficient of variation must be a number of at least 0, not {cv}")
    spread = math.sqrt(math.log1p(cv * cv))
    found = []
    for mean in (isl, osl):
        drawn = random.lognormal(math.log(mean) - spread**2 / 2.0, spread, count)
        found.append(np.maximum(np.rint(drawn), 1.0).astype(np.int64))
    return found[0], found[1]


def drawn_lengths(
    random: np.random.Generator, count: int, prompt: Ints, output: Ints
) -> tuple[Ints, Ints]:
    """Draw pairs of lengths from those observed, with replacement."""
    place = random.integers(0, len(prompt), count)
    return prompt[place], output[place]
