"""The closed loop: each connection keeps a fixed number of messages outstanding, and sends another when one returns.

Its send times follow from the server's answers, so it offers a slow server less: it measures capacity and service time,
not how a server copes with arrivals that don't wait.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined
from clients.connections import (
    IDLE,
    INTERRUPTED,
    REACHED,
    RUNNING,
    WRONG,
    WRONG_BYTES,
    begin_message,
    receive,
    want_room,
    write_message,
)
from clients.table import Table


def closed(table: Table) -> Callable[[int], int]:
    """Return the function that runs the closed loop on a table until a time, and says why it came back."""
    return partial(
        advance,
        table.shared,
        table.connections,
        table.times_ns,
        table.counts,
        table.events,
        table.inbound,
        table.words,
        table.timespec,
        table.event,
    )


@inlined
def _send(shared, connection, row, times_ns, words, timespec, event):  # type: ignore[no-untyped-def]
    """Send until `depth` messages are outstanding or there is no room."""
    if connection.written < connection.begun_bytes and not write_message(shared, connection, row, words, event):
        return
    while shared.stopping == 0 and connection.begun - connection.echoed < shared.depth:
        begin_message(shared, connection, row, times_ns, timespec)
        if not write_message(shared, connection, row, words, event):
            return
    want_room(shared, connection, row, 0, event)


@compiled
def advance(  # type: ignore[no-untyped-def]
    shared_row, connections, times_ns, counts, events, inbound, words, timespec, event, until_ns
):
    """Run the workload until `until_ns` (CLOCK_MONOTONIC); returns why it came back. Call again to go on."""
    shared = shared_row[0]
    now_ns = wire.monotonic_ns(timespec)
    while now_ns < until_ns:
        if shared.running == 0 or (shared.stopping == 1 and shared.outstanding == 0):
            return IDLE
        wait_ms = min((until_ns - now_ns + 999_999) // 1_000_000, 1_000)
        ready = wire.epoll_wait(shared.epoll_fd, events, wait_ms)
        if ready <= 0:
            now_ns = wire.monotonic_ns(timespec)
            if ready < 0:
                return INTERRUPTED
        for k in range(ready):
            row = np.int64(events[k, wire.EVENT_DATA])
            connection = connections[row]
            if connection.ended != RUNNING:
                continue  # its other descriptor had an event in the same batch
            if events[k, 0] != wire.EPOLLOUT:  # bytes, end-of-file or an error: read(2) tells
                now_ns = receive(shared, connection, row, times_ns, counts, inbound, words, timespec, event)
            else:
                now_ns = wire.monotonic_ns(timespec)
            if connection.ended == WRONG_BYTES:
                return WRONG
            if connection.ended != RUNNING:
                continue
            _send(shared, connection, row, times_ns, words, timespec, event)
            if now_ns >= until_ns:
                break  # epoll reports the rest of the batch again
    return REACHED
