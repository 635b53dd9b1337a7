"""Completion I/O by the kernel itself: io_uring(7).

A program describes operations in a queue that it shares with the kernel, and finds their results in another. One
io_uring_enter(2) submits all that are in the queue. What can be done at once is done within it; what would block is
kept by the kernel, which goes on with it when the descriptor is ready. No thread sleeps for it, unlike in POSIX aio;
only what can't be done so, or asks for it with IOSQE_ASYNC, is done by a thread of the kernel's (`iou-wrk` among the
threads of the process).

An entry of the completion queue has the `user_data` of the operation, and the result that the system call would have
had; the bytes are in the buffer already. Completions come in the order in which operations are done, not in the one in
which they were submitted: only IOSQE_IO_LINK has one begin when the one before has been done.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.lab.experiment import Experiment, Observation, at_least, same
from bench.lab.processes import pipe, until
from bench.processes import environment

REFUSALS = {
    errno.ENOSYS: "this kernel has no io_uring (ENOSYS), or a seccomp filter hides it",
    errno.EPERM: "io_uring is disabled here (EPERM): sysctl kernel.io_uring_disabled, or a seccomp filter",
    errno.ENOMEM: "there is no memory for io_uring (ENOMEM): before Linux 5.12 it counts against RLIMIT_MEMLOCK",
}


class Ring:
    """A submission queue and a completion queue. Raises OSError where they can't be had."""

    def __init__(self) -> None:
        self.liburing: Any = importlib.import_module("liburing")
        self.ring = self.liburing.Ring()
        self.entry = self.liburing.Cqe()
        self.kept: list[Any] = []  # what the kernel still reads from or writes to
        self.liburing.io_uring_queue_init(8, self.ring, 0)

    def close(self) -> None:
        """Give both up; what has not been done is cancelled."""
        self.liburing.io_uring_queue_exit(self.ring)

    def read(self, fd: int, user_data: int, flags: int = 0, size: int = 100) -> bytearray:
        """Put a read into the submission queue; return its buffer."""
        buffer = bytearray(size)
        self._put(self.liburing.io_uring_prep_read, fd, buffer, user_data, flags)
        return buffer

    def write(self, fd: int, data: bytes, user_data: int, flags: int = 0) -> None:
        """Put a write into the submission queue."""
        self._put(self.liburing.io_uring_prep_write, fd, data, user_data, flags)

    def _put(self, prepare: Any, fd: int, data: bytes | bytearray, user_data: int, flags: int) -> None:
        submission = self.liburing.Sqe()
        prepare(submission, fd, data)
        submission.user_data, submission.flags = user_data, flags
        self.kept += [submission, data]
        self.liburing.put_sqe(self.ring, submission)

    def submit(self) -> int:
        """One io_uring_enter: the number of operations that the kernel took."""
        return int(self.liburing.io_uring_submit(self.ring))

    def completed(self, number: int) -> list[tuple[int, int]]:
        """Wait for so many completions; return (user_data, result) of all there are, in their order."""
        done: list[tuple[int, int]] = []

        def enough() -> bool:
            done.extend(self._take())
            return len(done) >= number

        until(enough, f"{number} completions")
        return done

    def _take(self) -> list[tuple[int, int]]:
        self.liburing.io_uring_get_events(self.ring)
        done = [(self.entry[0].user_data, self._result()) for _ in self.liburing.CqeIter(self.ring, self.entry)]
        self.liburing.io_uring_cq_advance(self.ring, len(done))
        return done

    def _result(self) -> int:
        try:
            return int(self.entry[0].res)
        except OSError as error:  # the package's way to say that it is negative
            return -(error.errno or 0)


def run() -> Iterator[Observation]:
    """Submit reads, write in another order, and look what completes, when, and who did it."""
    with closing(Ring()) as ring, pipe() as (reading_a, writing_a), pipe() as (reading_b, writing_b):
        first, second = ring.read(reading_a, 1), ring.read(reading_b, 2)
        yield same("reads of two empty pipes: taken by one call", 2, ring.submit())
        yield same("completions before any write", [], ring.completed(0))
        os.write(writing_b, b"to the second")
        yield same("write to the second: (user_data, result)", [(2, 13)], ring.completed(1))
        yield same("its buffer has", b"to the second", bytes(second[:13]))
        os.write(writing_a, b"to the first")
        yield same("write to the first", [(1, 12)], ring.completed(1))
        yield same("its buffer has", b"to the first", bytes(first[:12]))
        yield same("threads of the kernel that slept for it", 0, workers())

        ring.write(writing_a, b"ping", 3, flags=ring.liburing.IOSQE_IO_LINK)
        buffer = ring.read(reading_a, 4)
        ring.submit()
        yield same("a write and a read, linked, by one call", [(3, 4), (4, 4)], ring.completed(2))
        yield same("the buffer has", b"ping", bytes(buffer[:4]))

        ring.read(reading_a, 5, flags=ring.liburing.IOSQE_ASYNC)
        ring.submit()
        yield at_least("a read with IOSQE_ASYNC: threads of the kernel", until(workers, "a worker"), 1)
        os.write(writing_a, b"x")
        yield same("write: it completes all the same", [(5, 1)], ring.completed(1))


def workers() -> int:
    """The threads among ours that are the kernel's."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("iou-wrk") for name in names)


def unavailable() -> str:
    """It takes the package, and a kernel that lets us; tried in a process of its own.

    A package that was compiled for another CPU ends the process that calls it (SIGILL).
    """
    asking = [sys.executable, "-c", f"from {__name__} import why_not; print(why_not())"]
    asked = subprocess.run(asking, env=environment(), capture_output=True, text=True, check=False)
    if asked.returncode < 0:
        return f"trying it ended the process by {signal.Signals(-asked.returncode).name}"
    return asked.stdout.strip()


def why_not() -> str:
    """The reason why this process can't have a ring, or nothing."""
    try:
        Ring().close()
    except ImportError:
        return "pip install 'iobench[uring]'"
    except OSError as error:
        return REFUSALS.get(error.errno or 0, f"io_uring_setup: {error}")
    return ""


EXPERIMENT = Experiment(
    name="io-uring-completion",
    claim="the kernel does what is queued and queues the results, in the order of their completion",
    run=run,
    unavailable=unavailable,
)
