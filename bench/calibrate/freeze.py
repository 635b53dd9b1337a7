"""Stop a process in mid-run for a known time, as a garbage collection, a page fault or a hypervisor would.

The process is always continued, also where the run is given up meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Freeze:
    """When the process was stopped and continued (CLOCK_MONOTONIC); 0 before that. `begin` starts the clock."""

    begin: Callable[[], None]
    stopped_ns: int = 0
    continued_ns: int = 0

    @property
    def lasted_s(self) -> float:
        """For how long it was stopped."""
        return (self.continued_ns - self.stopped_ns) / 1e9


@contextmanager
def freezing(pid: int, after_s: float, for_s: float) -> Iterator[Freeze]:
    """Stop a process `after_s` after `begin` was called, and continue it `for_s` later or at the end of the context."""
    over = threading.Event()

    def run() -> None:
        if over.wait(after_s):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            freeze.stopped_ns = time.monotonic_ns()
            try:
                over.wait(for_s)
            finally:
                os.kill(pid, signal.SIGCONT)
                freeze.continued_ns = time.monotonic_ns()

    thread = threading.Thread(target=run, daemon=True)
    freeze = Freeze(thread.start)
    try:
        yield freeze
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()
