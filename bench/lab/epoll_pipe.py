"""Level-triggered and edge-triggered epoll(7), on the reading end of a pipe.

Level-triggered, the default: epoll_wait(2) reports a descriptor whenever it is ready. Whoever reads only half of what
is there is told again.

Edge-triggered (EPOLLET): it reports a descriptor once for each change that makes it ready. Who reads half is not told
of the other half, and would wait for ever for a peer that waits for an answer: this is the example in epoll(7), and
the reason for its rule to read until EAGAIN. A new write is a new change, whatever was left unread; so is adding or
modifying the registration of a descriptor that is ready already.

EPOLLONESHOT: reported once and then disabled, whatever happens, until EPOLL_CTL_MOD enables it again. So several
threads can wait on one epoll, and a descriptor is worked on by one of them at a time.

Here nothing sleeps: each wait has a timeout of 0, and where it returns nothing, one without a timeout would sleep.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import pipe

REPORTED, SLEEPS = "reported", "would sleep"


def run() -> Iterator[Observation]:
    """Write 2 kB, wait, read 1 kB, wait again; then what makes the difference."""
    with pipe() as (reading, writing), select.epoll() as epoll:
        epoll.register(reading, select.EPOLLIN)
        os.write(writing, bytes(2000))
        yield same("level: write 2 kB, wait", REPORTED, answer(epoll.poll(0)))
        os.read(reading, 1000)
        yield same("read 1 kB of it, wait again", REPORTED, answer(epoll.poll(0)))
        os.read(reading, 1000)
        yield same("read the other 1 kB, wait", SLEEPS, answer(epoll.poll(0)))

    with pipe() as (reading, writing), select.epoll() as epoll:
        epoll.register(reading, select.EPOLLIN | select.EPOLLET)
        os.write(writing, bytes(2000))
        yield same("edge: write 2 kB, wait", REPORTED, answer(epoll.poll(0)))
        os.read(reading, 1000)
        yield same("read 1 kB of it, wait again", SLEEPS, answer(epoll.poll(0)))
        os.write(writing, bytes(1))
        yield same("write 1 byte more, wait", REPORTED, answer(epoll.poll(0)))
        epoll.modify(reading, select.EPOLLIN | select.EPOLLET)
        yield same("EPOLL_CTL_MOD, wait", REPORTED, answer(epoll.poll(0)))
        yield same("read: all that was left", 1001, len(os.read(reading, 4096)))

    with pipe() as (reading, writing), select.epoll() as epoll:
        epoll.register(reading, select.EPOLLIN | select.EPOLLONESHOT)
        os.write(writing, bytes(2000))
        yield same("EPOLLONESHOT: write 2 kB, wait", REPORTED, answer(epoll.poll(0)))
        os.write(writing, bytes(1))
        yield same("write 1 byte more, wait", SLEEPS, answer(epoll.poll(0)))
        epoll.modify(reading, select.EPOLLIN | select.EPOLLONESHOT)
        yield same("EPOLL_CTL_MOD, wait", REPORTED, answer(epoll.poll(0)))


def answer(events: Sequence[tuple[int, int]]) -> str:
    """What a wait without a timeout would have done."""
    return REPORTED if events else SLEEPS


def unavailable() -> str:
    """Epoll is Linux's own."""
    return "" if hasattr(select, "epoll") else "this system has no epoll"


EXPERIMENT = Experiment(
    name="epoll-pipe",
    claim="level-triggered epoll reports what is ready, edge-triggered what has changed",
    run=run,
    unavailable=unavailable,
)
