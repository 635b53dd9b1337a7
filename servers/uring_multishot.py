"""io_uring with as little said as possible: one accept and one read for ever, into buffers that the kernel chooses.

    io_uring_enter() = 5 has been read, more may follow --> io_uring_enter([write 5]) = 5 is written --> ...

In uring.py every operation is submitted, and done once. Here most submissions are left out:

    multishot accept    Submitted once; every connection makes a completion (IORING_CQE_F_MORE: there will be others).
    multishot read      The same for a connection: submitted once, a completion whenever bytes have come.
    provided buffers    A read that waits holds no buffer. They are all in one pool, the kernel takes one when there are
                        bytes to put in, and names it in the completion. The server copies the bytes out and gives the
                        buffer back at once, with its next submissions.

A write is submitted for what has been read, one at a time for a connection. As a rule there is room and it is complete
at once. If there is none, the kernel keeps it, and if more is read meanwhile, the multishot read is cancelled until
the write is complete: else a peer that never reads would fill our memory.

When messages come one by one, an echo is two io_uring_enter(2): the first brings what was read, the second submits
the write and brings its completion, which leaves nothing to do but to sleep again. When many come at once, these too
come together, and an echo is a small share of one. That makes two submissions for each echo, the write and the
returned buffer, and two completions.

What it costs as connections grow: nothing for those that are idle, not even a buffer. When more of them are busy than
there are buffers, the others' reads end with ENOBUFS and are submitted once more, after the buffers were given back.
"""

from __future__ import annotations

import errno
import os
from itertools import count
from typing import Dict, List, Optional

from servers.contract import RECV_SIZE, Channel, Listener, Strategy, describe
from servers.limits import soft_limit
from servers.uring import Acceptor, Ring, failure

BUFFERS = 64  # RECV_SIZE each: 4 MiB
GROUP = 0  # the name of the pool

# `user_data` is a connection's number times four, plus the operation. Numbers are not used twice, as descriptors are.
READ, WRITE, CANCEL = 0, 1, 2
GIVE_BACK = 2  # of connection number 0, beside ACCEPT and WAITING

# What ends a multishot read and not its connection: no buffer was left, or it was cancelled.
INTERRUPTED = (-errno.ENOBUFS, -errno.ECANCELED)


class Pool:
    """Buffers for the kernel to choose from."""

    def __init__(self, ring: Ring, buffers: int) -> None:
        self.ring = ring
        self.views: List[memoryview] = []
        self.returns = []
        for number in range(buffers):
            buffer = bytearray(RECV_SIZE)
            entry = ring.liburing.Sqe()
            ring.liburing.io_uring_prep_provide_buffers(entry, buffer, 1, GROUP, number)
            entry.flags = ring.liburing.IOSQE_CQE_SKIP_SUCCESS
            entry.user_data = GIVE_BACK
            ring.put(entry)
            self.views.append(memoryview(buffer))
            self.returns.append(entry)

    def empty(self, number: int, size_bytes: int) -> bytes:
        """Copy what is in a buffer, and give it back."""
        data = bytes(self.views[number][:size_bytes])
        self.ring.put(self.returns[number])
        return data


class MultishotAcceptor(Acceptor):
    """An accept that is submitted once keeps to the RLIMIT_NOFILE of that moment."""

    def adopt(self, fd: int) -> Optional[Channel]:
        most = soft_limit("RLIMIT_NOFILE")
        if most is None or fd < most:
            return self.listener.adopt(fd)
        self.listener.refuse(Channel(fd, fd), describe(failure(errno.EMFILE)))
        return None


class Connection:
    """A channel, and what the kernel is doing with it.

    Completions are noted first, and what follows from all of them is submitted once: the bytes of several reads become
    one write. Two writes are never under way at a time, for they could overtake each other.
    """

    def __init__(self, ring: Ring, channel: Channel, number: int) -> None:
        self.ring = ring
        self.channel = channel
        self.received: List[bytes] = []
        self.unsent = b""  # must stay where it is until the kernel has written it
        self.reading = False
        self.cancelling = False
        self.ended = False
        liburing = ring.liburing
        self.more = liburing.IORING_CQE_F_MORE
        self.has_buffer = liburing.IORING_CQE_F_BUFFER
        self.buffer_shift = liburing.IORING_CQE_BUFFER_SHIFT
        self.prepare_write = liburing.io_uring_prep_write
        self.read, self.write, self.cancel = liburing.Sqe(), liburing.Sqe(), liburing.Sqe()
        liburing.io_uring_prep_read_multishot(self.read, channel.rfd, GROUP)
        self.read.user_data = 4 * number + READ
        self.write.user_data = 4 * number + WRITE
        liburing.io_uring_prep_cancel64(self.cancel, self.read.user_data)
        self.cancel.user_data = 4 * number + CANCEL

    def note(self, operation: int, result: int, flags: int, pool: Pool) -> None:
        """Note a completion."""
        if operation == READ:
            self.reading = bool(flags & self.more)
            if flags & self.has_buffer:
                self.received.append(pool.empty(flags >> self.buffer_shift, result))
            elif result not in INTERRUPTED:
                self.ended = True  # end-of-file, or ECONNRESET
        elif operation == CANCEL:
            self.cancelling = False
        elif result > 0:
            self.unsent = self.unsent[result:]
            if self.unsent:  # it fell short: the rest is to be written before all else
                self.received.insert(0, self.unsent)
                self.unsent = b""
        else:
            self.ended = True  # EPIPE, ECONNRESET: there is nobody left to send to
            self.received = []
            self.unsent = b""

    def go_on(self) -> bool:
        """Submit what follows on what was noted; False if nothing does, and the channel can be closed."""
        if self.received and not self.unsent:
            self.unsent = b"".join(self.received)
            self.received = []
            self.prepare_write(self.write, self.channel.wfd, self.unsent)
            self.ring.put(self.write)
        if self.ended or self.received:  # what was received while the last write waits for room is all we keep
            if self.reading and not self.cancelling:
                self.cancelling = True
                self.ring.put(self.cancel)
            return bool(self.unsent) or self.reading or self.cancelling
        if not self.reading:
            self.reading = True
            self.ring.put(self.read)
        return True


def keep_freed_memory(size_bytes: int) -> None:
    """Have malloc keep that much for the next copies.

    Otherwise the copies of one round, freed together, go back to the kernel, and every page of the next ones is a page
    fault. glibc learns how much is freed and wanted again when a block of that size is freed (mallopt(3),
    M_MMAP_THRESHOLD).
    """
    bytearray(size_bytes)


def serve(listener: Listener) -> None:
    """Sleep, note all completions, submit what follows, for ever."""
    ring = Ring()
    pool = Pool(ring, BUFFERS)
    acceptor = MultishotAcceptor(ring, listener, ring.liburing.io_uring_prep_multishot_accept)
    connections: Dict[int, Connection] = {}
    numbers = count(1)
    keep_freed_memory(BUFFERS * RECV_SIZE)
    while True:
        due: Dict[int, Connection] = {}
        for user_data, result, flags in ring.wait():
            number, operation = user_data >> 2, user_data & 3
            if number:
                connection = due[number] = connections[number]
                connection.note(operation, result, flags, pool)
            elif operation == GIVE_BACK:
                raise OSError(-result, f"a buffer can't be given back ({describe(failure(-result))})")
            else:
                channel = acceptor.take(user_data, result, flags)
                if channel is not None:
                    number = next(numbers)
                    connections[number] = due[number] = Connection(ring, channel, number)
        for number, connection in due.items():
            if not connection.go_on():
                del connections[number]
                connection.channel.close()


def probe() -> None:
    """Read from a pipe in this way. Raises where that is not possible, with the reason."""
    ring = Ring(entries=4)
    channel = Channel(*os.pipe())
    try:
        pool = Pool(ring, 1)
        connection = Connection(ring, channel, number=1)
        connection.go_on()
        os.write(channel.wfd, b"?")
        for _, result, flags in ring.wait():
            if result == -errno.EINVAL:
                raise RuntimeError(
                    "the kernel's io_uring is too old (EINVAL): a multishot read takes Linux 6.7 or later"
                )
            if result < 0:
                raise RuntimeError(f"a multishot read fails ({describe(failure(-result))})")
            connection.note(READ, result, flags, pool)
    finally:
        ring.close()
        channel.close()


STRATEGIES = (
    Strategy(
        name="io_uring_multishot",
        summary="io_uring with multishot accept and read, buffers of the kernel's choice",
        serve=serve,
        model="completion",
        probe=probe,
    ),
)
