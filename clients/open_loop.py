"""The open loop: messages are sent at planned times, whether or not the server has answered those before.

The plan goes to the connections in turn. What is due but can't be begun waits with its planned time standing: behind a
message that is half written, or where the cap on outstanding messages is reached, or where every connection has more
outstanding than there is room to note. Response times count from the planned time, so that waiting is never left out
(coordinated omission: G. Tene, "How NOT to measure latency", 2013); service times count from the actual send.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from clients import pacing, wire
from clients.compiled import compiled, inlined
from clients.connections import (
    IDLE,
    INTERRUPTED,
    LAG,
    PLANNED,
    REACHED,
    RECORD_PLAN,
    RUNNING,
    WRONG,
    WRONG_BYTES,
    begin_message,
    receive,
    want_room,
    write_message,
)
from clients.histogram import bucket_of
from clients.schedule import walk
from clients.table import Table

AT_ONCE = 16  # so many overdue messages are begun before the next look at what has come back


def open_loop(table: Table) -> Callable[[int], int]:
    """Return the function that runs the open loop on a table until a time, and says why it came back."""
    return partial(
        advance,
        table.shared,
        table.plan,
        table.pace,
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
def begin_planned(shared, connection, row, times_ns, counts, timespec):  # type: ignore[no-untyped-def]
    """Begin the first of the messages that wait on a connection, and note how late that is."""
    slot = connection.begun & (shared.slots - 1)
    connection.waiting -= 1
    shared.waiting -= 1
    now_ns = begin_message(shared, connection, row, times_ns, timespec)
    if shared.recording == RECORD_PLAN:
        counts[LAG, bucket_of(now_ns - times_ns[row, slot, PLANNED])] += 1
    return now_ns


@inlined
def _send(shared, connection, row, times_ns, counts, words, timespec, event):  # type: ignore[no-untyped-def]
    """Send what waits on a connection as long as there is room."""
    if connection.written < connection.begun_bytes and not write_message(shared, connection, row, words, event):
        return
    while shared.stopping == 0 and connection.waiting > 0:
        begin_planned(shared, connection, row, times_ns, counts, timespec)
        if not write_message(shared, connection, row, words, event):
            return
    want_room(shared, connection, row, 0, event)


@inlined
def _next_taker(shared, connections):  # type: ignore[no-untyped-def]
    """Return the next connection in turn that has room to note another message, or -1."""
    for _ in range(len(connections)):
        row = shared.turn
        shared.turn = row + 1 if row + 1 < len(connections) else 0
        connection = connections[row]
        if connection.ended == RUNNING and connection.begun + connection.waiting - connection.echoed < shared.slots:
            return row
    return np.int64(-1)


@inlined
def begin_due(shared, plan, connections, now_ns, times_ns, counts, words, timespec, event):  # type: ignore[no-untyped-def]
    """Begin messages that are due, not too many at once; returns the time, and whether the plan can go on."""
    for _ in range(AT_ONCE):
        if plan.next_ns > now_ns or shared.stopping == 1:
            break
        if shared.cap > 0 and shared.outstanding + shared.waiting >= shared.cap:
            return now_ns, False
        row = _next_taker(shared, connections)
        if row < 0:
            return now_ns, False
        connection = connections[row]
        times_ns[row, (connection.begun + connection.waiting) & (shared.slots - 1), PLANNED] = plan.next_ns
        connection.waiting += 1
        shared.waiting += 1
        walk(plan)
        if connection.written == connection.begun_bytes:
            now_ns = begin_planned(shared, connection, row, times_ns, counts, timespec)
            write_message(shared, connection, row, words, event)
    return now_ns, shared.stopping == 0


@compiled
def advance(  # type: ignore[no-untyped-def]
    shared_row,
    plan_row,
    pace_row,
    connections,
    times_ns,
    counts,
    events,
    inbound,
    words,
    timespec,
    event,
    until_ns,
):
    """Run the workload until `until_ns` (CLOCK_MONOTONIC); returns why it came back. Call again to go on."""
    shared, plan, pace = shared_row[0], plan_row[0], pace_row[0]
    now_ns = wire.monotonic_ns(timespec)
    while now_ns < until_ns:
        if shared.running == 0 or (shared.stopping == 1 and shared.outstanding == 0):
            return IDLE
        now_ns, goes_on = begin_due(shared, plan, connections, now_ns, times_ns, counts, words, timespec, event)
        wake_ns = min(until_ns, plan.next_ns) if goes_on else until_ns
        ready = pacing.wait(pace, shared.epoll_fd, events, now_ns, wake_ns, timespec)
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
            if connection.ended == RUNNING and connection.writable == 1:
                _send(shared, connection, row, times_ns, counts, words, timespec, event)
            if now_ns >= until_ns:
                break  # epoll reports the rest of the batch again
    return REACHED
