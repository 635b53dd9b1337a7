"""Blocking I/O, a process for each connection.

    parent:        accept() --> fork() --> close(its copy of the connection) --> accept() ...
    each child:    close(its copy of all else) --> read() --> write() --> read() ... read() = 0 --> close() --> _exit()

One echo is two system calls, as in `iterative`: each child sleeps in its own read(2), and the kernel wakes exactly the
child whose bytes have come. It is `thread_per_connection` with walls: one child's crash is nobody else's, and each has
an interpreter lock of its own, so that children echo at the same time on all CPUs.

fork(2) copies every descriptor, and close-on-exec closes none of the copies: that is for exec(2), which is not called
here. A socket or pipe is closed with its last copy. If the parent kept one, the peer would wait for an end-of-file that
does not come when its child has closed and gone; if a child kept the write end of another's pipe, the reader of that
would. Therefore the parent closes its copies before it accepts again, and a child closes all but its own channel: the
listener too (with the parent gone, clients would still connect, and nobody accept) and the status pipe.

What it costs as connections grow: a connection takes a fork, which copies the parent's page tables; then a page fault
and a copied page wherever parent or child is first to write (reading a Python object writes its reference count); and
at the end an _exit and a SIGCHLD. Every message is a context switch to its child and one away from it, with a change of
address space. A child keeps some hundreds of KiB to itself, and a kernel stack. Descriptors do not add up in any one
process: what runs out is memory, or the number of processes (RLIMIT_NPROC, pids.max).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import Callable, NoReturn, Set

from servers.contract import Channel, Listener, Strategy
from servers.iterative import echo
from servers.limits import why_no_more

# Those that the parent handles: two end it, and one tells that a child has ended.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def serve(listener: Listener) -> None:
    """Accept in the parent; give every connection a child of its own."""
    children: Set[int] = set()
    inherited = {int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2}
    # accept(2) is interrupted by the signal (EINTR), the handler runs, and Python calls accept again (PEP 475).
    signal.signal(signal.SIGCHLD, lambda signum, frame: reap(children))
    try:
        while True:
            channel = listener.accept()
            if channel is None:
                continue
            try:
                start(children, partial(serve_one, channel, listener, inherited))
            except OSError as error:  # EAGAIN: RLIMIT_NPROC or the cgroup's pids.max; ENOMEM
                listener.refuse(channel, why_no_more(str(error)))
            else:
                channel.close()
    finally:
        end(children)


def serve_one(channel: Channel, listener: Listener, inherited: Set[int]) -> None:
    """Be a child: keep no handler and no descriptor of the parent's but those of the channel, and echo on it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    listener.close()
    for fd in inherited.difference(channel):
        with suppress(OSError):  # EBADF: it is closed already, as the listener is
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


def cpus() -> int:
    """How many CPUs this process may run on; PyPy can't tell, and counts all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reap(children: Set[int]) -> None:
    """Wait for those children that have ended, so that the kernel can forget them. One SIGCHLD may stand for many."""
    with suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)


def runs(pid: int) -> bool:
    """Whether a child of ours still runs; if it has ended, it is waited for.

    A number that has been waited for may be anybody's by now, and must not be sent a signal.
    """
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    return False


def end(children: Set[int]) -> None:
    """Kill the children that are left, and wait until they have gone. SIGKILL, which ends even one that is stopped."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in filter(runs, children):
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
