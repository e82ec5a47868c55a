"""Speculative decoding: drafts that a small model proposes and the whole model verifies.

Each iteration verifies ``drafts`` tokens behind the last accepted one, for every sequence. The
verified ones up to the first miss are kept, and one more token of the model itself
(Leviathan et al., arXiv 2211.17192).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiconf.errors import UserError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_DRAFTS = 64  # no engine verifies more in a chain
_DRAWS = 1 << 20  # of one block: 8 MiB


@dataclass(frozen=True)
class Speculation:
    """Drafts per iteration and how likely they are kept.

    acceptance: probability that the first draft is kept. decay: factor on that probability with
    each further draft (draft i is kept with acceptance x decay^(i - 1) when those before it
    were): a draft layer that reads its own drafts misses more often.
    """

    drafts: int
    acceptance: float
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.drafts <= _MOST_DRAFTS:
            raise UserError(
                f"speculative decoding takes 1 to {_MOST_DRAFTS} drafts, not {self.drafts}"
            )
        if not (0.0 <= self.acceptance <= 1.0 and 0.0 <= self.decay <= 1.0):
            raise UserError(
                f"acceptance {self.acceptance} and decay {self.decay} must be between 0 and 1"
            )

    def scaled(self, factor: float) -> Speculation:
        """The same with ``factor`` on the acceptance, which stays a probability."""
        return replace(self, acceptance=min(self.acceptance * factor, 1.0))

    @property
    def verified(self) -> int:
        """Tokens of each sequence that an iteration computes."""
        return self.drafts + 1

    @property
    def kept(self) -> Array:
        """Probability that at least i drafts are kept, i from 0 to ``drafts``."""
        each = self.acceptance * self.decay ** np.arange(self.drafts)
        return np.concatenate([[1.0], np.cumprod(each)])

    @property
    def expected(self) -> float:
        """Mean tokens that a sequence gains per iteration."""
        return float(self.kept.sum())

    @property
    def variance(self) -> float:
        """Variance of the tokens that a sequence gains per iteration."""
        kept = self.kept
        square = float((kept * (2.0 * np.arange(len(kept)) + 1.0)).sum())
        return square - self.expected**2

    def rounds(self, tokens: float) -> float:
        """Return the mean iterations that a request needs for ``tokens`` more tokens.

        What the last one gains beyond the end is lost: (E[x^2] - E[x]) / (2 E[x]) tokens of a gain
        x per iteration, the mean overshoot of a renewal process in whole steps.
        """
        if tokens <= 0:
            return 0.0
        mean = self.expected
        lost = (self.variance + mean**2 - mean) / (2.0 * mean)
        return max((tokens + lost) / mean, 1.0)

    def iterations(self, random: np.random.Generator, tokens: Ints) -> Ints:
        """Draw how many iterations each request needs for ``tokens`` more tokens."""
        found = np.zeros(len(tokens), dtype=np.int64)
        if not len(tokens):
            return found
        rows = max(1, _DRAWS // self._columns(int(tokens.max())))
        order = np.argsort(tokens, kind="stable")
        for start in range(0, len(order), rows):
            block = order[start : start + rows]
            uniform = random.random((len(block), self._columns(int(tokens[block[-1]]))))
            gained = np.ones(uniform.shape, dtype=np.int64)
            for share in self.kept[1:]:
                gained += uniform < share
            reached = np.cumsum(gained, axis=1) >= tokens[block][:, None]
            reached[:, -1] = True
            found[block] = np.where(tokens[block] > 0, np.argmax(reached, axis=1) + 1, 0)
        return found

    def _columns(self, tokens: int) -> int:
        """Draws that suffice for ``tokens``: eight deviations above the mean."""
        mean = self.expected
        deviation = (tokens * max(self.variance, 0.0) / mean**3) ** 0.5
        return min(max(tokens, 1), int(tokens / mean + 8.0 * deviation) + 8)


def acceptance_of(length: float, drafts: int, decay: float = 1.0) -> float:
    """Return the acceptance with which an iteration gains ``length`` tokens on average.

    Raises
    ------
    UserError
        For a length that ``drafts`` drafts cannot give.
    """
    if not 1.0 <= length <= Speculation(drafts, 1.0, decay).expected:
        raise UserError(f"an acceptance length of {length:g} is impossible with {drafts} drafts")
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        if Speculation(drafts, middle, decay).expected < length:
            low = middle
        else:
            high = middle
    return high
