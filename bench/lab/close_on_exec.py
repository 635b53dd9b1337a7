"""Why every descriptor should be close-on-exec (FD_CLOEXEC, fcntl(2)).

A descriptor survives fork(2) and execve(2), so a program that is started holds whatever its parent had open, unless it
is marked to be closed on exec. Held by mistake, the writing end of a pipe keeps the reader from ever seeing
end-of-file: the last writing end has not closed (pipe(7)). The same goes for sockets: the peer is not told.

The mark can't be set in time with two calls. Between pipe(2) and fcntl(F_SETFD) another thread may start a program,
which then has the unmarked descriptor for good. pipe2(O_CLOEXEC) makes the pipe with the mark, and there is no between
(pipe2(2); the same for SOCK_CLOEXEC, EPOLL_CLOEXEC, accept4). Python's own functions mark all descriptors (PEP 446).

The program that is started here is cat(1), which knows nothing of our pipe. It is waited for until a byte has come
through it: posix_spawn(3) returns a moment before the kernel closes what is marked.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import Child, pipe

NOT_YET, END = "not yet", "end-of-file"


def run() -> Iterator[Observation]:
    """Start a program while a pipe is open, close the writing end, and look whether the reader is told."""
    with pipe() as (reading, writing):
        yield same("os.pipe() sets FD_CLOEXEC", True, bool(fcntl.fcntl(writing, fcntl.F_GETFD) & fcntl.FD_CLOEXEC))
        with program():
            os.close(writing)
            yield same("start a program, close our writing end: reader", END, seen(reading))

    with pipe() as (reading, writing):
        os.set_inheritable(writing, True)
        with program():
            os.close(writing)
            yield same("the same without the flag: reader", NOT_YET, seen(reading))
        yield same("the program ends: reader", END, seen(reading))

    with pipe() as (reading, writing):
        os.set_inheritable(writing, True)  # what pipe(2) gives
        with program(in_another_thread=True):
            os.set_inheritable(writing, False)  # fcntl(F_SETFD, FD_CLOEXEC)
            os.close(writing)
            yield same("pipe(), [a thread starts a program], fcntl()", NOT_YET, seen(reading))
        yield same("the program ends: reader", END, seen(reading))

    if hasattr(os, "pipe2"):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with program(in_another_thread=True):
            os.close(writing)
            yield same("pipe2(O_CLOEXEC), [a thread starts one]", END, seen(reading))
        os.close(reading)


@contextmanager
def program(in_another_thread: bool = False) -> Iterator[None]:
    """Have a program running, which has come so far as to copy a byte."""
    with pipe() as (its_input, ours), pipe() as (echo, its_output):
        started: list[Child] = []

        def start() -> None:
            actions = [(os.POSIX_SPAWN_DUP2, its_input, 0), (os.POSIX_SPAWN_DUP2, its_output, 1)]
            started.append(Child(os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)))
            os.write(ours, b"x")
            os.read(echo, 1)

        if in_another_thread:
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
        else:
            start()
        try:
            yield
        finally:
            os.close(ours)
            started[0].wait()


def seen(reading: int) -> str:
    """What a read would tell now."""
    os.set_blocking(reading, False)
    try:
        return END if os.read(reading, 1) == b"" else "bytes"
    except BlockingIOError:
        return NOT_YET


EXPERIMENT = Experiment(
    name="close-on-exec",
    claim="a descriptor that a program inherits by mistake keeps others from end-of-file",
    run=run,
)
