"""Signal-driven I/O: the kernel sends a signal at the moment when a descriptor changes.

    read(signalfd) = {fd 5: POLL_IN} --> read(5) --> write(5) --> read(5) = EAGAIN --> read(signalfd) ...

With O_ASYNC set, a descriptor sends its owner (F_SETOWN_EX) a signal whenever bytes arrive, room appears or the peer
goes. F_SETSIG makes it a real-time signal: these are queued, one for each change, and each carries the number of its
descriptor. So nobody is asked and nothing is registered anywhere but in the descriptor itself: three fcntl(2) when it
is new. It works for sockets and for both ends of a pipe.

The signal is blocked and never delivered to a handler; the server sleeps in a read(2) of a signalfd(2), which takes
many out of the queue at once. One echo is read(signalfd) + read + write + the read that finds EAGAIN. A socket sends
POLL_OUT only to somebody who found no room before, but a pipe does at every read of its peer: there each message
brings a second signal and, when that comes late, an idle wake-up.

A signal is an edge, as in epoll_edge.py: it is sent once, whatever is left unread. So here too a turn goes on until
EAGAIN, but is bounded, and a connection whose turn ended early goes on by itself.

The kernel's cost follows the changes, not the connections. But where epoll reports a descriptor once, however much
happened to it since, here every change is a signal, with memory of its own; the queue is bounded (RLIMIT_SIGPENDING,
one count for all processes of a user). Once it is full the kernel sends plain SIGIO instead, which is one bit and
names nobody: then every connection has to be asked.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import threading
from typing import Dict, Iterable, List, Optional

from servers.contract import Listener, Strategy, describe
from servers.epoll_edge import take_turn
from servers.polling import Connection

# The first real-time signal that is free: glibc keeps the two before it for itself.
READY = signal.SIGRTMIN

# <asm-generic/fcntl.h>; the fcntl module has neither.
F_SETOWN_EX = 15
F_OWNER_TID = 0

# struct signalfd_siginfo, 128 bytes: ssi_signo and ssi_fd.
SIGNAL_INFO = struct.Struct("I16xi104x")

# Taken out of the queue by one read: 8 KiB of siginfo.
BATCH = 64 * SIGNAL_INFO.size


class Signals:
    """The thread's queue of blocked signals, read through a signalfd."""

    def __init__(self, numbers: Iterable[int]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        # Two descriptors of one queue: to wait, or just to look, without an fcntl in between.
        self._waiting = signalfd(numbers, os.O_CLOEXEC)
        self._looking = signalfd(numbers, os.O_CLOEXEC | os.O_NONBLOCK)

    def take(self, wait: bool) -> bytes:
        """Take all that are queued, as SIGNAL_INFOs; sleep until there is one if told to wait.

        It comes to an end even under a flood: while nobody is served, flow control soon silences every peer.
        """
        taken = batch = os.read(self._waiting, BATCH) if wait else self._look()
        while len(batch) == BATCH:
            batch = self._look()
            taken += batch
        return taken

    def _look(self) -> bytes:
        try:
            return os.read(self._looking, BATCH)
        except BlockingIOError:
            return b""

    def fileno(self) -> int:
        """What to wait for where something else is waited for as well."""
        return self._looking

    def close(self) -> None:
        """Close both descriptors; the signals stay blocked."""
        os.close(self._waiting)
        os.close(self._looking)


def signalfd(numbers: Iterable[int], flags: int) -> int:
    """signalfd(2) of a new descriptor, by way of the C library. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "signalfd"):
        raise OSError("this C library has no signalfd")
    mask = ctypes.create_string_buffer(128)  # sigset_t, in glibc and in musl
    libc.sigemptyset(mask)
    for number in numbers:
        libc.sigaddset(mask, number)
    fd = int(libc.signalfd(-1, mask, flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd: " + os.strerror(ctypes.get_errno()))
    return fd


def arm(fd: int) -> None:
    """Have a descriptor be non-blocking and send READY, with its number, to this thread. Raises OSError.

    To the thread, not to the process: any other thread that does not block the signal would die of it, and all with it.
    """
    fcntl.fcntl(fd, F_SETOWN_EX, struct.pack("ii", F_OWNER_TID, threading.get_native_id()))
    fcntl.fcntl(fd, fcntl.F_SETSIG, READY)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def serve(listener: Listener) -> None:
    """Give a turn to each connection that sent a signal, and to each whose last turn ended before EAGAIN."""
    listener.set_blocking(False, channels=True)  # arm() sets O_NONBLOCK along with O_ASYNC
    signals = Signals((READY, signal.SIGIO))
    # An inherited listener may be armed already, by and for another process: only O_ASYNC set anew notes our number.
    fcntl.fcntl(listener.fd, fcntl.F_SETFL, os.O_NONBLOCK)
    arm(listener.fd)
    connections: Dict[int, Connection] = {}  # by each of their descriptors
    unfinished: List[Connection] = []
    awaited = True  # somebody may be in the listener's queue: whoever came before it was armed sent no signal
    while True:
        taken = signals.take(wait=not unfinished and not awaited)
        changed = [fd for number, fd in SIGNAL_INFO.iter_unpack(taken) if number == READY]
        if len(changed) * SIGNAL_INFO.size < len(taken):
            changed = [listener.fd, *connections]  # SIGIO: signals were lost, and anybody's may be among them
        # Once each, in the order of the signals. One that was queued when its descriptor was closed names nobody by
        # now, or a newer connection under the same number: that costs a read that finds EAGAIN.
        due = dict.fromkeys(unfinished + [connections[fd] for fd in changed if fd in connections])
        unfinished = []
        for connection in due:
            try:
                if not take_turn(connection):
                    unfinished.append(connection)
            except (OSError, EOFError):
                del connections[connection.rfd]
                connections.pop(connection.wfd, None)
                connection.channel.close()  # it sends no more signals: no other process has a copy
        if awaited or listener.fd in changed:
            newcomer = welcome(listener)
            if newcomer is not None:
                connections[newcomer.rfd] = connections[newcomer.wfd] = newcomer
                unfinished.append(newcomer)  # what it sent before it was armed sent no signal
            awaited = newcomer is not None or is_readable(listener.fd)


def welcome(listener: Listener) -> Optional[Connection]:
    """Accept one connection and arm it, once, for everything that it will ever wait for."""
    channel = listener.accept()
    if channel is None:
        return None
    try:
        for fd in set(channel):
            arm(fd)
    except OSError as error:
        listener.refuse(channel, describe(error))
        return None
    return Connection(channel)


def is_readable(fd: int) -> bool:
    """Whether somebody is in the listener's queue even so: one who could not be accepted sends no second signal."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def probe() -> None:
    """Have a socket send a signal, and take it from the queue."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signals = Signals((READY, signal.SIGIO))
    ours, other = socket.socketpair()
    try:
        arm(ours.fileno())
        other.send(b"?")
        if (READY, ours.fileno()) not in SIGNAL_INFO.iter_unpack(signals.take(wait=False)):
            raise OSError("F_SETSIG: a socket with O_ASYNC sends no signal that names it")
    finally:
        ours.close()
        other.close()
        signals.take(wait=False)  # one that were left would end this process as soon as it is let through
        signals.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


STRATEGIES = (
    Strategy(
        name="sigio",
        summary="signal-driven I/O: O_ASYNC queues a real-time signal for each change, taken from a signalfd",
        serve=serve,
        model="signal",
        probe=probe,
    ),
)
