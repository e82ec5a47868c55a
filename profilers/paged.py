"""Batches of requests and the paged KV caches they attend to, as engines lay them out.

Pages hold 16 tokens, vLLM's ``CacheConfig.DEFAULT_BLOCK_SIZE`` (vllm/config/cache.py, 0.24.0), and
lie scattered over the cache. Pages that a sliding window has left are freed: they are page 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.source import Source

PAGE = 16  # tokens


@dataclass(frozen=True)
class Requests:
    """New tokens of every request, and tokens that it has in the cache, new ones included."""

    new: tuple[int, ...]
    seen: tuple[int, ...]

    @classmethod
    def alike(cls, batch: int, new: int, past: int) -> Requests:
        """``batch`` requests of ``new`` tokens behind ``past`` cached ones."""
        return cls((new,) * batch, (past + new,) * batch)

    @classmethod
    def ragged(cls, batch: int, new: int, past: int) -> Requests:
        """Lengths evenly spread from a half to three halves of ``new`` and of ``past``.

        Long prompts are not those with a long past; one new token stays one.
        """
        some = _spread(new, batch) if new > 1 else (1,) * batch
        some = some[batch // 2 :] + some[: batch // 2]
        return cls(some, tuple(n + p for n, p in zip(some, _spread(past, batch), strict=True)))

    @property
    def tokens(self) -> int:
        """New tokens of all."""
        return sum(self.new)

    def first(self, request: int, window: int) -> int:
        """The first cached token that a new token of a request sees."""
        past = self.seen[request] - self.new[request]
        return max(past - window + 1, 0) if window else 0

    def keys(self, window: int) -> int:
        """Cached tokens of all requests that are seen at least once."""
        return sum(seen - self.first(i, window) for i, seen in enumerate(self.seen))

    def pairs(self, window: int) -> int:
        """Pairs of a new token and a token that it sees, causal."""
        lengths = Counter(zip(self.new, self.seen, strict=True))
        return sum(n * _pairs(new, seen, window or seen) for (new, seen), n in lengths.items())


def _pairs(new: int, seen: int, window: int) -> int:
    """Sum of min(t, window) over t = seen - new + 1 ... seen."""

    def below(t: int) -> int:
        whole = min(t, window)
        return whole * (whole + 1) // 2 + (t - whole) * window

    return below(seen) - below(seen - new)


def _spread(mean: int, count: int) -> tuple[int, ...]:
    return tuple(round(mean * (0.5 + (i + 0.5) / count)) for i in range(count))


@dataclass(frozen=True)
class Pages:
    """Where the tokens of a batch lie in a cache of ``count`` pages, as kernels take it.

    table [batch, most pages] int32; starts [batch + 1] int32: where the new tokens of a request
    begin among all; lengths [batch] int32: cached tokens; slots [new tokens] int64: where each
    new token lies in the cache.
    """

    requests: Requests
    page: int  # tokens
    count: int
    table: Tensor
    starts: Tensor
    lengths: Tensor
    slots: Tensor


def pages(source: Source, requests: Requests, window: int = 0, page: int = PAGE) -> Pages:
    """Scatter the tokens that are seen over pages; page 0 belongs to no request."""
    import torch

    device, batch = source.device, len(requests.new)
    new, lengths = (
        torch.tensor(some, dtype=torch.int32, device=device)
        for some in (requests.new, requests.seen)
    )
    first = torch.tensor([requests.first(i, window) // page for i in range(batch)], device=device)
    columns = -(-max(requests.seen) // page)
    column = torch.arange(columns, device=device)
    held = (column >= first[:, None]) & (column * page < lengths[:, None])
    count = int(held.sum())
    table = torch.zeros((batch, columns), dtype=torch.int32, device=device)
    order = torch.randperm(count, generator=source.generator, device=device)
    table[held] = (order + 1).to(torch.int32)
    starts = torch.zeros(batch + 1, dtype=torch.int32, device=device)
    starts[1:] = new.cumsum(0)
    owner = torch.arange(batch, device=device).repeat_interleave(new)
    inside = torch.arange(requests.tokens, device=device) - starts[owner]
    at = (lengths - new)[owner] + inside
    slots = table[owner, at // page].long() * page + at % page
    return Pages(requests, page, count + 1, table, starts, lengths, slots)


def seen_by(found: Pages, token: int, window: int) -> Tensor:
    """Slots of the cached tokens that a new token sees, in order."""
    import torch

    ends = list(accumulate(found.requests.new))
    request = bisect_right(ends, token)
    at = found.requests.seen[request] - (ends[request] - token)
    begin = max(at - window + 1, 0) if window else 0
    place = torch.arange(begin, at + 1, device=found.table.device)
    return found.table[request, place // found.page].long() * found.page + place % found.page
