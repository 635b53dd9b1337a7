"""Slow peers: each connection writes a few bytes at a time, and reads as slowly, at a steady pace.

One message after the other goes out in many pieces and comes back in many; the figures are that every byte does, and
how long that takes. A server that gives a connection its whole attention until a message is complete serves nobody
else meanwhile. `trickle_bytes` and `trickle_hz` bound both directions. A load thread that is late makes up for half a
period at most and leaves the rest out, so that two turns of a connection are never less than that apart.

The connections take turns, evenly spread over a period. Nothing is asked of epoll but to sleep: there is no interest
list, since a peer that does not care to read is not woken by what it could.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import fcntl
import math
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined
from clients.connections import (
    EAGAIN,
    EINTR,
    END_OF_FILE,
    IDLE,
    INTERRUPTED,
    REACHED,
    RUNNING,
    WRONG,
    WRONG_BYTES,
    begin_message,
    give_up,
    verify,
)
from clients.payload import prepare
from clients.table import Ends, Table

BUFFER_BYTES = 4096  # of what the kernel takes in for a peer that does not read

SLOW = np.dtype(
    [
        ("piece_bytes", np.int64),
        ("gap_ns", np.float64),  # between the turns of two connections
        ("next_ns", np.float64),  # when the next turn is
        ("turn", np.int64),  # whose it is
        ("fine", np.int64),  # 0: epoll_pwait2 isn't there, so that sleeps last whole milliseconds
    ],
    align=True,
)


def slow(table: Table) -> Callable[[int], int]:
    """Return the function that trickles bytes on a table until a time, and says why it came back."""
    job = table.job
    for channel in table.channels.values():
        _shrink_buffer(channel)
    table.in_parts = True
    largest = int(max((size for size, _ in job.sizes), default=job.message_bytes))
    table.grace_ns = int(2e9 * math.ceil(largest / job.trickle_bytes) / job.trickle_hz)
    state = np.zeros(1, SLOW)
    state["piece_bytes"] = min(job.trickle_bytes, len(table.inbound))
    state["gap_ns"] = 1e9 / job.trickle_hz / len(table.connections)
    state["fine"] = 1
    withdraw_interest(table.shared, table.connections, table.event)
    return partial(
        advance,
        table.shared,
        state,
        table.connections,
        table.times_ns,
        table.counts,
        table.events,
        table.inbound,
        table.words,
        table.timespec,
        table.event,
    )


def _shrink_buffer(channel: Ends) -> None:
    """Let the kernel take in little for this end. It takes a small wish for its own minimum: 2,304 bytes, or one page.

    The buffer of a UNIX socket is the sender's, and nothing here makes that smaller.
    """
    if channel.rfd != channel.wfd:
        with suppress(OSError):  # EBUSY: it holds more already
            fcntl.fcntl(channel.rfd, fcntl.F_SETPIPE_SZ, BUFFER_BYTES)
        return
    sock = socket.socket(fileno=channel.rfd)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.detach()


@compiled
def withdraw_interest(shared_row, connections, event):  # type: ignore[no-untyped-def]
    """Take every connection out of the interest list."""
    for row in range(len(connections)):
        connection = connections[row]
        wire.epoll_ctl(shared_row[0].epoll_fd, wire.EPOLL_CTL_DEL, connection.rfd, 0, 0, event)
        if connection.wfd != connection.rfd:
            wire.epoll_ctl(shared_row[0].epoll_fd, wire.EPOLL_CTL_DEL, connection.wfd, 0, 0, event)
        connection.writable = 0


@inlined
def _read_piece(shared, slow, connection, row, times_ns, counts, inbound, words, timespec, event):  # type: ignore[no-untyped-def]
    count = wire.read(connection.rfd, wire.address(inbound), slow.piece_bytes)
    error = wire.last_error() if count < 0 else 0
    if count > 0:
        verify(
            shared,
            connection,
            row,
            count,
            wire.monotonic_ns(timespec),
            times_ns,
            counts,
            inbound,
            words,
            event,
        )
    elif count == 0:
        give_up(shared, connection, END_OF_FILE, event)
    elif error not in (EAGAIN, EINTR):
        give_up(shared, connection, error, event)


@inlined
def _write_piece(shared, slow, connection, words, event):  # type: ignore[no-untyped-def]
    size = min(connection.begun_bytes - connection.written, slow.piece_bytes)
    source = prepare(words, connection.base, connection.begun - 1, connection.written, size)
    count = wire.write(connection.wfd, source, size)
    if count >= 0:
        connection.written += count
        return
    error = wire.last_error()
    if error not in (EAGAIN, EINTR):
        give_up(shared, connection, error, event)


@inlined
def _take_turn(shared, slow, connection, row, times_ns, counts, inbound, words, timespec, event):  # type: ignore[no-untyped-def]
    """Read a piece and write a piece, of the next message where the last one is complete."""
    _read_piece(shared, slow, connection, row, times_ns, counts, inbound, words, timespec, event)
    if connection.ended != RUNNING:
        return
    if connection.begun == connection.echoed and shared.stopping == 0:
        begin_message(shared, connection, row, times_ns, timespec)
    if connection.written < connection.begun_bytes:
        _write_piece(shared, slow, connection, words, event)


@inlined
def _sleep(shared, slow, events, now_ns, until_ns, timespec):  # type: ignore[no-untyped-def]
    """Sleep until a moment; -1 where a signal came."""
    if slow.fine == 1:
        ready = wire.epoll_wait_ns(shared.epoll_fd, events, until_ns - now_ns, timespec)
        if ready >= 0 or wire.last_error() == EINTR:
            return ready
        slow.fine = 0  # ENOSYS, or EPERM where a filter does not know the call
    return np.int64(wire.epoll_wait(shared.epoll_fd, events, (until_ns - now_ns + 999_999) // 1_000_000))


@compiled
def advance(  # type: ignore[no-untyped-def]
    shared_row, slow_row, connections, times_ns, counts, events, inbound, words, timespec, event, until_ns
):
    """Run the workload until `until_ns` (CLOCK_MONOTONIC); returns why it came back. Call again to go on."""
    shared, slow = shared_row[0], slow_row[0]
    now_ns = wire.monotonic_ns(timespec)
    while now_ns < until_ns:
        if shared.running == 0 or (shared.stopping == 1 and shared.outstanding == 0):
            return IDLE
        for _ in range(len(connections)):
            if slow.next_ns > now_ns:
                break
            row = slow.turn
            slow.turn = row + 1 if row + 1 < len(connections) else 0
            slow.next_ns += slow.gap_ns
            connection = connections[row]
            if connection.ended == RUNNING:
                _take_turn(shared, slow, connection, row, times_ns, counts, inbound, words, timespec, event)
                if connection.ended == WRONG_BYTES:
                    return WRONG
        now_ns = wire.monotonic_ns(timespec)
        slow.next_ns = max(slow.next_ns, now_ns - slow.gap_ns * len(connections) / 2)
        wake_ns = min(until_ns, np.int64(slow.next_ns))
        if wake_ns > now_ns and _sleep(shared, slow, events, now_ns, wake_ns, timespec) < 0:
            return INTERRUPTED
        now_ns = wire.monotonic_ns(timespec)
    return REACHED
