"""Ends a server when the process that started it is gone, however that one ended.

    python guard.py GROUP SECONDS

waits until its input ends. A word there says that the server was ended as it should be. Input
that ends without one says that nobody is left to do so (SIGKILL, a lost shell): the process group
is asked to end, and made to after ``SECONDS``. A signal of the kernel to the first process would
not reach its workers, and not every system has it.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_POLL = 0.1  # seconds


def guard(group: int, patience: float) -> None:
    """Wait for the end of standard input, then end ``group`` unless told not to.

    patience: seconds that its processes have to end by themselves.
    """
    if sys.stdin.buffer.read():
        return
    try:
        os.killpg(group, signal.SIGTERM)
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            os.killpg(group, 0)  # fails once there is none
            time.sleep(_POLL)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    guard(int(sys.argv[1]), float(sys.argv[2]))
