"""At the end of a job: find out which of the messages still outstanding will never come back.

In a closed loop a lost echo silences its connection, and nothing comes afterwards that would tell. So the sending side
is closed: a server that has echoed all it was given then closes too, and with its end-of-file every echo that has not
come is lost. Where none comes in time the server may just be slow, and nothing is said. No load is generated here.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from clients.connections import CHUNK_BYTES, RUNNING, SENT
from clients.table import Ends, Table

PATIENCE_NS = 1_000_000_000  # for the ends-of-file of all connections


def count_lost(table: Table, sent_before_ns: int) -> Counter[str]:
    """Return how many messages sent before a moment are lost: "lost" as a whole, or "short" of their last bytes.

    The connections that had messages outstanding are of no use afterwards.
    """
    lost: Counter[str] = Counter()
    if not table.single:
        for row, arrived in _read_to_the_end(table, _waiting(table)).items():
            lost += _missing(table, row, arrived, sent_before_ns)
    return lost


def _waiting(table: Table) -> list[int]:
    """The connections that have sent all they began and wait for echoes."""
    rows = table.connections
    sent = (rows["ended"] == RUNNING) & (rows["begun"] > rows["echoed"]) & (rows["written"] == rows["begun_bytes"])
    return [row for row in np.flatnonzero(sent).tolist() if row in table.channels]


def _read_to_the_end(table: Table, rows: Iterable[int]) -> dict[int, int]:
    """Close the sending sides; return for each connection that then comes to its end how many more bytes came."""
    poll = select.poll()
    row_of = {}
    for row in rows:
        table.channels[row] = _finish_sending(table.channels[row])
        row_of[table.channels[row].rfd] = row
        poll.register(table.channels[row].rfd, select.POLLIN)
    arrived = dict.fromkeys(row_of.values(), 0)
    ended: dict[int, int] = {}
    end_ns = time.monotonic_ns() + PATIENCE_NS
    while len(ended) < len(row_of) and (left_ns := end_ns - time.monotonic_ns()) > 0:
        for fd, _ in poll.poll(left_ns // 1_000_000 + 1):
            row = row_of[fd]
            try:
                count = len(os.read(fd, CHUNK_BYTES))
            except OSError:  # a reset tells nothing of what the server had echoed
                poll.unregister(fd)
                continue
            arrived[row] += count
            if not count:
                ended[row] = arrived[row]
                poll.unregister(fd)
    return ended


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


def _missing(table: Table, row: int, arrived: int, sent_before_ns: int) -> Counter[str]:
    """Which messages of a connection have not come back, when so many more bytes came before its end."""
    connection = table.connections[row]
    missing: Counter[str] = Counter()
    left = int(connection["echo"]) + arrived
    for number in range(int(connection["echoed"]), int(connection["begun"])):
        size = table.size_of(row, number)
        if left >= size:
            left -= size
            continue
        if table.times_ns[row, number & (table.total("slots") - 1), SENT] < sent_before_ns:
            missing["short" if left else "lost"] += 1
        left = 0
    return missing
