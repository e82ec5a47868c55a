"""Replay of a disaggregated deployment: prefill workers, KV transfer, decode workers.

A request goes to the prefill worker with the shortest queue; when its prompt is done its cache
travels to the decode worker with the fewest requests (the least-loaded routing that both
Dynamo's router and SGLang's load balancer approximate), waits there for room, and decodes. The
client sees the first token when the decode worker has taken over (the prefill worker produced
it; it is sent with the decode worker's first iteration).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from aiconf.engine.speculation import Speculation
from aiconf.errors import UserError
from aiconf.simulate.decode import DecodeWorker
from aiconf.simulate.intake import Intake, IntakeCost
from aiconf.simulate.requests import Load, Replay
from aiconf.simulate.spans import Row, Spans
from aiconf.simulate.timer import IterationTimer


@dataclass(frozen=True)
class PrefillSide:
    """Prefill workers: timer of one, how many, attention ranks, tokens of an iteration of a rank.

    pipeline: stages; prompts behind each other overlap in them. most: prompts of a rank.
    """

    timer: IterationTimer
    workers: int
    ranks: int
    token_budget: int
    pipeline: int = 1
    most: int = 1 << 20


@dataclass(frozen=True)
class DecodeSide:
    """Decode workers: timer of one, how many, attention ranks, limits of one whole worker."""

    timer: IterationTimer
    workers: int
    ranks: int
    max_sequences: int
    kv_tokens: float


_FREE, _PREFILLED, _CACHE_ARRIVED, _DECODE_ENDS = range(4)


class DisaggregatedReplay:
    """One idle deployment: ``run`` replays one load.

    transfer: seconds of KV transfer per prompt token, ``latency`` of each transfer. delay: as
    in ``engine.Limits``. speculation, seed: as in ``engine.EngineReplay``.
    """

    def __init__(
        self,
        prefill: PrefillSide,
        decode: DecodeSide,
        *,
        transfer: float,
        latency: float,
        intake: IntakeCost,
        speculation: Speculation | None = None,
        seed: int = 0,
    ) -> None:
        self._prefill, self._transfer, self._latency = prefill, transfer, latency
        self._intake, self._speculation, self._seed = Intake(intake), speculation, seed
        self._queues: list[deque[int]] = [deque() for _ in range(prefill.workers)]
        self._free = [True] * prefill.workers
        self._decoders = [
            DecodeWorker(
                decode.timer, decode.ranks, decode.max_sequences, decode.kv_tokens,
                prefill.workers + place,
            )
            for place in range(decode.workers)
        ]  # fmt: skip
        self._versions = [0] * decode.workers
        self._events: list[tuple[float, int, int, int, tuple[int, ...]]] = []
        self._sequence = self._next = self._finished = 0
        self._closed = False
        self._images = 0  # of each request
        self._prompt: list[int] = []
        self._output: list[int] = []
        self._need: list[int] = []  # decode iterations of each request
        self._sent: list[float] = []
        self._first: list[float] = []
        self._last: list[float] = []
        self._started: list[float] = []
        self._rows: list[Row] = []
        self._kv_tokens = decode.workers * decode.kv_tokens
        self._prefill_seconds = 0.0

    def run(self, load: Load) -> Replay:
        """Replay ``load`` from an idle deployment.

        Raises
        ------
        UserError
            When a request is longer than the cache of a decode worker.
        """
        count = len(load)
        longest = int((load.prompt + load.output).max())
        if longest > self._kv_tokens / len(self._decoders):
            raise UserError(
                f"a request of {longest} tokens exceeds the KV cache of a decode worker, "
                f"{self._kv_tokens / len(self._decoders):.0f} tokens"
            )
        self._images = load.images.count if load.images else 0
        self._prompt, self._output = load.prompt.tolist(), load.output.tolist()
        after = load.output - 1
        if self._speculation is not None:
            after = self._speculation.iterations(np.random.default_rng(self._seed), after)
        self._need = after.tolist()
        self._sent, self._first, self._last = [0.0] * count, [0.0] * count, [0.0] * count
        self._started = [0.0] * count
        self._closed = load.arrival is None
        if load.arrival is None:
            self._next = min(load.users, count)
            self._intake.wave(0.0, range(self._next), self._prompt[: self._next])
        else:
            self._next = self._intake.first(load.arrival, self._prompt)
            self._sent[: self._next] = load.arrival[: self._next].tolist()
            for when in load.arrival[self._next :].tolist():
                self._send(when)
        handlers = (self._on_free, self._on_prefilled, self._on_cache, self._on_decode_end)
        while self._finished < count:
            arrives = self._intake.next()
            if not self._events or arrives <= self._events[0][0]:
                self._on_arrival(arrives, self._intake.take())
            else:
                now, _, kind, who, what = heappop(self._events)
                handlers[kind](now, who, what)
        return Replay(
            sent=np.array(self._sent),
            first=np.array(self._first),
            last=np.array(self._last),
            output=load.output,
            prompt=load.prompt,
            busy=(self._prefill_seconds, sum(w.seconds for w in self._decoders)),
            iterations=self._sequence,
            preempted=0,
            peak_kv=max(worker.peak_kv for worker in self._decoders),
            started=np.array(self._started),
            spans=Spans.of(self._rows + [row for w in self._decoders for row in w.rows]),
            kv_tokens=self._kv_tokens,
            warmup=load.warmup,
        )

    def _send(self, when: float) -> None:
        self._sent[self._next] = when
        self._intake.enter(when, self._next, self._prompt[self._next])
        self._next += 1

    def _push(self, when: float, kind: int, who: int, *what: int) -> None:
        self._sequence += 1
        heappush(self._events, (when, self._sequence, kind, who, what))

    def _on_arrival(self, now: float, request: int) -> None:
        """To the prefill worker with the fewest requests."""
        queues = self._queues
        who = min(range(len(queues)), key=lambda w: len(queues[w]) + (not self._free[w]))
        queues[who].append(request)
        self._start_prefill(now, who)

    def _start_prefill(self, now: float, who: int) -> None:
        """The next batch of a free prefill worker: as many prompts as its budget takes."""
        queue, side = self._queues[who], self._prefill
        if not self._free[who] or not queue:
            return
        chosen, dealt = self._dealt(queue)
        busiest = max(dealt, key=sum)
        seconds = self._prompt_seconds(busiest, sum(1 for prompts in dealt if prompts))
        self._prefill_seconds += seconds
        self._free[who] = False
        for request in chosen:
            self._started[request] = now
        self._rows.append(
            (now + seconds, 1, seconds, sum(busiest), 0, 0, 0, 0.0, len(queue), 0.0, who)
        )
        # The first stage of a pipeline is free before the last has finished.
        self._push(now + seconds / side.pipeline, _FREE, who)
        self._push(now + seconds, _PREFILLED, who, *chosen)

    def _dealt(self, queue: deque[int]) -> tuple[list[int], list[list[int]]]:
        """Take requests from the queue; return them and the prompt lengths of each rank.

        In the order of arrival, each to the rank with the fewest tokens, as long as its
        iteration holds them whole; a prompt longer than an iteration takes several alone.
        """
        side = self._prefill
        dealt: list[list[int]] = [[] for _ in range(side.ranks)]
        tokens, chosen = [0] * side.ranks, []
        while queue:
            rank = min(range(side.ranks), key=tokens.__getitem__)
            length = self._prompt[queue[0]]
            if dealt[rank] and (
                tokens[rank] + length > side.token_budget or len(dealt[rank]) >= side.most
            ):
                break
            dealt[rank].append(length)
            tokens[rank] += length
            chosen.append(queue.popleft())
        return chosen, dealt

    def _prompt_seconds(self, mine: list[int], ranks: int) -> float:
        """Iterations that compute the prompts ``mine`` of the busiest of ``ranks``."""
        side, timer = self._prefill, self._prefill.timer
        total, rounds = 0.0, 0
        left, past = sum(mine), 0
        images, shown = self._images * len(mine), 0
        while left > 0:
            chunk = min(left, side.token_budget)
            if len(mine) == 1:
                attention = timer.prompt_attention(chunk, past)
            else:
                share = chunk / sum(mine)
                attention = share * sum(timer.prompt_attention(prompt, 0) for prompt in mine)
            seconds = timer.mixed(chunk, chunk * ranks, 0, 0.0, attention, len(mine))
            if images:
                fresh = -(-images * (past + chunk) // sum(mine)) - shown
                seconds, shown = seconds + timer.encode(fresh), shown + fresh
            # Chunks behind the first overlap with it in the stages of a pipeline.
            total += seconds if rounds == 0 else seconds / side.pipeline
            past, left, rounds = past + chunk, left - chunk, rounds + 1
        return total

    def _on_free(self, now: float, who: int, _what: tuple[int, ...]) -> None:
        self._free[who] = True
        self._start_prefill(now, who)

    def _on_prefilled(self, now: float, _who: int, what: tuple[int, ...]) -> None:
        """Prompts are done; their caches set out, each over links of its own."""
        for request in what:
            if self._output[request] == 1:
                self._first[request] = now
                self._end(now, request)
            else:
                arrives = now + self._latency + self._transfer * self._prompt[request]
                self._push(arrives, _CACHE_ARRIVED, 0, request)

    def _on_cache(self, now: float, _who: int, what: tuple[int, ...]) -> None:
        """To the decode worker with the fewest requests."""
        who = min(range(len(self._decoders)), key=lambda w: self._decoders[w].load)
        worker = self._decoders[who]
        ended = worker.advance(now)
        request = what[0]
        left = self._output[request] - 1
        worker.join(now, request, self._prompt[request], left, self._need[request])
        self._after(who, ended)

    def _on_decode_end(self, _now: float, who: int, what: tuple[int, ...]) -> None:
        if what[0] == self._versions[who]:  # else something has joined since
            self._after(who, self._decoders[who].advance(float("inf")))

    def _after(self, who: int, ended: list[tuple[float, int]]) -> None:
        """Book what ended and began on a decode worker, and schedule its next end."""
        worker = self._decoders[who]
        for when, request in worker.taken_over():
            self._first[request] = when
        for when, request in ended:
            self._end(when, request)
        self._versions[who] += 1
        if worker.running:
            self._push(worker.next_end(), _DECODE_ENDS, who, self._versions[who])

    def _end(self, now: float, request: int) -> None:
        self._last[request] = now
        self._finished += 1
        if self._closed and self._next < len(self._prompt):
            self._send(now)
