"""Readiness on macOS and BSD: kqueue(2), as epoll on Linux, and more.

kevent(2) changes the interest list and waits, in one system call. A filter says what is of interest: bytes to read or
room to write, but also a process's end, a signal, a timer. What it returns for EVFILT_READ says how many bytes there
are. EV_CLEAR is what EPOLLET is on Linux, EV_ONESHOT what EPOLLONESHOT is; but with EV_ONESHOT the registration is
removed, not disabled. And where epoll watches the open file, kqueue watches the descriptor: closing it ends the
registration, whatever duplicates there are.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import pipe

kernel: Any = select  # its kqueue is not known to a type checker on Linux


def run() -> Iterator[Observation]:
    """Write 2 kB, wait, read 1 kB, wait again: as epoll-pipe does."""
    for kind, flags, again in (
        ("level", 0, [1000]),
        ("EV_CLEAR", kernel.KQ_EV_CLEAR, []),
        ("EV_ONESHOT", kernel.KQ_EV_ONESHOT, []),
    ):
        queue = kernel.kqueue()
        with pipe() as (reading, writing):
            change = kernel.kevent(reading, kernel.KQ_FILTER_READ, kernel.KQ_EV_ADD | flags)
            queue.control([change], 0, 0)
            os.write(writing, bytes(2000))
            yield same(f"{kind}: write 2 kB, wait: bytes reported", [2000], bytes_reported(queue))
            os.read(reading, 1000)
            yield same("read 1 kB of it, wait again", again, bytes_reported(queue))
        queue.close()

    queue = kernel.kqueue()
    with pipe() as (reading, writing):
        queue.control([kernel.kevent(reading, kernel.KQ_FILTER_READ, kernel.KQ_EV_ADD)], 0, 0)
        duplicate = os.dup(reading)
        os.close(reading)
        os.write(writing, b"x")
        yield same("dup a watched one, close the original, write", [], bytes_reported(queue))
        os.close(duplicate)
    queue.close()


def bytes_reported(queue: Any) -> list[int]:
    """For each event that a wait returns at once, how much there is to read."""
    return [event.data for event in queue.control(None, 8, 0)]


def unavailable() -> str:
    """Linux has epoll instead."""
    return "" if hasattr(select, "kqueue") else "this kernel has no kqueue: it is macOS's and BSD's (see epoll-pipe)"


EXPERIMENT = Experiment(
    name="kqueue",
    claim="kqueue reports readiness with the number of bytes, and watches descriptors, not files",
    run=run,
    unavailable=unavailable,
)
