"""A server that answers: one that is started from a model folder and ended, or one that runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiconf.errors import UserError
from aiconf.model import ModelSpec
from profilers.engine import checkpoint
from profilers.engine.client import Server, get
from profilers.engine.points import Limits
from profilers.engine.server import LOG, Launch, Running, free_port, log_facts
from profilers.engine.settings import Settings, context_of, spec_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """A server that answers, what it takes, and the process where it is ours."""

    server: Server
    limits: Limits
    facts: dict[str, Any]
    running: Running | None = None


@asynccontextmanager
async def serving(
    settings: Settings, out: Path, say: Say, stop: asyncio.Event
) -> AsyncIterator[Ready | None]:
    """A server that answers: the running one, or one that is started and ended; None: stopped."""
    spec = spec_of(settings)
    if settings.url:
        yield await _attached(settings, spec)
        return
    folder = _folder(settings, spec, out)
    launch = Launch(
        settings.backend, folder, spec.name, settings.layout, context_of(settings),
        settings.budget, settings.sequences, settings.memory, settings.extra,
    )  # fmt: skip
    port = free_port(settings.host, settings.port)
    command = launch.command(settings.host, port)
    say(f"starting {settings.backend} with dummy weights; its log: {out / LOG}")
    running = Running.start(command, out / LOG, settings.host, port)
    try:
        begun = time.monotonic()
        ready, stopped = (asyncio.create_task(wait) for wait in
                          (running.ready(settings.patience), stop.wait()))  # fmt: skip
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ready.done():
            ready.cancel()
            yield None
            return
        ready.result()
        say(f"ready after {time.monotonic() - begun:.0f} s")
        said = log_facts(running.said())
        limits = Limits(
            context_of(settings), settings.budget, settings.sequences, said.get("kv_tokens", 0)
        )
        words = ["MODEL" if word == str(folder) else word for word in command[1:]]
        told = said | {"command": words, "config": checkpoint.digest(folder), "attached": ""}
        yield Ready(Server(settings.host, port, spec.name), limits, told, running)
    finally:
        await asyncio.to_thread(running.stop)


async def _attached(settings: Settings, spec: ModelSpec) -> Ready:
    parts = urlsplit(settings.url)
    host, port = parts.hostname, parts.port or 80
    if parts.scheme != "http" or not host:
        raise UserError(f"'{settings.url}' is no address of a server: write http://HOST:PORT")
    status, text = await get(host, port, "/v1/models")
    if status != 200:
        raise UserError(f"no engine answers at {settings.url}")
    try:
        name = json.loads(text)["data"][0]["id"]
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{settings.url} does not name its model at /v1/models") from None
    _, version = await get(host, port, "/version")
    told = {"attached": settings.url, "command": [], "config": _digest(spec, settings)}
    if version:
        told["version"] = _stated_version(version)
    limits = Limits(context_of(settings), settings.budget, settings.sequences, 0)
    return Ready(Server(host, port, name), limits, told)


def _stated_version(text: bytes) -> str:
    try:
        return str(json.loads(text)["version"])
    except (ValueError, LookupError, TypeError):
        return ""


def _digest(spec: ModelSpec, settings: Settings) -> str:
    given = Path(settings.model).expanduser()
    if (given / "config.json").is_file():
        return checkpoint.digest(given)
    return hashlib.sha256(spec.checkpoint.encode()).hexdigest()[:12]


def _folder(settings: Settings, spec: ModelSpec, out: Path) -> Path:
    """The model folder the engine starts from; a tokenizer is made where a given one has none."""
    given = Path(settings.model).expanduser()
    if not (given / "config.json").is_file():
        return checkpoint.write_checkpoint(spec, out / "model")
    if any(given.glob("tokenizer*")):
        return given.resolve()
    made = out / "model"
    made.mkdir(parents=True, exist_ok=True)
    for path in given.glob("*.json"):
        (made / path.name).write_bytes(path.read_bytes())
    checkpoint.write_tokenizer(spec.vocab, spec.max_context, made)
    return made
