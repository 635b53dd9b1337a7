"""At the end of a job: hear every connection out, so that each echo is verified to its last byte and no loss is missed.

In a closed loop a lost echo silences its connection, and nothing comes afterwards that would tell. So the sending side
is closed: a server that has echoed all it was given then closes too, and with its end-of-file every echo that has not
come is lost. What it sends before that is compared like all else; also where nothing is outstanding, and any byte is
one too many. Where no end comes in time the server may just be slow, and nothing is said. No load is
generated here.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from clients.compiled import compiled
from clients.connections import RUNNING, WRONG_BYTES, receive
from clients.table import Ends, Table

PATIENCE_NS = 1_000_000_000  # for the ends-of-file of all connections


def hear_out(tables: Iterable[Table]) -> None:
    """Close the sending sides, and verify what comes until every connection has ended, or for PATIENCE_NS.

    What that came to is for `Table.reap` to tell. Under churn there is nothing to hear: a connection is closed with its
    echo.
    """
    speaking = [table for table in tables if not table.single]
    for table in speaking:
        table.finish_sending()
    with select.epoll() as epoll:
        place_of: dict[int, tuple[Table, int]] = {}
        for table in speaking:
            for row in _all_sent(table):
                ends = table.channels[row] = _finish_sending(table.channels[row])
                with suppress(OSError):  # ENOSPC: beyond fs.epoll.max_user_watches there is no hearing it
                    epoll.register(ends.rfd, select.EPOLLIN)
                    place_of[ends.rfd] = table, row
        end_ns = time.monotonic_ns() + PATIENCE_NS
        while place_of and (left_ns := end_ns - time.monotonic_ns()) > 0:
            for fd, _ in epoll.poll(left_ns / 1e9):
                if _hear(*place_of[fd]) != RUNNING:
                    epoll.unregister(fd)
                    del place_of[fd]


def _all_sent(table: Table) -> list[int]:
    """The connections on which no message is half written: of one that is, the end would come too early."""
    rows = table.connections
    sent = (rows["ended"] == RUNNING) & (rows["written"] == rows["begun_bytes"])
    return [row for row in np.flatnonzero(sent).tolist() if row in table.channels]


def _finish_sending(ends: Ends) -> Ends:
    """Let the server see an end-of-file; of a pipe, that takes closing its writing end."""
    if ends.rfd != ends.wfd:
        os.close(ends.wfd)
        return Ends(ends.rfd, -1)
    sock = socket.socket(fileno=ends.rfd)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
    sock.detach()
    return ends


def _hear(table: Table, row: int) -> int:
    """Read once; returns whether the connection is still RUNNING, or why it is not."""
    receive_on(
        table.shared,
        table.connections,
        row,
        table.times_ns,
        table.counts,
        table.inbound,
        table.words,
        table.timespec,
        table.event,
    )
    ended = int(table.connections[row]["ended"])
    if ended == WRONG_BYTES:
        table.keep_wrong_bytes()
    return ended


@compiled
def receive_on(  # type: ignore[no-untyped-def]
    shared_row, connections, row, times_ns, counts, inbound, words, timespec, event
):
    """Read once on a connection and verify what came."""
    receive(shared_row[0], connections[row], row, times_ns, counts, inbound, words, timespec, event)
