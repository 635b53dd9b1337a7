"""Blocking I/O, a process for each connection.

    parent:        accept() --> fork() --> close(its copy of the connection) --> accept() ...
    each child:    close(its copy of all else) --> read() --> write() --> read() ... read() = 0 --> close() --> _exit()

One echo is two system calls, as in `iterative`: each child sleeps in its own read(2), and the kernel wakes exactly the
child whose bytes have come. It is `thread_per_connection` with walls: nothing is shared, so one child's crash is nobody
else's, and each has an interpreter lock of its own, so that children echo at the same time on all CPUs.

fork(2) copies every descriptor, and close-on-exec closes none of the copies: that is for exec(2), which is never called
here. A connection ends when its last copy is closed. If the parent kept one, the peer would wait for an end-of-file that
never comes after its child has closed and gone; if a child kept the write end of another's pipe, that other peer would.
Therefore the parent closes its copies before it accepts again, and a child closes all but its own channel: the
listener too (it would go on taking connections that nobody accepts when the parent has gone) and the status pipe.

What it costs as connections grow: accepting one takes a fork, which copies the page tables of the parent, then a page
fault and a copy for each page that the child is first to write to (the reference count of an object that is only read is
such a write), and at the end an _exit and a SIGCHLD for the parent. Every message is a context switch to its child and one
away from it, with a change of address space. Each child is a kernel stack, page tables and some pages of its own.
Descriptors do not add up in any one process; what runs out is memory, or the number of processes (RLIMIT_NPROC).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Callable, NoReturn, Set

from servers.contract import Channel, Listener, Strategy
from servers.iterative import echo

# Those that the parent handles: two end it, and one tells that a child has ended.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def serve(listener: Listener) -> None:
    """Accept in the parent; give every connection a child of its own."""
    children: Set[int] = set()
    # accept(2) is interrupted by the signal (EINTR), the handler runs, and Python calls accept again (PEP 475).
    signal.signal(signal.SIGCHLD, lambda signum, frame: reap(children))
    try:
        while True:
            channel = listener.accept()
            if channel is None:
                continue
            try:
                start(children, lambda channel=channel: serve_one(listener, channel))  # type: ignore[misc]
            except OSError as error:  # EAGAIN: RLIMIT_NPROC or the cgroup's pids.max; ENOMEM
                listener.refuse(channel, str(error))
            else:
                channel.close()
    finally:
        end(children)


def serve_one(listener: Listener, channel: Channel) -> None:
    """Be a child: keep no handler and no descriptor of the parent's but those of the channel, and echo on it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    listener.close()
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in channel:
            with suppress(OSError):  # EBADF: it was the one that listed them
                os.close(fd)
    echo(channel)


def start(children: Set[int], work: Callable[[], None]) -> None:
    """Fork a child that does `work` and leaves. Raises OSError where there can't be one more.

    Signals wait from before the fork until its pid is noted: Stop would leave a child behind that nobody knows of, and
    SIGCHLD could strike off a pid that is noted only then. In the child they wait until `work` lets them in.
    """
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            leave_after(work)
        children.add(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def leave_after(work: Callable[[], None]) -> NoReturn:
    """Do the work and end the process, whatever happens: nothing may return into the parent's code."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def reap(children: Set[int]) -> None:
    """Wait for those children that have ended, so that the kernel can forget them. One SIGCHLD may stand for many."""
    with suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)


def end(children: Set[int]) -> None:
    """Kill the children that are left, and wait until they have gone. SIGKILL, which ends even one that is stopped."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()


STRATEGIES = (
    Strategy(
        name="process_per_connection",
        summary="blocking read and write, a process for each connection",
        serve=serve,
        model="blocking",
    ),
)
