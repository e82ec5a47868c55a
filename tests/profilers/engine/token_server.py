"""A small engine without a model: streams tokens over HTTP as an engine's loop would.

One iteration takes ``--base`` seconds, plus ``--prompt`` per new prompt token and ``--sequence``
per decode; waiting prompts of up to ``--budget`` tokens join the next one. It answers as vLLM does:
chunked server-sent events that state the tokens so far.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time


class Engine:
    def __init__(self, args):
        self.args = args
        self.waiting, self.running = [], []
        self.work = asyncio.Event()

    async def loop(self):
        free = time.perf_counter()
        while True:
            if not (self.waiting or self.running):
                self.work.clear()
                await self.work.wait()
                free = time.perf_counter()
            decodes, prompt = list(self.running), 0
            joined = []
            room = self.args.budget - len(decodes)
            while self.waiting and room > 0:  # prompts are cut into what one iteration holds
                request = self.waiting[0]
                took = min(request["left"], room)
                request["left"] -= took
                prompt, room = prompt + took, room - took
                if request["left"]:
                    break
                joined.append(self.waiting.pop(0))
            args = self.args
            free += args.base + args.prompt * prompt + args.sequence * len(decodes)
            await asyncio.sleep(max(free - time.perf_counter(), 0))
            for request in decodes + joined:
                request["done"] += 1
                request["queue"].put_nowait(request["done"])
            alive = [r for r in decodes + joined if r["done"] < r["output"] and not r["gone"]]
            self.running = alive

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            size = next((int(line.split(":")[1]) for line in head.split("\r\n")
                         if line.lower().startswith("content-length")), 0)  # fmt: skip
            body = await reader.readexactly(size)
            if method == "GET":
                await self.tell(writer, path)
            else:
                await self.complete(writer, json.loads(body))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def tell(self, writer, path):
        known = {
            "/health": {}, "/version": {"version": "1.2.3"},
            "/v1/models": {"data": [{"id": "words"}]},
        }  # fmt: skip
        text = json.dumps(known.get(path, {})).encode()
        status = "200 OK" if path in known else "404 Not Found"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        await writer.drain()

    async def complete(self, writer, asked):
        if len(asked["prompt"]) + asked["max_tokens"] > self.args.context:
            text = json.dumps({"error": {"message": "longer than the context"}}).encode()
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(text))
            writer.write(text)
            return
        assert asked["ignore_eos"] and asked["stream"]
        request = {
            "left": len(asked["prompt"]), "output": asked["max_tokens"], "done": 0,
            "queue": asyncio.Queue(), "gone": False,
        }  # fmt: skip
        self.waiting.append(request)
        self.work.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        try:
            while request["done"] < request["output"] or not request["queue"].empty():
                tokens = await request["queue"].get()
                self.event(writer, {"choices": [{"text": "w "}],
                                    "usage": {"completion_tokens": tokens}})  # fmt: skip
                await writer.drain()
            usage = {"completion_tokens": request["output"]}
            self.event(writer, {"choices": [], "usage": usage})
            self.chunk(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            request["gone"] = True

    def event(self, writer, told):
        self.chunk(writer, f"data: {json.dumps(told)}\n\n".encode())

    def chunk(self, writer, data):
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    for name, value in (("port", 0), ("budget", 8192), ("context", 20480), ("kv", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name in ("base", "prompt", "sequence", "load"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--fail", default="")
    args = parser.parse_args()
    print("loading", flush=True)
    await asyncio.sleep(args.load)
    if args.fail:
        print(args.fail, file=sys.stderr, flush=True)
        sys.exit(1)
    if args.kv:
        print(f"INFO 01-01 kv_cache_utils.py: GPU KV cache size: {args.kv:,} tokens", flush=True)
    engine = Engine(args)
    server = await asyncio.start_server(engine.serve, args.host, args.port, limit=1 << 24)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, loop.stop)
    await engine.loop()


if __name__ == "__main__":
    with contextlib.suppress(RuntimeError):  # the loop was stopped
        asyncio.run(main())
