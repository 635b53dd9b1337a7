"""Waits for what can only be looked at: with an end, and a look now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bench.processes import Child

LOOK_S = 0.001


def until(happened: Callable[[], bool], patience_s: float, look_s: float = LOOK_S) -> bool:
    """Look until it has happened; whether it has, in that time."""
    deadline = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_s)
    return True


def has_ended(child: Child) -> bool:
    """Whether a process has ended. It is not reaped: until then its number is nobody else's."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def stderr_of(child: Child) -> str:
    """What a process has written to its standard error so far."""
    return os.pread(child.stderr.fileno(), 1 << 16, 0).decode(errors="replace")
