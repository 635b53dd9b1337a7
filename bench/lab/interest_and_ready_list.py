"""The two lists of an epoll instance (epoll(7)).

The interest list is what epoll_ctl(2) was told to watch. It stays in the kernel from one wait to the next;
/proc/PID/fdinfo/FD shows it, a line `tfd:` for each registration (proc(5)).

The ready list is the part of it that has something to report. A descriptor puts itself on it at the moment when bytes
arrive, by a callback, and epoll_wait(2) takes from it. So a wait costs as much as there is to report, however long the
interest list is; and where it is told to return few, level-triggered ones go to the end of the list, and all have
their turn.

The trap: what is registered is not a descriptor's number but the open file description behind it. close(2) ends the
registration only if that was its last descriptor. With a duplicate alive (dup(2), or a child that inherited it), epoll
goes on to report a number that is closed, and EPOLL_CTL_DEL says EBADF: nothing can be done about it but closing the
duplicate, or the epoll instance. So unregister first, close then.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import pipe

WATCHED, READY = 10, 3


def run() -> Iterator[Observation]:
    """Watch ten pipes, write to three; then close one end of another pipe that has a duplicate."""
    with ExitStack() as stack, select.epoll() as epoll:
        pipes = [stack.enter_context(pipe()) for _ in range(WATCHED)]
        for reading, _ in pipes:
            epoll.register(reading, select.EPOLLIN)
        yield same(f"register {WATCHED} pipes: lines in fdinfo", WATCHED, len(interest_list(epoll)))
        yield same("ready list before any write", 0, len(epoll.poll(0)))
        for _, writing in pipes[:READY]:
            os.write(writing, b"x")
        yield same(f"write to {READY} of {WATCHED}: one wait returns", READY, len(epoll.poll(0)))
        in_turn = {fd for _ in range(READY) for fd, _ in epoll.poll(0, 1)}
        yield same(f"{READY} waits for one event each: different ones", READY, len(in_turn))
        epoll.unregister(pipes[0][0])
        yield same("EPOLL_CTL_DEL of a ready one: lines in fdinfo", WATCHED - 1, len(interest_list(epoll)))
        yield same("and on the ready list", READY - 1, len(epoll.poll(0)))
        os.close(pipes[1][0])
        yield same("close a ready one that has no duplicate: lines", WATCHED - 2, len(interest_list(epoll)))
        yield same("and on the ready list", READY - 2, len(epoll.poll(0)))

    with pipe() as (reading, writing), select.epoll() as epoll:
        epoll.register(reading, select.EPOLLIN)
        duplicate = os.dup(reading)
        os.close(reading)
        yield same("dup a watched one, close the original: fdinfo has", [reading], interest_list(epoll))
        os.write(writing, b"x")
        yield same("write: a wait reports the closed number", [reading], [fd for fd, _ in epoll.poll(0)])
        yield same("EPOLL_CTL_DEL of the closed number", "EBADF", unregister(epoll, reading))
        os.close(duplicate)
        yield same("close the duplicate: fdinfo has", [], interest_list(epoll))


def interest_list(epoll: select.epoll) -> list[int]:
    """The descriptors that are registered, by the numbers that they had then."""
    lines = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("tfd:")]


def unregister(epoll: select.epoll, fd: int) -> str:
    """The outcome of the call: Python's own `unregister` ignores EBADF, so a MOD asks the same question."""
    try:
        epoll.modify(fd, 0)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def unavailable() -> str:
    """Epoll is Linux's own, and so is fdinfo."""
    if not hasattr(select, "epoll"):
        return "this system has no epoll"
    return "" if Path("/proc/self/fdinfo").is_dir() else "/proc is not mounted here"


EXPERIMENT = Experiment(
    name="interest-and-ready-list",
    claim="epoll keeps what is watched apart from what is ready, and watches files, not numbers",
    run=run,
    unavailable=unavailable,
)
