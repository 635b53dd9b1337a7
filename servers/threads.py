"""Blocking I/O, a thread for each connection.

    main thread:    accept() --> start a thread --> accept() ...
    each thread:    read() --> write() --> read() ... read() = 0 --> close(), and the thread ends

One echo is two system calls, as in `iterative`: each thread sleeps in its own read(2), and the kernel wakes exactly
the thread whose bytes have come. The scheduler does the multiplexing.

What it costs as connections grow: every message is a context switch to its thread and one away from it; every
thread has a kernel stack and a user stack (8 MiB of address space, of which a few pages are ever touched). In
CPython a thread that returns from read must first get the interpreter lock; the threads take turns however many
cores there are.
"""

from __future__ import annotations

import threading

from servers.contract import Listener, Strategy
from servers.iterative import echo
from servers.limits import why_no_more


def serve(listener: Listener) -> None:
    """Accept in the main thread; give every connection a thread of its own."""
    while True:
        channel = listener.accept()
        if channel is None:
            continue
        try:
            threading.Thread(target=echo, args=(channel,), daemon=True).start()
        except RuntimeError as error:  # EAGAIN from clone(2): RLIMIT_NPROC, the cgroup's pids.max, or memory
            listener.refuse(channel, why_no_more(str(error)))


STRATEGIES = (
    Strategy(
        name="thread_per_connection",
        summary="blocking read and write, a thread for each connection",
        serve=serve,
        model="blocking",
    ),
)
