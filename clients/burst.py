"""Bursts: one message on every connection, written back to back; when the last echo is in, the next round begins.

Every round brings the server exactly as many messages as there are connections, none before the last one is answered:
the counts of its system calls and wake-ups per message can be repeated. Whether it finds the whole round at its first
wake-up is up to the scheduler: on the load thread's CPU it does as a rule; on a CPU of its own it is awake at the first
message, while the others are being written. With several load threads each has its own rounds.

A job may have a fixed number of rounds: after the last one it is quiet, with all connections open, so that whoever
counts can read at a moment when nothing is under way.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined
from clients.connections import (
    DONE,
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


def burst(table: Table) -> Callable[[int], int]:
    """Return the function that runs rounds on a table until a time, and says why it came back.

    A round is over when no running connection has an echo outstanding: one that is given up, after `timeout_s` at the
    latest, is not waited for any longer, and the rounds after it are smaller.
    """
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
def _write(shared, connection, row, words, event):  # type: ignore[no-untyped-def]
    if connection.written == connection.begun_bytes or write_message(shared, connection, row, words, event):
        want_room(shared, connection, row, 0, event)


@inlined
def _begin_round(shared, connections, times_ns, words, timespec, event):  # type: ignore[no-untyped-def]
    for row in range(len(connections)):
        connection = connections[row]
        if connection.ended == RUNNING:
            begin_message(shared, connection, row, times_ns, timespec)
            _write(shared, connection, row, words, event)


@inlined
def _end_round(shared):  # type: ignore[no-untyped-def]
    if shared.in_round == 1 and shared.outstanding == 0:
        shared.rounds += 1
        shared.in_round = 0


@compiled
def advance(  # type: ignore[no-untyped-def]
    shared_row, connections, times_ns, counts, events, inbound, words, timespec, event, until_ns
):
    """Run the workload until `until_ns` (CLOCK_MONOTONIC); returns why it came back. Call again to go on."""
    shared = shared_row[0]
    now_ns = wire.monotonic_ns(timespec)
    while now_ns < until_ns:
        _end_round(shared)  # Python may have given up whom it waited for
        if shared.outstanding == 0:
            if shared.running == 0 or shared.stopping == 1:
                return IDLE
            if shared.most_rounds > 0 and shared.rounds >= shared.most_rounds:
                return DONE
            shared.in_round = 1
            _begin_round(shared, connections, times_ns, words, timespec, event)
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
            if connection.ended == RUNNING:
                _write(shared, connection, row, words, event)
        _end_round(shared)
    return REACHED
