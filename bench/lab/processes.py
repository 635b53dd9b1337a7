"""What experiments share: pipes, children that are ended whatever happens, and waiting until something is so."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psutil

T = TypeVar("T")
PATIENCE_S = 10.0


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe (reading end, writing end), and close at the end what is still open of it."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            with suppress(OSError):  # the experiment has closed it; whatever got its number since is closed as well
                os.close(fd)


class Child:
    """A process that was forked, and how it ended once that is known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def wait(self) -> int:
        """Wait for its end; return the exit code, or minus the signal that killed it. Raises TimeoutError."""
        if self.status is None:
            self.status = until(lambda: _reaped(self.pid), "the child's end")[0]
        return self.status

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


@contextmanager
def child(work: Callable[[], object]) -> Iterator[Child]:
    """Fork a child that does this work and exits; it does not outlive the block."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    forked = Child(pid)
    try:
        yield forked
    finally:
        forked.kill()


def until(condition: Callable[[], T], what: str) -> T:
    """Ask until the answer is true, and return it. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S:g} s")
        time.sleep(0.001)
    return answer


def asleep(pid: int) -> bool:
    """Whether the kernel has taken the process's one thread off the CPU until something happens."""
    process = psutil.Process(pid)
    if psutil.LINUX:
        return process.status() == psutil.STATUS_SLEEPING
    before = process.cpu_times()  # macOS calls every process running that has not ended
    time.sleep(0.02)
    return process.cpu_times() == before


def _reaped(pid: int) -> tuple[int, ...]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return (os.waitstatus_to_exitcode(status),) if ended else ()
