"""A decode worker of a disaggregated deployment: requests join with their cache, and leave.

Its attention ranks run in step and share the requests evenly. Between two joins or ends the
batch does not change, so the clock jumps (see ``engine``).
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from aiconf.simulate.spans import Row
from aiconf.simulate.timer import IterationTimer


class DecodeWorker:
    """Running batch of one worker, advanced lazily to the times it is asked about.

    ranks: attention ranks. max_sequences, kv_tokens: of the whole worker. name: of the worker
    in ``rows``.
    """

    def __init__(
        self,
        timer: IterationTimer,
        ranks: int,
        max_sequences: int,
        kv_tokens: float,
        name: int = 0,
    ) -> None:
        self._name = name
        self._timer, self._ranks = timer, ranks
        self._most, self._room = max_sequences, kv_tokens
        # (request, prompt, output left, iterations that takes)
        self.waiting: deque[tuple[int, int, int, int]] = deque()
        self._gain = 0.0  # tokens that the sequences gain per iteration, on average
        self.running = 0
        self._kv = 0.0
        self._booked = 0  # tokens of cache promised to running requests
        # (step of the end, request, tokens held, tokens gained per iteration)
        self._ends: list[tuple[int, int, int, float]] = []
        self._step = 0
        self._now = 0.0
        self._taken: list[tuple[float, int]] = []
        self._peak = 0.0
        self.seconds = 0.0
        self._rows: list[Row] = []
        self._joined = 0  # since the last row

    @property
    def load(self) -> int:
        """Requests running and waiting."""
        return self.running + len(self.waiting)

    def join(self, when: float, request: int, prompt: int, left: int, steps: int) -> None:
        """A request's cache has arrived; it decodes when there is room.

        left: tokens that it still produces, in ``steps`` iterations.
        """
        if not self.running:
            self._now = max(self._now, when)
        self.waiting.append((request, prompt, left, steps))
        self._admit()

    def advance(self, until: float) -> list[tuple[float, int]]:
        """Run whole iterations up to the first end, but none that begins at ``until`` or later.

        Returns the requests that ended, with when; empty when ``until`` came first.
        """
        if not self.running or self._now >= until:
            return []
        steps = self._ends[0][0] - self._step
        rows = -(-self.running // self._ranks)
        context, grown = self._kv / self.running, self._gain / self.running / 2.0
        each = self._timer.decode(rows, context + (steps - 1) * grown, self.running)
        if self._now + each * (steps - 1) >= until:
            each = self._timer.decode(rows, context, self.running)
            steps = max(1, min(steps, int((until - self._now) / each) + 1))
            each = self._timer.decode(rows, context + (steps - 1) * grown, self.running)
        self._now += each * steps
        self.seconds += each * steps
        self._step += steps
        self._kv += steps * self._gain
        self._peak = max(self._peak, self._kv)
        running = self.running
        ended = []
        while self._ends and self._ends[0][0] <= self._step:
            _, request, held, gain = heappop(self._ends)
            self.running -= 1
            self._gain = self._gain - gain if self.running else 0.0
            self._kv -= held
            self._booked -= held
            ended.append((self._now, request))
        self._rows.append(
            (
                self._now, steps, each * steps, 0, rows, running, self._joined, 0.0,
                len(self.waiting), self._kv, self._name,
            )
        )  # fmt: skip
        self._joined = 0
        if ended:
            self._admit()
        return ended

    @property
    def rows(self) -> list[Row]:
        """What it has done (see ``spans``)."""
        return self._rows

    def taken_over(self) -> list[tuple[float, int]]:
        """Requests that began to decode since the last call, with when."""
        taken, self._taken = self._taken, []
        return taken

    @property
    def peak_kv(self) -> float:
        """Most of the cache in use so far, 0 to 1."""
        return self._peak / self._room

    def next_end(self) -> float:
        """When the first of the running requests will end if nothing joins."""
        if not self.running:
            return float("inf")
        steps = self._ends[0][0] - self._step
        rows = -(-self.running // self._ranks)
        context = (self._kv + (steps - 1) * self._gain / 2.0) / self.running
        return self._now + steps * self._timer.decode(rows, context, self.running)

    def _admit(self) -> None:
        while self.waiting and self.running < self._most:
            request, prompt, left, steps = self.waiting[0]
            # The cache is reserved for the whole output, so that nothing is ever thrown out.
            held = prompt + left
            if self.running and self._booked + held > self._room:
                break
            self._booked += held
            self.waiting.popleft()
            self.running += 1
            self._kv += prompt
            self._taken.append((self._now, request))
            self._joined += 1
            self._gain += left / steps
            heappush(self._ends, (self._step + steps, request, held, left / steps))
