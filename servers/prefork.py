"""I/O multiplexing in several processes: workers forked in advance share one listening socket.

    worker 1:    epoll_wait() = {5, 9} --> read(5) --> write(5) --> read(9) --> write(9) --> epoll_wait() ...
    worker 2:    epoll_wait() = {7} --> read(7) --> write(7) --> epoll_wait() ...

Each worker is the level-triggered epoll server of readiness.py, with the same two calls for an echo and its share of an
epoll_wait, and with an interpreter and a lock of its own: the workers echo at the same time, one on each CPU. A
connection stays with the worker that accepted it.

They inherit the listener, and all wait for it. Without more, the kernel would wake all of them for every connection:
one would accept it, the others find EAGAIN and sleep again (the thundering herd). With EPOLLEXCLUSIVE it stops at the
first in the line that sleeps. Left at that, while there is little to do the same worker would be first every time and
take nearly all connections; so who has accepted one leaves the line and joins it again at its end, which takes two
epoll_ctl(2) for a connection, none for an echo. Connections that come faster than a woken worker gets a CPU still go to
those that are awake, and a worker that has no descriptor left refuses what it is woken for, whatever room others have.

SO_REUSEPORT would give each worker a listening socket and a queue of its own, and the kernel would choose one by a hash
of the addresses: even on average and without a common lock, but a connection in the queue of a busy worker waits for
that one, and is lost if it ends. It takes a socket made by each worker, where ours is inherited, and on UNIX sockets it
spreads nothing. This way works on every transport.

What it costs as connections grow: what epoll costs, each worker with its share of them. A worker is a process with an
interpreter of its own, however few its connections. The parent sleeps until one of its workers ends, which none should,
and then ends the others too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from functools import partial
from typing import Dict, Set

from servers import processes, readiness
from servers.contract import Channel, Listener, Stop, Strategy, describe

# What the workers have to stop in, before they are killed.
PATIENCE_S = 0.5

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EPOLLEXCLUSIVE = 1 << 28  # linux/eventpoll.h; PyPy has no name for it


class ExclusiveInterest(readiness.RegisteredInterest):
    """An epoll instance that shares the listener with those of other processes: a connection wakes one, in turn."""

    listening: int

    def listen(self, fd: int) -> None:
        self.listening = fd
        self.poller.register(fd, select.EPOLLIN | EPOLLEXCLUSIVE)

    def admit(self, channel: Channel) -> None:
        super().admit(channel)
        self.poller.unregister(self.listening)
        try:
            self.listen(self.listening)
        except OSError:  # ENOSPC: another process took the place that we left. Who has just come gives up another one
            self.poller.unregister(channel.rfd)
            self.listen_again()
            raise

    def listen_again(self) -> None:
        """Get back into the line. Raises RuntimeError: a worker that no connection wakes must not go on."""
        try:
            self.listen(self.listening)
        except OSError as error:
            raise RuntimeError(f"a worker can't wait for connections any more: {describe(error)}") from None


def serve(listener: Listener) -> None:
    """Fork a worker for each CPU that we may run on; end them all at Stop, or when one of them ends."""
    with suppress(ImportError):
        import ctypes  # noqa: PLC0415, F401 - once here, instead of once in each worker

    workers: Set[int] = set()
    report, reporting = os.pipe()
    try:
        for _ in range(max(2, processes.cpus())):
            processes.start(workers, partial(work, listener, reporting, os.getpid()))
        listener.close()  # it is the workers' alone: with the last of them it stops listening
        pid, status = os.wait()
        raise SystemExit(f"worker {pid} ended ({how(status)}): the server ends with it")
    finally:
        os.close(reporting)
        add_up(listener.refused, stop(workers, report))


def work(listener: Listener, reporting: int, parent: int) -> None:
    """Be a worker: serve until the parent sends SIGTERM, then report what was refused."""
    end_with(parent)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all; it is the parent that ends its workers
        signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.SIGNALS)
        readiness.serve(listener, ExclusiveInterest(select.epoll()))
    except Stop:
        os.write(reporting, json.dumps(listener.refused).encode() + b"\n")


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG).

    An interpreter that was built without ctypes can't ask for that: there, workers outlive a parent that is killed.
    """
    with suppress(ImportError):
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before we had asked
        os._exit(1)


def stop(workers: Set[int], report: int) -> bytes:
    """End the workers; return their reports, a line for each that ended in time.

    Python notices a signal that comes just before a worker sleeps only when it wakes: therefore they are told again.
    """
    reports = b""
    waiting = select.poll()
    waiting.register(report, select.POLLIN)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for pid in filter(processes.runs, workers):
            os.kill(pid, signal.SIGTERM)
        while waiting.poll(50):
            data = os.read(report, 4096)
            if not data:
                deadline = 0.0  # the last copy of the other end is closed: all have ended
                break
            reports += data
    processes.end(workers)
    return reports


def add_up(refused: Dict[str, int], reports: bytes) -> None:
    """Add the workers' counts of refused connections to those of the parent."""
    for line in reports.splitlines():
        for reason, count in json.loads(line).items():
            refused[reason] = refused.get(reason, 0) + count


def how(status: int) -> str:
    """Say how a process ended, of which wait(2) returned this status."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"


STRATEGIES = (
    Strategy(
        name="prefork_epoll",
        summary="epoll(7), level-triggered, in a process for each CPU; EPOLLEXCLUSIVE on the shared listener",
        serve=serve,
        model="multiplexing",
    ),
)
