"""Which compositions of an iteration, and which loads, are measured, in order of worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from aiconf.errors import UserError
from profilers.engine.experiments import Load, head_start

# First looks, then what lies between and around them; tokens and sequences.
_PREFILL = ((128, 1024, 4096), (16, 512, 2048, 8192, 64, 256, 1536, 3072, 6144, 16384))
_BATCH = ((1, 8, 64), (32, 128, 256, 2, 4, 16, 512))
_CONTEXT = ((1024, 8192), (256, 4096, 32768, 16384, 65536))
_BESIDE = ((512, 2048), (128, 1024, 4096))  # prompts beside decodes
_BESIDE_BATCH = ((8, 64), (1, 32, 128))
_BESIDE_CONTEXT = 1024
_ROOM = 256  # tokens of a stream besides its context, at most, while it is measured


@dataclass(frozen=True)
class Point:
    """One iteration's composition, or one load.

    seen: ``first`` (a lone prompt's first token) or ``interval`` (between tokens of others).
    """

    prefill: int = 0
    decode: int = 0
    context: int = 0
    load: Load | None = None

    @property
    def seen(self) -> str:
        """How it shows from outside."""
        return "interval" if self.decode else "first"

    @property
    def name(self) -> str:
        """How it is printed and found again."""
        if self.load:
            one = self.load
            shape = f"users={one.users} isl={one.isl} osl={one.osl} requests={one.requests}"
            return f"operating {shape} least={one.least:g}"
        shape = f"prefill={self.prefill} decode={self.decode} context={self.context}"
        return f"iteration seen={self.seen} {shape}"


@dataclass(frozen=True)
class Limits:
    """What the server takes. context: tokens of one request; kv_tokens, sequences: 0: unknown."""

    context: int
    budget: int
    sequences: int
    kv_tokens: int

    def problem(self, point: Point) -> str:
        """Why a point cannot be measured, in a few words; "" when it can."""
        if point.load:
            one = point.load
            return "longer than the context" if one.isl + one.osl > self.context else ""
        ahead = head_start(point.decode, point.context, self.budget) if point.decode else 0
        longest = max(point.context + ahead + _ROOM, point.prefill + 1)
        if longest > self.context:
            return "longer than the context"
        if point.prefill + point.decode > self.budget:
            return "more tokens than one iteration takes"
        if self.sequences and point.decode + bool(point.prefill) > self.sequences:
            return "more sequences than the engine runs"
        if self.kv_tokens and point.decode * longest + point.prefill > self.kv_tokens:
            return "more tokens than the KV cache holds"
        return ""


def points(quick: bool, loads: tuple[Load, ...]) -> Iterator[Point]:
    """All points that are asked for: first looks, loads, then the rest."""
    first, rest = _grid(0), [] if quick else _grid(1)
    yield from first
    for load in loads:
        yield Point(load=load)
    known = set(first)
    yield from (point for point in rest if point not in known)


def _grid(depth: int) -> list[Point]:
    """Compositions of the first ``depth`` + 1 lists of values."""

    def values(lists: tuple[tuple[int, ...], ...]) -> list[int]:
        return [value for part in lists[: depth + 1] for value in part]

    lone = [Point(prefill=length) for length in values(_PREFILL)]
    decodes = [Point(0, b, c) for c, b in product(values(_CONTEXT), values(_BATCH))]
    beside = [
        Point(length, b, _BESIDE_CONTEXT)
        for length, b in product(values(_BESIDE), values(_BESIDE_BATCH))
    ]
    return lone + decodes + beside


def load_of(text: str) -> Load:
    """Read ``USERS:ISL:OSL[:REQUESTS[:LEAST]]``, by default 10 x users requests of fixed lengths.

    Raises
    ------
    UserError
        Anything else.
    """
    parts = text.split(":")
    try:
        users, isl, osl = (int(part) for part in parts[:3])
        requests = int(parts[3]) if len(parts) > 3 else 10 * users
        least = float(parts[4]) if len(parts) > 4 else 1.0
        if len(parts) > 5 or min(users, isl, requests) < 1 or osl < 2 or not 0 < least <= 1:
            raise ValueError
    except ValueError:
        raise UserError(
            f"'{text}' is no load: write USERS:ISL:OSL[:REQUESTS[:LEAST]], such as 16:1024:256"
        ) from None
    return Load(users, isl, osl, requests, least)
