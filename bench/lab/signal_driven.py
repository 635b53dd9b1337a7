"""Signal-driven I/O: the kernel sends a signal when a descriptor changes (O_ASYNC and F_SETOWN, fcntl(2), signal(7)).

Nobody waits in a system call and nothing is registered but in the descriptor itself. When bytes arrive, the kernel
sends its owner SIGIO, wherever that is in its program: the handler interrupts it. Which thread it interrupts is open,
any that does not block the signal; only F_SETOWN_EX with F_OWNER_TID names one. (In Python the handler itself always
runs in the main thread.) A signal says that something may be read now; the reading is still to be done, so this is
readiness, not completion.

Its limits. A standard signal is one bit: three descriptors that change while it is blocked send one SIGIO, and it does
not say which. A real-time signal (F_SETSIG) is queued for each change, and carries the descriptor's number (si_fd).
But the queue is bounded (RLIMIT_SIGPENDING), and when it is full the kernel falls back to SIGIO: then all have to be
asked. And it is a signal for a change, not for a state: what was there before is not told of.

Signals are taken here from a blocked queue (sigwaitinfo(2)), so that nothing depends on when they are delivered.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import pipe

F_SETOWN_EX, F_OWNER_TID, F_OWNER_PID = 15, 0, 1  # <asm-generic/fcntl.h>
NUMBER = 3


def run() -> Iterator[Observation]:
    """Have pipes send signals: to a handler, to a blocked queue, to a thread, and to a queue that is full."""
    queued = signal.SIGRTMIN
    with pipe() as (reading, writing):
        calls: list[str] = []
        before = signal.signal(signal.SIGIO, lambda *_: calls.append(threading.current_thread().name))
        os.write(writing, b"x")
        send_signal(reading, 0)
        yield same("bytes are there, then O_ASYNC: handler calls", 0, len(calls))
        os.write(writing, b"x")
        yield same("write: handler calls", 1, len(calls))
        yield same("in the thread", threading.main_thread().name, calls[0])
        yield same("bytes that are still to be read", 2, len(os.read(reading, 100)))
        os.write(writing, b"x")
        os.write(writing, b"x")
        yield same("2 writes without a read: handler calls", 2, len(calls) - 1)
        signal.signal(signal.SIGIO, before)

    with blocked(signal.SIGIO, queued), ExitStack() as stack:
        pipes = [stack.enter_context(pipe()) for _ in range(NUMBER)]
        for reading, writing in pipes:
            send_signal(reading, 0)
            os.write(writing, b"x")
        yield same(f"{NUMBER} pipes change while SIGIO is blocked: signals", 1, len(take(signal.SIGIO)))
        for reading, writing in pipes:
            send_signal(reading, queued)
            os.write(writing, b"x")
        yield same("the same with SIGRTMIN: descriptors (si_fd)", [fd for fd, _ in pipes], take(queued))

        reading, writing = pipes[0]
        os.write(writing, b"x")
        yield same("sent to the process: it is pending for", "any thread", pending(queued))
        take(queued)
        send_signal(reading, queued, to_thread=True)
        os.write(writing, b"x")
        yield same("sent to a thread (F_OWNER_TID): pending for", "this thread", pending(queued))
        take(queued)

        with queue_of(0):
            os.write(writing, b"x")
            yield same("write while the queue is full: SIGRTMINs", 0, len(take(queued)))
            yield same("and SIGIOs in their place", 1, len(take(signal.SIGIO)))


def send_signal(fd: int, number: int, to_thread: bool = False) -> None:
    """Have a descriptor send this signal (0: SIGIO, which says no more) to the process, or to this thread."""
    kind, who = (F_OWNER_TID, threading.get_native_id()) if to_thread else (F_OWNER_PID, os.getpid())
    fcntl.fcntl(fd, F_SETOWN_EX, struct.pack("ii", kind, who))
    fcntl.fcntl(fd, fcntl.F_SETSIG, number)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


def take(number: int) -> list[int]:
    """Take all pending signals of this number from the queue; return their si_fd, which Python's own call drops."""
    libc = ctypes.CDLL(None)
    mask, info, at_once = (ctypes.create_string_buffer(size) for size in (128, 128, 16))
    libc.sigemptyset(mask)
    libc.sigaddset(mask, int(number))
    taken = []
    while libc.sigtimedwait(mask, info, at_once) == number:
        taken.append(struct.unpack_from("24xi", info)[0])  # siginfo_t of 64-bit Linux
    return taken


def pending(number: int) -> str:
    """Whose queue a blocked signal waits in: /proc/PID/status has a mask of the thread's and one of the process's."""
    lines = dict(line.split(":\t", 1) for line in Path("/proc/thread-self/status").read_text().splitlines())
    bit = 1 << (number - 1)
    found = {"SigPnd": "this thread", "ShdPnd": "any thread"}
    return " and ".join(whose for mask, whose in found.items() if int(lines[mask], 16) & bit)


@contextmanager
def blocked(*numbers: int) -> Iterator[None]:
    """Keep signals from being delivered; nothing of them is left at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        for number in numbers:
            take(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def queue_of(number: int) -> Iterator[None]:
    """Let the process queue so many signals at most."""
    before = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, before)


def unavailable() -> str:
    """A descriptor that sends real-time signals is Linux's own."""
    if not hasattr(fcntl, "F_SETSIG"):
        return "fcntl has no F_SETSIG here: it is Linux's, and Python's from 3.11 on"
    if struct.calcsize("l") != 8:
        return "siginfo_t is known to this experiment for 64-bit systems only"
    return "" if Path("/proc/thread-self/status").exists() else "/proc is not mounted here"


EXPERIMENT = Experiment(
    name="signal-driven",
    claim="the kernel signals that a descriptor has changed; the reading is still to be done",
    run=run,
    unavailable=unavailable,
)
