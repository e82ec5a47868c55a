"""One streamed completion: what was sent when, and when each of its tokens arrived.

Arrivals are stamped as the socket delivers them and read only after the stream has ended, so that
the client's own work does not delay the clock of other streams. Both engines accept prompts of
token ids, ``ignore_eos``, and ``stream_options.continuous_usage_stats``, which states the tokens
so far in every event (vllm 0.24.0, entrypoints/openai/engine/protocol.py; sglang 0.5.14,
srt/entrypoints/openai/protocol.py): an event may carry several tokens.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class EngineError(RuntimeError):
    """The server refused a request, or broke off."""


@dataclass(frozen=True)
class Server:
    """Where it listens, and the name it serves the model under."""

    host: str
    port: int
    model: str


@dataclass(frozen=True)
class Stream:
    """One finished completion. times [s, perf_counter] and tokens so far, of each event."""

    start: float
    times: Array
    tokens: NDArray[np.int64]
    prompt: int  # tokens sent

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return float(self.times[0] - self.start)

    @property
    def per_token(self) -> float:
        """Mean seconds per token after the first event; NaN where there is none."""
        more = int(self.tokens[-1] - self.tokens[0])
        return float((self.times[-1] - self.times[0]) / more) if more else float("nan")


@dataclass
class _Arrivals(asyncio.Protocol):
    """Stamps what arrives; tells when the first token is there and when the peer is done."""

    began: asyncio.Future[float]
    ended: asyncio.Future[None]
    transport: asyncio.Transport | None = None
    times: list[float] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.times.append(time.perf_counter())
        self.pieces.append(data)
        if not self.began.done() and b"data: {" in data:
            self.began.set_result(self.times[-1])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if not self.began.done():
            self.began.set_exception(EngineError("a completion ended before its first token"))
            self.began.exception()  # whoever waits for the stream hears more: this is heard


async def together(*waits: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results of all; the first failure ends the others, and their requests, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


@dataclass
class Request:
    """A completion under way: ``began`` is done with its first token."""

    start: float
    prompt: int
    began: asyncio.Future[float]
    _arrivals: _Arrivals

    async def stream(self) -> Stream:
        """Wait for the end; ``EngineError`` where the server refused or broke off."""
        try:
            await self._arrivals.ended
        finally:
            if self._arrivals.transport:
                self._arrivals.transport.abort()
        return read(self.start, self.prompt, self._arrivals.times, self._arrivals.pieces)


def body(server: Server, prompt: Sequence[int], output: int) -> bytes:
    """The whole HTTP request for exactly ``output`` tokens after a prompt of token ids."""
    text = json.dumps({
        "model": server.model, "prompt": list(prompt), "max_tokens": output, "ignore_eos": True,
        "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }).encode()  # fmt: skip
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


async def send(server: Server, prompt: Sequence[int], output: int) -> Request:
    """Connect, then start the clock and send; returns at once.

    Raises
    ------
    EngineError
        Nobody listens there.
    """
    loop = asyncio.get_running_loop()
    arrivals = _Arrivals(loop.create_future(), loop.create_future())
    try:
        await loop.create_connection(lambda: arrivals, server.host, server.port)
    except OSError as error:
        raise EngineError(f"no answer from {server.host}:{server.port}: {error}") from error
    written = body(server, prompt, output)
    assert arrivals.transport is not None
    start = time.perf_counter()
    arrivals.transport.write(written)
    return Request(start, len(prompt), arrivals.began, arrivals)


def read(start: float, prompt: int, times: Sequence[float], pieces: Sequence[bytes]) -> Stream:
    """Read what arrived: server-sent events in a chunked or plain HTTP/1.1 answer.

    Raises
    ------
    EngineError
        Another status than 200, an event that is an error, or no end.
    """
    raw = b"".join(pieces)
    head, gap, rest = raw.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].decode("latin1")
    if not gap:
        raise EngineError("the server closed the connection without an answer")
    if " 200" not in status:
        raise EngineError(f"{status}: {_message(rest)}")
    chunked = b"transfer-encoding: chunked" in head.lower()
    ends, payload = _chunks(rest) if chunked else ([len(rest)], rest)
    arrived = np.cumsum([len(piece) for piece in pieces]) - len(head) - len(gap)
    seen, counts, last = [], [], 0
    done = False
    for event_end, text in _events(payload):
        if text == b"[DONE]":
            done = True
            break
        tokens = _tokens(text, last)
        if tokens > last:
            place = _raw_end(ends, event_end) if chunked else event_end
            seen.append(times[int(np.searchsorted(arrived, place))])
            counts.append(tokens)
            last = tokens
    if not done:
        raise EngineError("the server broke off before the end of a completion")
    if not counts:
        raise EngineError("a completion without a token")
    return Stream(start, np.array(seen), np.array(counts), prompt)


def _chunks(rest: bytes) -> tuple[Any, bytes]:
    """Payload, and for each chunk (end in the payload, end in ``rest``)."""
    parts: list[bytes] = []
    ends: list[tuple[int, int]] = []
    place = total = 0
    while True:
        line = rest.find(b"\r\n", place)
        if line < 0:
            break
        try:
            size = int(rest[place:line].split(b";")[0], 16)
        except ValueError:
            break
        if size == 0 or line + 2 + size > len(rest):
            break
        parts.append(rest[line + 2 : line + 2 + size])
        total += size
        place = line + 2 + size + 2
        ends.append((total, place - 2))
    return np.array(ends or [(0, 0)]), b"".join(parts)


def _raw_end(ends: Any, payload_end: int) -> int:
    return int(ends[min(int(np.searchsorted(ends[:, 0], payload_end)), len(ends) - 1), 1])


def _events(payload: bytes) -> list[tuple[int, bytes]]:
    """(end of the data, data) of every server-sent event."""
    found, place = [], 0
    for line in payload.splitlines(keepends=True):
        place += len(line)
        if line.startswith(b"data:"):
            data = line[5:].strip()
            found.append((place - (len(line) - len(line.rstrip())), data))
    return found


def _tokens(text: bytes, last: int) -> int:
    """Tokens after this event: as it states them, else one more for every piece of text."""
    try:
        event = json.loads(text)
    except ValueError:
        raise EngineError(f"an event that is no JSON: {text[:80]!r}") from None
    if "error" in event:
        raise EngineError(f"the server says: {str(event['error'])[:200]}")
    usage = event.get("usage") or {}
    stated = usage.get("completion_tokens")
    if stated is not None:
        return int(stated)
    return last + any(choice.get("text") for choice in event.get("choices", ()))


def _message(rest: bytes) -> str:
    text = rest.decode("utf-8", "replace")
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return " ".join(text.split())[:200]
    inner = found.get("error", found)
    said = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(said).split())[:200]


async def get(host: str, port: int, path: str, timeout: float = 10.0) -> tuple[int, bytes]:
    """Status and body of a GET; (0, b"") where nobody answers in time."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return 0, b""
    try:
        ask = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(ask.encode())
        raw = await asyncio.wait_for(reader.read(), timeout)
    except (OSError, TimeoutError):
        return 0, b""
    finally:
        writer.close()
    head, _, rest = raw.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, _chunks(rest)[1] if b"chunked" in head.lower() else rest
