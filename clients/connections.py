"""The connections of one load thread: their state, and what compiled code does with one: send, receive, give up.

When a message is due is the workload's business, not this file's. A connection is one row of a table (64 bytes, so that
an event touches few cache lines), what they share is the single row of another, and nothing is allocated here.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import errno
from typing import Any

import numpy as np

from clients import sizes, wire
from clients.compiled import compiled, inlined
from clients.histogram import bucket_of
from clients.payload import prepare

CHUNK_BYTES = 256 * 1024  # at most so much is read or written at once
LEAST_BYTES = 4096  # and so much is tried to write, at least
EVENTS = 512  # at most so many are taken from one epoll_wait

CONNECTION = np.dtype(
    [
        ("rfd", np.int32),
        ("wfd", np.int32),
        ("base", np.uint64),  # what its messages are generated from
        ("begun", np.int64),  # messages whose sending began: 0 ... begun - 1
        ("echoed", np.int64),  # messages whose echo is complete and right: 0 ... echoed - 1
        ("written", np.int64),  # bytes that have gone out of message begun - 1
        ("echo", np.int64),  # bytes that have come back of message echoed
        ("begun_bytes", np.int32),  # the size of message begun - 1
        ("echo_bytes", np.int32),  # the size of message echoed
        ("ended", np.int16),  # RUNNING, or why it was given up
        ("writable", np.int16),  # 1 while epoll is asked to say when there is room to write
        ("waiting", np.int32),  # messages due whose sending has not begun: begun ... begun + waiting - 1
    ],
    align=True,
)

SHARED = np.dtype(
    [
        ("epoll_fd", np.int64),
        ("message_bytes", np.int64),  # of every message, unless `size_count` says that sizes differ
        ("chunk_bytes", np.int64),  # at most so much is written at once: about what was taken the last time
        ("depth", np.int64),  # messages outstanding on each connection
        ("slots", np.int64),  # a power of two >= depth: the times of message n are in slot n % slots
        ("recording", np.int64),  # RECORD_NOTHING, RECORD_SERVICE or RECORD_PLAN
        ("stopping", np.int64),  # 1: begin no further message
        ("running", np.int64),  # connections not given up
        ("begun", np.int64),
        ("completed", np.int64),
        ("outstanding", np.int64),  # begun and not completed, on the running connections
        ("waiting", np.int64),  # due and assigned to one of them, but not begun
        ("suspect", np.int64),  # the connection whose bytes were wrong, -1 if none
        ("suspect_from", np.int64),  # where in `inbound` the unverified bytes begin, and where they end
        ("suspect_to", np.int64),
        ("echoed_bytes", np.int64),  # of whole messages; counted only where sizes differ
        ("cap", np.int64),  # open loop: outstanding and waiting at most, 0 for any number
        ("turn", np.int64),  # open loop: the connection that the next message of the plan goes to
        ("rounds", np.int64),  # burst: rounds that are over
        ("most_rounds", np.int64),  # burst: after so many it is done; 0 is never
        ("in_round", np.int64),  # burst: 1 from the first write of a round to the last echo
        ("connects", np.int64),  # churn: connections opened
        *sizes.FIELDS,
    ],
    align=True,
)

# Of a message two times are kept until its echo has come ...
SENT, PLANNED = 0, 1
# ... and what becomes of them is counted in these histograms (service and response time from one or the other).
SERVICE, RESPONSE, LAG, CONNECT = 0, 1, 2, 3
HISTOGRAMS = 4

RECORD_NOTHING = 0
RECORD_SERVICE = 1
RECORD_PLAN = 2  # response time and lag too

# Why a connection was given up; an errno is its own number.
RUNNING = 0
END_OF_FILE = -1
WRONG_BYTES = -2
TIMED_OUT = -3

# Why a workload came back to Python.
REACHED = 0  # the time was reached
IDLE = 1  # nothing is left to do: no connection is running, or all have stopped
WRONG = 2  # wrong bytes came: SHARED.suspect says where they are in `inbound`, until the next call
INTERRUPTED = 3  # a signal came: let Python run its handler
DONE = 4  # all that was asked for has been sent and answered; the connections stay open

EAGAIN, EINTR = errno.EAGAIN, errno.EINTR

Rows = np.ndarray[Any, np.dtype[np.void]]
Words = np.ndarray[Any, np.dtype[np.int64]]


@inlined
def give_up(shared, connection, reason, event):  # type: ignore[no-untyped-def]
    """Take a connection out of the interest list and note why. Python closes it and counts what was outstanding."""
    wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_DEL, connection.rfd, 0, 0, event)
    if connection.writable == 1 and connection.wfd != connection.rfd:
        wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_DEL, connection.wfd, 0, 0, event)
    connection.ended = reason
    shared.running -= 1
    shared.outstanding -= connection.begun - connection.echoed
    shared.waiting -= connection.waiting


@inlined
def want_room(shared, connection, row, wanted, event):  # type: ignore[no-untyped-def]
    """Ask epoll to say when there is room to write, or to say so no longer."""
    if connection.writable == wanted:
        return
    connection.writable = wanted
    if connection.wfd == connection.rfd:
        interest = wire.EPOLLIN | wire.EPOLLOUT if wanted == 1 else wire.EPOLLIN
        wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_MOD, connection.rfd, interest, row, event)
    elif wanted == 1:
        wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_ADD, connection.wfd, wire.EPOLLOUT, row, event)
    else:
        wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_DEL, connection.wfd, 0, 0, event)


@inlined
def begin_message(shared, connection, row, times_ns, timespec):  # type: ignore[no-untyped-def]
    """Begin the next message: note the moment, and return it. `write_message` sends it."""
    now_ns = wire.monotonic_ns(timespec)
    times_ns[row, connection.begun & (shared.slots - 1), SENT] = now_ns
    if shared.size_count > 0:
        connection.begun_bytes = sizes.size_of(shared, connection.base, connection.begun)
    connection.begun += 1
    connection.written = 0
    shared.begun += 1
    shared.outstanding += 1
    return now_ns


@inlined
def write_message(shared, connection, row, words, event):  # type: ignore[no-untyped-def]
    """Write the newest message, or go on writing it; returns whether all of it has gone.

    One write a call: a long message takes turns with the other connections, at the pace of its EPOLLOUT events.
    """
    size = min(connection.begun_bytes - connection.written, shared.chunk_bytes)
    source = prepare(words, connection.base, connection.begun - 1, connection.written, size)
    count = wire.write(connection.wfd, source, size)
    if count < 0:
        error = wire.last_error()
        if error not in (EAGAIN, EINTR):
            give_up(shared, connection, error, event)
            return False
        count = 0
    connection.written += count
    if connection.written == connection.begun_bytes:
        return True
    shared.chunk_bytes = min(max(2 * count, LEAST_BYTES), CHUNK_BYTES)
    want_room(shared, connection, row, 1, event)
    return False


@inlined
def _suspect(shared, connection, row, start, end, event):  # type: ignore[no-untyped-def]
    shared.suspect = row
    shared.suspect_from = start
    shared.suspect_to = end
    give_up(shared, connection, WRONG_BYTES, event)


@inlined
def verify(shared, connection, row, count, now_ns, times_ns, counts, inbound, words, event):  # type: ignore[no-untyped-def]
    """Check `count` bytes at the start of `inbound` and record each message they complete, up to the first wrong one.

    A byte is wrong that differs from the one sent, and so is one that comes before any was sent that it could echo.
    """
    start = 0
    while start < count:
        outstanding = connection.begun - connection.echoed
        gone = connection.written if outstanding == 1 else np.int64(connection.echo_bytes)
        size = min(count - start, gone - connection.echo)
        if outstanding == 0 or size <= 0:
            _suspect(shared, connection, row, start, count, event)
            return
        expected = prepare(words, connection.base, connection.echoed, connection.echo, size)
        if not wire.same(expected, wire.address(inbound) + start, size):
            _suspect(shared, connection, row, start, count, event)
            return
        start += size
        connection.echo += size
        if connection.echo == connection.echo_bytes:
            if shared.recording != RECORD_NOTHING:
                slot = connection.echoed & (shared.slots - 1)
                counts[SERVICE, bucket_of(now_ns - times_ns[row, slot, SENT])] += 1
                if shared.recording == RECORD_PLAN:
                    counts[RESPONSE, bucket_of(now_ns - times_ns[row, slot, PLANNED])] += 1
            connection.echoed += 1
            connection.echo = 0
            shared.completed += 1
            shared.outstanding -= 1
            if shared.size_count > 0:
                shared.echoed_bytes += connection.echo_bytes
                connection.echo_bytes = sizes.size_of(shared, connection.base, connection.echoed)


@inlined
def receive(shared, connection, row, times_ns, counts, inbound, words, timespec, event):  # type: ignore[no-untyped-def]
    """Read once and verify what came; returns the moment of the read. `connection.ended` tells whether it went on."""
    count = wire.read(connection.rfd, wire.address(inbound), CHUNK_BYTES)
    error = wire.last_error() if count < 0 else 0
    now_ns = wire.monotonic_ns(timespec)
    if count > 0:
        verify(shared, connection, row, count, now_ns, times_ns, counts, inbound, words, event)
    elif count == 0:
        give_up(shared, connection, END_OF_FILE, event)
    elif error not in (EAGAIN, EINTR):
        give_up(shared, connection, error, event)
    return now_ns


@compiled
def register(shared_row, connections, event):  # type: ignore[no-untyped-def]
    """Put every connection into the interest list, for reading and for writing; returns 0 or an errno.

    There is room to write at once, so the first epoll_wait is what makes each connection send.
    """
    shared = shared_row[0]
    for row in range(len(connections)):
        connection = connections[row]
        if connection.rfd < 0:
            continue  # it is opened later
        connection.writable = 1
        both = connection.wfd == connection.rfd
        interest = wire.EPOLLIN | wire.EPOLLOUT if both else wire.EPOLLIN
        if wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_ADD, connection.rfd, interest, row, event) < 0:
            return wire.last_error()
        if not both:
            interest = wire.EPOLLOUT
            if wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_ADD, connection.wfd, interest, row, event) < 0:
                return wire.last_error()
    return 0


@compiled
def give_up_overdue(shared_row, connections, times_ns, sent_before_ns, event):  # type: ignore[no-untyped-def]
    """Give up every connection that waits for the echo of a message sent before a moment."""
    shared = shared_row[0]
    for row in range(len(connections)):
        connection = connections[row]
        if connection.ended != RUNNING or connection.begun == connection.echoed:
            continue
        if times_ns[row, connection.echoed & (shared.slots - 1), SENT] < sent_before_ns:
            give_up(shared, connection, TIMED_OUT, event)


@compiled
def postpone(shared_row, connections, times_ns, by_ns):  # type: ignore[no-untyped-def]
    """Move the times of all messages that have begun, or wait to, and have not been answered: nothing ran meanwhile."""
    shared = shared_row[0]
    for row in range(len(connections)):
        connection = connections[row]
        if connection.ended == RUNNING:
            for number in range(connection.echoed, connection.begun + connection.waiting):
                times_ns[row, number & (shared.slots - 1), SENT] += by_ns
                times_ns[row, number & (shared.slots - 1), PLANNED] += by_ns
