"""Completion I/O with io_uring(7): the kernel is told what to do, and tells when it has done it.

    io_uring_enter([read 5]) = 5 has been read --> io_uring_enter([write 5 -> read 5]) = 5 has been read --> ...

With epoll the kernel says that a read would not block, and the server makes it. Here the server hands over the read
itself, buffer and all, and finds the bytes in the buffer when the kernel reports. Two queues in memory that both sides
share carry that:

    submission queue    The server writes an entry for each operation: accept, read, write. No system call.
    completion queue    The kernel writes an entry for each that is done: the `user_data` of the submission, by which
                        the server knows what this was, and what the system call would have returned. No system call.

One io_uring_enter(2) does the rest: the kernel takes all that was submitted, does at once what it can (a write as a
rule), keeps the others (a read without bytes) until their descriptor is ready, and the server sleeps until at least one
operation is complete. What wakes it is a finished operation, not a readiness.

The write of an echo and the read that follows it are linked (IOSQE_IO_LINK): the kernel begins the second when the
first is done, without asking. A write that was done whole makes no completion (IOSQE_CQE_SKIP_SUCCESS), one that
failed or fell short does, and its read is then dropped. So one echo is one io_uring_enter when messages come one by
one, and a share of one when many come at once: all that has come since the last call is reaped, and answered with the
next.

What it costs as connections grow: nothing for those that are idle but memory. A read that waits holds its buffer,
RECV_SIZE for every connection, where a server that waits for readiness needs one in all (uring_multishot.py mends
that). A peer that never reads holds up its own write, and with it its own next read, and nothing else.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import socket
import time
from itertools import count
from typing import Any, Callable, Dict, List, Optional, Tuple

from servers.contract import EXHAUSTED, PAUSE_S, RECV_SIZE, Channel, Listener, Strategy, describe

# Submissions that fit in between two calls; the completion queue has twice as many. What does not fit is not lost: a
# full submission queue is submitted, and what the completion queue can't hold waits in the kernel.
ENTRIES = 4096

# `user_data` is a connection's number times two, plus the operation. Numbers are not used twice, as descriptors are.
READ, WRITE = 0, 1
ACCEPT, WAITING = 0, 1  # connection number 0 is the listener

MISSING = "pip install 'iobench[uring]'"

REFUSALS = {
    errno.ENOSYS: "the kernel has no io_uring (ENOSYS): it takes Linux 6.1 or later, and a seccomp filter that lets it",
    errno.EPERM: "io_uring is disabled here (EPERM): see sysctl kernel.io_uring_disabled, or the seccomp filter of the"
    " container",
    errno.EINVAL: "the kernel's io_uring is too old (EINVAL): IORING_SETUP_DEFER_TASKRUN takes Linux 6.1 or later",
    errno.ENOMEM: "no memory for io_uring (ENOMEM): before Linux 5.12 it counts against RLIMIT_MEMLOCK (ulimit -l)",
}


# Errors of io_uring_enter(2) after which it can be called again: a signal, no memory, no room for completions.
PASSING = (errno.EINTR, errno.EAGAIN, errno.EBUSY)

# An entry of the completion queue: user_data, what the system call would have returned or minus the errno, and flags.
Completion = Tuple[int, int, int]


class Ring:
    """A submission queue and a completion queue."""

    def __init__(self, entries: int = ENTRIES) -> None:
        """Set them up. Raises RuntimeError with the reason where that is impossible."""
        self.liburing = import_liburing()
        self._ring = self.liburing.Ring()
        self._entry = self.liburing.Cqe()
        self._done: List[Completion] = []
        # One thread submits, and completions are worked on when it asks for them: it is not interrupted for each.
        flags = self.liburing.IORING_SETUP_SINGLE_ISSUER | self.liburing.IORING_SETUP_DEFER_TASKRUN
        try:
            self.liburing.io_uring_queue_init(entries, self._ring, flags)
        except OSError as error:
            number = error.errno or 0
            raise RuntimeError(REFUSALS.get(number, f"io_uring_setup fails ({describe(failure(number))})")) from None

    def close(self) -> None:
        """Give up the queues, and cancel what is under way."""
        self.liburing.io_uring_queue_exit(self._ring)

    def put(self, entry: Any) -> None:
        """Copy a prepared entry, or a chain of them, into the submission queue."""
        while not self.liburing.put_sqe(self._ring, entry):
            self._enter(self.liburing.io_uring_submit)

    def wait(self) -> List[Completion]:
        """Submit everything, sleep until something is complete, and take all completions out of the queue.

        There may be none: a signal came that raised nothing, or the kernel has no memory for what was submitted.
        """
        self._enter(self.liburing.io_uring_submit_and_wait, 0 if self._done else 1)
        self._reap()
        done, self._done = self._done, []
        return done

    def _enter(self, call: Callable[..., Any], *arguments: int) -> None:
        """Make an io_uring_enter(2), which may have submitted nothing or not all: the queue is kept. Raises OSError.

        "The application should wait for some completions and try again", says io_uring_enter(2) of EAGAIN and EBUSY. In
        the queue some may be already, and EBUSY lasts for as long as they stay there. If there are none, a sleep until
        there are might have no end: our peers may wait for what was not submitted.
        """
        try:
            call(self._ring, *arguments)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._reap()
            if not self._done and error.errno != errno.EINTR:
                time.sleep(PAUSE_S)

    def _reap(self) -> None:
        """Take all completions out of the queue, to be handed out by `wait`."""
        reaped = 0
        for _ in self.liburing.CqeIter(self._ring, self._entry):
            entry = self._entry[0]
            try:
                result = entry.res
            except OSError as error:
                result = -(error.errno or 0)
            self._done.append((entry.user_data, result, entry.flags))
            reaped += 1
        self.liburing.io_uring_cq_advance(self._ring, reaped)


def failure(number: int) -> OSError:
    """The exception for an errno."""
    return OSError(number, os.strerror(number))


def import_liburing() -> Any:
    """Import the package. Raises RuntimeError, saying how to get it."""
    try:
        return importlib.import_module("liburing")
    except ModuleNotFoundError:
        raise RuntimeError(MISSING) from None


class Acceptor:
    """Accepts through the ring; and where the kernel has no descriptor left for that, from the listener itself.

    `prepare` is the wheel's function for the kind of accept, single-shot or multishot.
    """

    def __init__(self, ring: Ring, listener: Listener, prepare: Callable[..., None]) -> None:
        # A descriptor with O_NONBLOCK is not waited for: its operation would complete with EAGAIN.
        listener.set_blocking(True)
        self.ring = ring
        self.listener = listener
        self.more = ring.liburing.IORING_CQE_F_MORE
        self.accept = ring.liburing.Sqe()
        prepare(self.accept, listener.fd, None, socket.SOCK_CLOEXEC)
        self.accept.user_data = ACCEPT
        self.poll = ring.liburing.Sqe()
        ring.liburing.io_uring_prep_poll_add(self.poll, listener.fd, select.POLLIN)
        self.poll.user_data = WAITING
        ring.put(self.accept)

    def take(self, user_data: int, result: int, flags: int) -> Optional[Channel]:
        """Return the channel that a completion of ours brings, if it does; and ask for the next one.

        Raises OSError for what no other connection will mend.
        """
        if result < 0:
            if -result not in EXHAUSTED:
                self.listener.pass_over(failure(-result))
            # accept(2) looks for a descriptor, and a firewall is asked, before it looks at the queue: tried again at
            # once, it would fail at once, for ever. So wait for somebody whom the listener can accept, or refuse.
            self.ring.put(self.poll)
            return None
        if not flags & self.more:
            self.ring.put(self.accept)
        return self.accept_waiting() if user_data == WAITING else self.adopt(result)

    def adopt(self, fd: int) -> Optional[Channel]:
        """Make a channel of what the kernel accepted."""
        return self.listener.adopt(fd)

    def accept_waiting(self) -> Optional[Channel]:
        """Accept or refuse those in the queue, without waiting for more; the channel is a blocking one."""
        self.listener.set_blocking(False, channels=True)
        channel = self.listener.accept()
        self.listener.set_blocking(True)
        return channel


class Connection:
    """A channel, the buffer that the kernel reads into, and the bytes that it is writing.

    Both must stay where they are until the kernel has done with them. The submissions are prepared once.
    """

    def __init__(self, ring: Ring, channel: Channel, number: int) -> None:
        self.ring = ring
        self.channel = channel
        self.buffer = bytearray(RECV_SIZE)
        self.view = memoryview(self.buffer)
        self.unsent = b""
        liburing = ring.liburing
        self.prepare_write = liburing.io_uring_prep_write
        self.echo = liburing.Sqe(2)
        self.write, read = self.echo[0], self.echo[1]
        self.first_read = liburing.Sqe()
        for entry in (read, self.first_read):
            liburing.io_uring_prep_read(entry, channel.rfd, self.buffer)
            entry.user_data = 2 * number + READ
        self.write.user_data = 2 * number + WRITE
        self.write.flags = liburing.IOSQE_IO_LINK | liburing.IOSQE_CQE_SKIP_SUCCESS
        ring.put(self.first_read)

    def go_on(self, operation: int, result: int) -> bool:
        """Submit what follows on a completion; False if it was the last one."""
        if result <= 0:
            return False  # end-of-file, or ECONNRESET, EPIPE: the peer has gone
        if operation == READ:
            self.unsent = bytes(self.view[:result])
        else:  # short, or there would be no completion
            self.unsent = self.unsent[result:]
        self.prepare_write(self.write, self.channel.wfd, self.unsent)
        self.ring.put(self.echo)
        return True


def serve(listener: Listener) -> None:
    """Submit, sleep, reap, for ever."""
    ring = Ring()
    acceptor = Acceptor(ring, listener, ring.liburing.io_uring_prep_accept)
    connections: Dict[int, Connection] = {}
    numbers = count(1)
    while True:
        for user_data, result, flags in ring.wait():
            number = user_data >> 1
            if number == 0:
                channel = acceptor.take(user_data, result, flags)
                if channel is not None:
                    number = next(numbers)
                    connections[number] = Connection(ring, channel, number)
            elif not connections[number].go_on(user_data & 1, result):
                # Nothing else of this connection is in the ring: a close would not reach what is.
                connections.pop(number).channel.close()


def probe() -> None:
    """Raise where io_uring is not to be had, with the reason."""
    Ring(entries=2).close()


STRATEGIES = (
    Strategy(
        name="io_uring",
        summary="io_uring: operations are queued, done by the kernel and reported, many with one system call",
        serve=serve,
        model="completion",
        probe=probe,
    ),
)
