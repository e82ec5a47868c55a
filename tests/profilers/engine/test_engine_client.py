"""What is read from a stream of tokens, from bytes that arrive in any pieces."""

import asyncio
import json
import socket

import numpy as np
import pytest

from profilers.engine.client import EngineError, Server, body, get, read, send

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(**told):
    return f"data: {json.dumps(told)}\n\n".encode()


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(counts):
    """Bytes of a whole answer, and where in it each event is complete."""
    raw, ends = HEAD, []
    for count in counts:
        raw += chunk(event(choices=[{"text": "w"}], usage={"completion_tokens": count}))
        ends.append(len(raw) - 2)
    raw += chunk(event(choices=[], usage={"completion_tokens": counts[-1]}))
    return raw + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n", ends


@pytest.mark.parametrize("size", [1, 2, 7, 50, 100000])
def test_every_token_has_the_time_of_the_piece_that_completed_it(size):
    counts = [1, 2, 3, 7, 8]  # one event carries four tokens
    raw, ends = stream(counts)
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
    times = [float(i) for i in range(len(pieces))]
    found = read(-1.0, 5, times, pieces)
    assert found.tokens.tolist() == counts
    assert found.times.tolist() == [float((end - 1) // size) for end in ends]
    assert found.first == found.times[0] + 1.0
    if size == 1:
        assert found.per_token == pytest.approx((ends[-1] - ends[0]) / 7)


def test_pieces_of_text_are_counted_where_usage_is_not_stated():
    events = [event(choices=[{"text": text}]) for text in ("a", "", "b c", "d")]
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(events) + b"data: [DONE]\n\n"
    assert read(0.0, 1, [1.0], [raw]).tokens.tolist() == [1, 2, 3]


def test_a_single_token_has_no_time_per_token():
    raw, _ = stream([1])
    assert np.isnan(read(0.0, 1, [1.0], [raw]).per_token)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "without an answer"),
        (b'HTTP/1.1 400 Bad Request\r\n\r\n{"error": {"message": "too long"}}', "400.*too long"),
        (b"HTTP/1.1 503 Busy\r\n\r\nnot\nnow", "503.*not now"),
        (stream([1, 2])[0][:-40], "broke off"),
        (HEAD + chunk(b"data: [DONE]\n\n"), "without a token"),
        (HEAD + chunk(b"data: {oh\n\n"), "no JSON"),
        (HEAD + chunk(event(error={"message": "engine died"})), "engine died"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(raw, says):
    with pytest.raises(EngineError, match=says):
        read(0.0, 1, [1.0], [raw])


def test_a_request_asks_for_exactly_so_many_tokens():
    head, _, text = body(Server("h", 1, "m"), [5, 6], 9).partition(b"\r\n\r\n")
    asked = json.loads(text)
    assert asked["prompt"] == [5, 6]
    assert asked["max_tokens"] == 9
    assert asked["ignore_eos"]
    assert asked["stream_options"]["continuous_usage_stats"]
    assert f"Content-Length: {len(text)}".encode() in head


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(EngineError, match="no answer"):
        asyncio.run(send(Server("127.0.0.1", port, "m"), [1], 1))
    assert asyncio.run(get("127.0.0.1", port, "/health")) == (0, b"")


def test_a_server_that_ends_in_the_middle_is_noticed(serving, wait):
    async def broken(server):
        request = await send(server, [1] * 8, 50)
        await request.began
        request._arrivals.transport.abort()
        return await request.stream()

    with serving(base=0.01) as server, pytest.raises(EngineError, match="broke off"):
        wait(broken(server))


def test_facts_are_fetched(serving, wait):
    with serving() as server:
        assert wait(get(server.host, server.port, "/health"))[0] == 200
        assert json.loads(wait(get(server.host, server.port, "/version"))[1]) == {
            "version": "1.2.3"
        }
        assert wait(get(server.host, server.port, "/nothing"))[0] == 404
