"""What is done to a server, and the seconds of an iteration that follow from what it answered.

- A lone prompt: from the request to its first token. Server and tokenizer are part of it.
- A static batch: when all its prompts are done, every stream gets one token per iteration.
- A prompt beside a static batch: the iteration that holds it shows as one long gap between two
  tokens of every other stream. Nothing of the server's own time is in it, which every gap shares.
- A closed loop: so many users, each with one request in flight, until so many were answered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from profilers.engine.client import EngineError, Request, Server, Stream, send, together
from profilers.timing import Seconds

Array = NDArray[np.float64]
_LONE = 7  # lone prompts: the first two warm up
_WARM = 2
_STEADY = 64  # tokens of a static batch in its steady state
_PARTS = 8  # into which they are divided, to see how much the time varies
_BESIDE = 5  # prompts beside one static batch
_APART = 12  # tokens between two of them


@dataclass(frozen=True)
class Seen(Seconds):
    """With the mean context of the decodes while the samples were taken."""

    context: float = 0.0


@dataclass(frozen=True)
class Prompts:
    """Random token ids: no two prompts share a prefix. vocab: ids are drawn from [2, vocab)."""

    vocab: int
    generator: np.random.Generator

    def draw(self, length: int) -> list[int]:
        """One prompt."""
        drawn: list[int] = self.generator.integers(2, self.vocab, length).tolist()
        return drawn


async def lone_prompt(server: Server, prompts: Prompts, length: int) -> Seen:
    """Seconds to the first token of prompts of ``length``, one after the other."""
    taken = []
    for _ in range(_LONE):
        request = await send(server, prompts.draw(length), 1)
        taken.append((await request.stream()).first)
    return Seen(np.array(taken[_WARM:]))


async def _batch(
    server: Server, prompts: Prompts, count: int, length: int, output: int
) -> list[Request]:
    drawn = [prompts.draw(length) for _ in range(count)]
    return await together(*(send(server, prompt, output) for prompt in drawn))


async def _finished(requests: Sequence[Request]) -> list[Stream]:
    return await together(*(request.stream() for request in requests))


def head_start(batch: int, length: int, budget: int) -> int:
    """Tokens that the first of a batch has when the last begins: iterations with its prompts."""
    return math.ceil(batch * length / max(budget - batch, 1)) + 2


async def static_batch(
    server: Server, prompts: Prompts, batch: int, context: int, budget: int
) -> Seen:
    """Seconds per iteration of ``batch`` decodes at a mean context of about ``context`` tokens.

    budget: tokens that the engine takes into one iteration.
    """
    ahead = head_start(batch, context, budget)
    length = max(context - ahead // 2 - _STEADY // 2, 1)
    requests = await _batch(server, prompts, batch, length, ahead + _STEADY)
    return steady(await _finished(requests))


def steady(streams: Sequence[Stream]) -> Seen:
    """Seconds per token while all streams ran, in equal parts of that time.

    Raises
    ------
    EngineError
        The first one ended before the last began.
    """
    begin = max(stream.times[0] for stream in streams)
    end = min(stream.times[-1] for stream in streams)
    if not begin < end:
        raise EngineError("the batch never ran all at once: the first ended before the last began")
    edges = np.linspace(begin, end, _PARTS + 1)
    parts = []
    for low, high in pairwise(edges):
        slopes = [slope for stream in streams if (slope := _slope(stream, low, high)) > 0]
        if slopes:
            parts.append(float(np.median(slopes)))
    middle = (begin + end) / 2
    held = [
        stream.prompt + np.interp(middle, stream.times, stream.tokens.astype(float))
        for stream in streams
    ]
    if not parts:
        raise EngineError("too few tokens to see the steady state")
    return Seen(np.array(parts), float(np.mean(held)))


def _slope(stream: Stream, low: float, high: float) -> float:
    """Seconds per token between the first and last event in [low, high]; 0 where too few."""
    inside = np.flatnonzero((stream.times >= low) & (stream.times <= high))
    if len(inside) < 2:
        return 0.0
    first, last = inside[0], inside[-1]
    tokens = int(stream.tokens[last] - stream.tokens[first])
    return float(stream.times[last] - stream.times[first]) / tokens if tokens else 0.0


async def prompt_beside(
    server: Server, prompts: Prompts, length: int, batch: int, context: int, budget: int
) -> Seen:
    """Seconds of an iteration that holds a prompt of ``length`` and ``batch`` decodes."""
    ahead = head_start(batch, context, budget)
    output = ahead + _BESIDE * 2 * _APART + 2 * _APART
    start = max(context - ahead // 2 - _BESIDE * _APART, 1)
    requests = await _batch(server, prompts, batch, start, output)
    injected: list[tuple[float, float]] = []

    async def beside() -> None:
        for request in requests:
            await request.began
        pause = 0.0
        for _ in range(_BESIDE):
            await asyncio.sleep(pause)
            before = time.perf_counter()
            one = await (await send(server, prompts.draw(length), 1)).stream()
            injected.append((one.start, float(one.times[0])))
            pause = (time.perf_counter() - before) / 2

    streams, _ = await together(_finished(requests), beside())
    return long_gaps(streams, injected)


def long_gaps(streams: Sequence[Stream], injected: Sequence[tuple[float, float]]) -> Seen:
    """Longest gap of the streams while each injected prompt was between request and first token.

    Raises
    ------
    EngineError
        The batch had ended before.
    """
    end = min(stream.times[-1] for stream in streams)
    found, held = [], []
    for asked, answered in injected:
        if answered > end:
            continue
        longest = []
        for stream in streams:
            # The token that ends the long gap comes together with the prompt's first one.
            last = min(int(np.searchsorted(stream.times, answered)) + 1, len(stream.times) - 1)
            first = max(int(np.searchsorted(stream.times, asked)) - 1, 0)
            single = np.diff(stream.tokens[first : last + 1]) == 1
            gaps = np.diff(stream.times[first : last + 1])[single]
            if len(gaps):
                longest.append(float(gaps.max()))
                held.append(stream.prompt + float(stream.tokens[last]))
        if longest:
            found.append(float(np.median(longest)))
    if not found:
        raise EngineError("no prompt was answered while the whole batch ran")
    return Seen(np.array(found), float(np.mean(held)))


@dataclass(frozen=True)
class Load:
    """A closed loop: ``users`` requests in flight; lengths are uniform in [least x L, L]."""

    users: int
    isl: int
    osl: int
    requests: int
    least: float = 1.0


@dataclass(frozen=True)
class Served:
    """Answers of a closed loop, and the seconds from the first request to the last token."""

    streams: tuple[Stream, ...]
    seconds: float


async def closed_loop(server: Server, prompts: Prompts, load: Load) -> Served:
    """Send all requests, ``users`` at a time."""

    def lengths(longest: int) -> list[int]:
        least = max(1, math.ceil(load.least * longest))
        drawn: list[int] = prompts.generator.integers(least, longest + 1, load.requests).tolist()
        return drawn

    left = list(zip(lengths(load.isl), lengths(load.osl), strict=True))[::-1]
    done: list[Stream] = []

    async def user() -> None:
        while left:
            isl, osl = left.pop()
            request = await send(server, prompts.draw(isl), osl)
            done.append(await request.stream())

    await together(*(user() for _ in range(min(load.users, load.requests))))
    begin = min(stream.start for stream in done)
    return Served(tuple(done), max(float(stream.times[-1]) for stream in done) - begin)
