import asyncio
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from profilers.engine.client import Server

SCRIPT = Path(__file__).with_name("token_server.py")


@pytest.fixture
def serving():
    """Starts a token server with the given flags; gives its address."""

    @contextmanager
    def start(**flags):
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *words], stdout=subprocess.PIPE, text=True
        )
        try:
            port = next(int(found[1]) for line in process.stdout
                        if (found := re.match(r"port (\d+)", line)))  # fmt: skip
            yield Server("127.0.0.1", port, "words")
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()

    return start


@pytest.fixture
def wait():
    """Runs one coroutine to its end."""
    return asyncio.run
