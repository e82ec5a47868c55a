"""Replay of one engine: its scheduler, iteration by iteration, on predicted times.

Ported in behaviour, not in code, from vllm/v1/core/sched/scheduler.py (0.24), sglang
managers/scheduler.py (0.5.14) and TensorRT-LLM pyexecutor (1.3.0rc20). Differences on purpose:
the KV cache is counted in tokens (half a block lost per sequence), not in block tables; a
preempted request is always recomputed; all attention ranks run in step.

Between two events (arrival, end of a prompt, end of a request, full cache) the decoding batch
does not change and its iteration time is linear in the context, so the clock jumps over all of
its iterations at once: k iterations take k times the middle one.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from aiconf.engine.speculation import Speculation
from aiconf.errors import UserError
from aiconf.simulate.balance import Balance
from aiconf.simulate.intake import Intake
from aiconf.simulate.limits import Limits
from aiconf.simulate.rank import Rank
from aiconf.simulate.requests import Load, Replay
from aiconf.simulate.spans import Row, Spans
from aiconf.simulate.timer import IterationTimer


class EngineReplay:
    """One idle worker: ``run`` replays one load and returns what each request saw.

    speculation: drafts that decode iterations verify (None: none); how many iterations each
    request needs is drawn with ``seed``.
    """

    def __init__(
        self,
        timer: IterationTimer,
        limits: Limits,
        ranks: int = 1,
        speculation: Speculation | None = None,
        seed: int = 0,
    ) -> None:
        self._timer, self._limits = timer, limits
        self._speculation, self._seed = speculation, seed
        self._verified = speculation.verified if speculation else 1
        # Drafts that are not kept take room in the cache until they are found out.
        self._lost = limits.lost + self._verified - 1
        self._ranks = [Rank(limits.reserve.running) for _ in range(ranks)]
        self._prompt: list[int] = []
        self._left: list[int] = []  # output tokens still to come
        self._need: list[int] = []  # decode iterations that those after the first take
        self._done: list[int] = []  # prompt tokens computed
        self._sent: list[float] = []
        self._first: list[float] = []
        self._last: list[float] = []
        self._intake = Intake(limits.intake)
        self._balance = Balance(limits.balance_wait, limits.balance_more, limits.max_sequences)
        self._started: list[float] = []
        self._rows: list[Row] = []
        self._joined, self._joined_at = 0, 0.0  # first tokens since a decode, sum of their times
        self._closed = False
        self._next = 0  # next request to be sent in a closed loop
        self._now = 0.0
        self._step = self._finished = self._iterations = self._preempted = 0
        self._kept = 0  # preempted before this iteration
        self._peak = self._prompt_seconds = self._decode_seconds = 0.0

    def run(self, load: Load) -> Replay:
        """Replay ``load`` from an idle engine.

        Raises
        ------
        UserError
            When a request is longer than the cache holds.
        """
        longest = float((load.prompt + load.output).max()) + self._lost
        if longest > self._limits.kv_tokens:
            raise UserError(
                f"a request of {longest:.0f} tokens exceeds the KV cache of "
                f"{self._limits.kv_tokens:.0f} tokens"
            )
        self._start(load)
        while self._finished < len(load):
            self._admit_arrivals()
            if self._prompt_work():
                continue
            if any(rank.running for rank in self._ranks):
                self._decode()
            elif self._intake.next() < float("inf"):
                self._now = max(self._now, self._intake.next())
            else:
                raise RuntimeError("requests wait that the cache can never hold")
        sent, first, last = (np.array(one) for one in (self._sent, self._first, self._last))
        return Replay(
            sent=sent, first=first, last=last, output=load.output, prompt=load.prompt,
            busy=(self._prompt_seconds, self._decode_seconds),
            iterations=self._iterations,
            preempted=self._preempted,
            peak_kv=self._peak / self._limits.kv_tokens,
            started=np.array(self._started),
            spans=Spans.of(self._rows),
            kv_tokens=self._limits.kv_tokens * len(self._ranks),
            warmup=load.warmup,
        )  # fmt: skip

    def _start(self, load: Load) -> None:
        count, self._images = len(load), load.images
        self._prompt, self._left = load.prompt.tolist(), load.output.tolist()
        self._output = load.output.tolist()
        after = load.output - 1
        if self._speculation is not None:
            after = self._speculation.iterations(np.random.default_rng(self._seed), after)
        self._need = after.tolist()
        self._done = [0] * count
        self._sent, self._first, self._last = [0.0] * count, [-1.0] * count, [0.0] * count
        self._started = [-1.0] * count
        self._closed = load.arrival is None
        if load.arrival is None:
            self._next = min(load.users, count)
            self._intake.wave(0.0, range(self._next), self._prompt[: self._next])
        else:
            self._next = self._intake.first(load.arrival, self._prompt)
            self._sent[: self._next] = load.arrival[: self._next].tolist()
            for when in load.arrival[self._next :].tolist():
                self._send(when)

    def _send(self, when: float) -> None:
        """The next request leaves its client."""
        request = self._next
        self._next += 1
        self._sent[request] = when
        self._intake.enter(when, request, self._prompt[request])

    def _admit_arrivals(self) -> None:
        """Queue what has arrived at the rank with the fewest requests."""
        intake, ranks = self._intake, self._ranks
        while intake.next() <= self._now:
            request = intake.take()
            if len(ranks) == 1:
                ranks[0].waiting.append(request)
                continue
            least = min(ranks, key=lambda r: r.running + len(r.waiting) + len(r.prefill))
            least.waiting.append(request)

    def _fits(self, rank: Rank, request: int) -> bool:
        limits = self._limits
        if rank.running + len(rank.prefill) >= limits.max_sequences:
            return False
        held = rank.kv + rank.booked + rank.share * rank.coming
        held += (rank.running + len(rank.prefill) + 1) * self._lost
        return held + self._promise(request) <= limits.kv_tokens

    def _promise(self, request: int) -> float:
        """Tokens of cache that a request is promised when it is admitted."""
        return self._prompt[request] + self._limits.reserve.of_new(self._left[request])

    def _prompt_work(self) -> bool:
        """Run one iteration with prompt tokens, if any rank has some; tell whether it did."""
        timer, limits, verified = self._timer, self._limits, self._verified
        self._kept = self._preempted
        if len(self._ranks) > 1 and self._balance.holds(self._ranks):
            return False
        busiest, everywhere, attention, sampled, images = 0, 0, 0.0, 0, 0
        decode, context = 0, 0.0
        finished: list[tuple[Rank, int]] = []
        worked = False
        for rank in self._ranks:
            before = self._preempted
            if limits.mixed and rank.running:
                self._make_room(rank)
            chunks = self._chunks(rank, admit=self._preempted == before)
            beside = rank.running if limits.mixed else 0
            tokens = beside * verified
            own, shown = 0.0, 0
            for request, chunk in chunks:
                own += timer.prompt_attention(chunk, self._done[request])
                shown += self._images.encoded(self._done[request], chunk) if self._images else 0
                self._done[request] += chunk
                rank.kv += chunk
                rank.booked -= chunk
                tokens += chunk
                if self._done[request] == self._prompt[request]:
                    finished.append((rank, request))
            if chunks:
                worked = True
                own -= (len(chunks) - 1) * timer.prompt_floor
            busiest = max(busiest, tokens)
            everywhere += tokens
            attention, images = max(attention, own), max(images, shown)
            sampled = max(sampled, beside * verified + len(chunks))
            if beside > decode:
                decode, context = beside, rank.kv / beside
        if not worked:
            return False
        seconds = timer.mixed(busiest, everywhere, decode, context, attention, sampled)
        seconds += timer.encode(images) if images else 0.0
        seconds *= 1.0 if finished or decode else limits.chunk_share
        self._now += seconds
        self._prompt_seconds += seconds
        self._iterations += 1
        running = sum(rank.running for rank in self._ranks) if limits.mixed else 0
        if limits.mixed and decode:
            self._advance(1)
        fresh = self._fresh(self._now - seconds) if decode else (0, 0.0)
        for rank, request in finished:
            self._first_token(rank, request)
        self._note(1, seconds, max(busiest - decode * verified, 0), decode, running, fresh)
        return True

    def _fresh(self, begin: float) -> tuple[int, float]:
        """Sequences that joined since the last decode iteration, and how long they waited."""
        joined, waited = self._joined, self._joined * begin - self._joined_at
        self._joined, self._joined_at = 0, 0.0
        return joined, waited

    def _note(
        self, iterations: int, seconds: float, prompt: int, decoding: int, running: int,
        fresh: tuple[int, float],
    ) -> None:  # fmt: skip
        """Write down a stretch of iterations that has just ended."""
        waiting, kv = 0, 0.0
        for rank in self._ranks:
            waiting += len(rank.waiting) + len(rank.prefill)
            kv += rank.kv
        self._rows.append((
            self._now, iterations, seconds, prompt, decoding, running, *fresh, waiting, kv, 0,
        ))  # fmt: skip

    def _chunks(self, rank: Rank, admit: bool) -> list[tuple[int, int]]:
        """Prompt chunks of the next iteration: those under way first, then admitted ones."""
        limits = self._limits
        budget = limits.token_budget - (rank.running * self._verified if limits.mixed else 0)
        chunks = []
        for request in rank.prefill:
            chunk = min(self._prompt[request] - self._done[request], budget)
            if chunk > 0:
                chunks.append((request, chunk))
                budget -= chunk
        waiting = rank.waiting
        while admit and waiting and budget > 0 and not rank.full:
            if not self._fits(rank, waiting[0]):
                rank.full = True  # until a request leaves
                break
            left = self._prompt[waiting[0]]
            if left > budget and not limits.chunked and chunks:
                break
            request = waiting.popleft()
            if self._started[request] < 0:
                self._started[request] = self._now
            rank.prefill.append(request)
            rank.booked += self._promise(request)
            chunk = min(left, budget)
            chunks.append((request, chunk))
            budget -= chunk
        return chunks

    def _first_token(self, rank: Rank, request: int) -> None:
        rank.prefill.remove(request)
        if self._first[request] < 0:
            self._first[request] = self._now
        rank.booked -= self._limits.reserve.of_new(self._left[request])
        self._left[request] -= 1  # this token is computed; its cache entry comes next
        if self._left[request] == 0:
            self._end(rank, request, float(self._prompt[request]))
            return
        rank.order += 1
        rank.running += 1
        self._joined += 1
        self._joined_at += self._now
        rank.gain += self._left[request] / self._need[request]
        rank.coming += self._left[request]
        heappush(rank.ends, (self._step + self._need[request], rank.order, request))

    def _end(self, rank: Rank, request: int, held: float) -> None:
        rank.kv -= held
        rank.full = False
        self._last[request] = self._now
        self._finished += 1
        if self._closed and self._next < len(self._prompt):
            self._send(self._now)

    def _advance(self, steps: int) -> None:
        """Every running sequence decodes ``steps`` times; those at their end leave."""
        self._step += steps
        reserve = self._limits.reserve
        for rank in self._ranks:
            rank.kv += steps * rank.gain
            rank.coming -= steps * rank.gain
            if rank.running:
                rank.share = max(reserve.least, rank.share - steps * reserve.decay)
            self._peak = max(self._peak, rank.kv)
            while rank.ends and rank.ends[0][0] <= self._step:
                _, _, request = heappop(rank.ends)
                self._leave(rank, request)
                self._end(rank, request, float(self._prompt[request] + self._left[request]))

    def _leave(self, rank: Rank, request: int) -> None:
        """A sequence decodes no longer."""
        rank.running -= 1
        rank.gain -= self._left[request] / self._need[request]
        if not rank.running:
            rank.gain = rank.coming = 0.0  # without the rounding of many sums
            if not rank.prefill:
                rank.share = self._limits.reserve.running

    def _decode(self) -> None:
        """Run decode iterations up to the next event."""
        steps = min(self._steps_to_event(), self._balance.most_steps(self._ranks))
        busiest = max(self._ranks, key=lambda rank: rank.running)
        everywhere = sum(rank.running for rank in self._ranks)
        context = busiest.kv / busiest.running
        if not self._limits.jump:
            steps = 1
        grown = busiest.gain / busiest.running / 2.0
        each = self._timer.decode(busiest.running, context + (steps - 1) * grown, everywhere)
        arrives = self._intake.next()
        if steps > 1 and arrives < self._now + each * (steps - 1):
            steps = max(1, min(steps, int((arrives - self._now) / each) + 1))
            each = self._timer.decode(busiest.running, context + (steps - 1) * grown, everywhere)
        self._now += each * steps
        self._decode_seconds += each * steps
        self._iterations += steps
        self._balance.passed(self._ranks, steps)
        decoding, fresh = busiest.running, self._fresh(self._now - each * steps)
        self._advance(steps)
        self._note(steps, each * steps, 0, decoding, everywhere, fresh)

    def _steps_to_event(self) -> int:
        """Iterations until the first end, or until a cache is full (then one leaves it)."""
        steps = 1 << 60
        for rank in self._ranks:
            if not rank.running:
                continue
            room = self._make_room(rank)
            steps = min(steps, rank.ends[0][0] - self._step, max(int(room / rank.gain), 1))
        # What has left may fit again after the next iteration.
        return max(steps, 1) if self._preempted == self._kept else 1

    def _make_room(self, rank: Rank) -> float:
        """Tokens of cache that decoding may take: where an iteration's do not fit, some leave.

        The last admitted go first: prompts under way, then decoding sequences but one.
        """
        while True:
            coming = sum(self._prompt[one] - self._done[one] for one in rank.prefill)
            sequences = rank.running + len(rank.prefill)
            room = self._limits.kv_tokens - rank.kv - coming - sequences * self._lost
            if room >= rank.gain:
                return room
            if rank.prefill and rank.running:
                self._postpone(rank)
            elif rank.running > 1:
                self._preempt(rank)
            else:
                return room

    def _postpone(self, rank: Rank) -> None:
        """The prompt admitted last gives up its cache and waits again."""
        request = rank.prefill.pop()
        rank.full = False
        rank.kv -= self._done[request]
        rank.booked -= self._promise(request) - self._done[request]
        self._done[request] = 0
        rank.waiting.appendleft(request)
        self._preempted += 1

    def _preempt(self, rank: Rank) -> None:
        """The request admitted last gives up its cache and is computed again later."""
        place = max(range(len(rank.ends)), key=lambda i: rank.ends[i][1])
        end, _, request = rank.ends.pop(place)
        rank.ends.sort()
        steps = end - self._step
        # What its remaining iterations would have brought, in whole tokens from here on.
        coming = self._left[request] * steps / self._need[request]
        left = max(1, round(coming))
        rank.kv -= self._prompt[request] + self._left[request] - coming
        rank.coming -= coming
        self._leave(rank, request)
        rank.full = False
        whole = sum(self._output[one] for _, _, one in rank.ends)
        rank.share = self._limits.reserve.after_preemption(
            rank.share, whole - rank.coming, whole, rank.running
        )
        # What it has produced so far becomes part of its prompt.
        self._prompt[request] += self._left[request] - left
        self._done[request] = 0
        self._need[request] = steps
        self._left[request] = left + 1  # computing the prompt again yields a token
        rank.waiting.appendleft(request)
        self._preempted += 1
