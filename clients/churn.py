"""Churn: connect, one echo, close, and again, on each of `connections` slots: what accepting and letting go costs.

Service time runs from the beginning of connect to the last byte of the echo; the connect has a histogram of its own, on
a pipe transport up to the moment when the pipes are in hand. Beforehand a connection or two see who is there.

The client closes first, and in an orderly way: the server reads end-of-file, as from any client that has what it came
for, and it is the client's end that stays in TIME_WAIT for 60 s (RFC 9293, 3.6). That takes a local port for the pair
of addresses, of which there are 28,232 (net.ipv4.ip_local_port_range): 470 connections a second would use them up.
Closing with SO_LINGER 0 would avoid it, but sends RST: the server's read would fail, or its epoll report an error, and
that is not the load that is meant. Waiting for the server to close first would be waiting for ever: an echo server
closes when it reads end-of-file. What makes room instead:

- to 127.0.0.0/8 the connections come from 64 addresses in turn, which gives 1.8 million ports, for 30,000 connections a
  second and more. The port is left to connect(2) (sockets.bind_source). Of more than net.ipv4.tcp_max_tw_buckets
  connections, 262,144 at most by default, the kernel does not keep the TIME_WAIT anyway: their ports are free at once;
- to ::1, which has no neighbours, the kernel takes a port in TIME_WAIT again after a second (net.ipv4.tcp_tw_reuse = 2,
  the default since Linux 4.19: on loopback, where both ends send timestamps): some 28,000 a second;
- to any other machine there is only that limit. A connection that finds no port is an error, `eaddrnotavail`.

A slot that failed rests for 100 ms and more, so that a dead server isn't asked a million times. Bytes after the echo
are noticed if they come with it; a connection that is closed is not listened to.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from clients import sockets, wire
from clients.compiled import compiled, inlined
from clients.connections import (
    CONNECT,
    END_OF_FILE,
    IDLE,
    INTERRUPTED,
    REACHED,
    RECORD_NOTHING,
    RUNNING,
    SENT,
    WRONG,
    WRONG_BYTES,
    begin_message,
    give_up,
    receive,
    want_room,
    write_message,
)
from clients.histogram import bucket_of
from clients.job import JobError
from clients.table import Ends, Table
from servers.transport import dial, parse

SOURCES = 64  # loopback addresses that connections come from in turn
RETRY_NS = 1_000_000  # nothing tells when a full backlog of a UNIX socket has room again
REST_NS = 100_000_000  # after a failure

# What a slot is at.
CLOSED = 0  # no descriptor
BACKLOGGED = 1  # the server's backlog is full: connect(2) is to be tried again
OPENING = 2  # the handshake is under way
HANDOVER = 3  # connected to the socket over which the pipes will come
OPEN = 4

CHURN = np.dtype(
    [
        ("family", np.int64),
        ("pipes", np.int64),  # 1: what is connected to hands over two pipes
        ("name_bytes", np.int64),  # length of the socket address connected to, names[0]
        ("source_bytes", np.int64),  # and of those in names[1 ... sources]
        ("sources", np.int64),
        ("next_source", np.int64),
        ("backlogged", np.int64),  # slots that are
        ("retry_ns", np.int64),  # when they are tried again
    ],
    align=True,
)
_NAME_BYTES = 128  # sizeof(struct sockaddr_storage)

_INET, _UNIX = int(socket.AF_INET), int(socket.AF_UNIX)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
_EINPROGRESS, _EISCONN, _EAGAIN, _EINTR = errno.EINPROGRESS, errno.EISCONN, errno.EAGAIN, errno.EINTR


class Slots(NamedTuple):
    """All the arrays that compiled code works on: those of a table, and churn's own."""

    shared: Any
    connections: Any
    times_ns: Any
    counts: Any
    events: Any
    inbound: Any
    words: Any
    timespec: Any
    event: Any
    churning: Any
    phases: Any
    names: Any
    scratch: Any
    ends: Any


def churn(table: Table) -> Callable[[int], int]:
    """Return the function that runs the slots of a table until a time, and says why it came back.

    Raises JobError where the server can't be reached any more.
    """
    table.single = True
    slots = _slots(table)
    rested_ns = 0

    def run(until_ns: int) -> int:
        nonlocal rested_ns
        now_ns = time.monotonic_ns()
        if now_ns - rested_ns >= REST_NS and not table.total("stopping"):
            rested_ns = now_ns
            _revive(table, slots.phases)
        running = table.connections["ended"] == RUNNING
        slots.churning["backlogged"] = np.count_nonzero(running & (slots.phases == BACKLOGGED))
        try:
            return int(advance(slots, until_ns))
        finally:
            _tell_descriptors(table)

    return run


def _slots(table: Table) -> Slots:
    churning = np.zeros(1, CHURN)
    return Slots(
        table.shared,
        table.connections,
        table.times_ns,
        table.counts,
        table.events,
        table.inbound,
        table.words,
        table.timespec,
        table.event,
        churning,
        phases=np.zeros(len(table.connections), np.int64),
        names=_names(table.job.address, table.job.timeout_s, churning),
        scratch=np.zeros(sockets.SCRATCH_WORDS, np.int64),
        ends=np.zeros(2, np.int32),
    )


def _tell_descriptors(table: Table) -> None:
    """Let Python know which descriptors the slots hold now. A slot that it reaped holds none."""
    pairs = list(zip(table.connections["rfd"].tolist(), table.connections["wfd"].tolist(), strict=True))
    for row in table.channels:
        table.channels[row] = Ends(*pairs[row])


def _revive(table: Table, phases: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Put the slots that failed, and were reaped, to work again; the message that failed is not sent once more."""
    for row in np.flatnonzero(table.connections["ended"] != RUNNING).tolist():
        if row not in table.channels:
            slot = table.connections[row]
            slot["echoed"] = slot["begun"]
            slot["echo"] = 0
            slot["echo_bytes"] = table.size_of(row, int(slot["begun"]))
            slot["written"] = slot["begun_bytes"]
            slot["rfd"] = slot["wfd"] = -1
            slot["ended"] = RUNNING
            phases[row] = CLOSED
            table.shared["running"] += 1
            table.channels[row] = Ends(-1, -1)


def _names(address: str, timeout_s: float, state: np.ndarray[Any, np.dtype[np.void]]) -> np.ndarray[Any, Any]:
    """Return the socket addresses: what to connect to and, if they matter, those to come from."""
    place = parse(address)
    sources: list[bytes] = []
    if place.transport == "tcp":
        try:
            channel = dial(place, timeout_s)  # finds out which of a host's addresses answers
        except OSError as error:
            raise JobError(f"no connection can be opened to {address} any more: {error.strerror}") from None
        with socket.socket(fileno=channel.rfd) as sock:
            family, peer = sock.family, sock.getpeername()
        name = sockets.internet_name(family, peer)
        if ipaddress.ip_address(peer[0]).is_loopback and family == socket.AF_INET:
            sources = [sockets.internet_name(family, (f"127.0.0.{2 + k}", 0)) for k in range(SOURCES)]
    else:
        family = socket.AF_UNIX
        name = sockets.unix_name(place.place)
    state["family"] = int(family)
    state["pipes"] = place.transport == "pipe"
    state["name_bytes"] = len(name)
    state["sources"] = len(sources)
    state["source_bytes"] = len(sources[0]) if sources else 0
    names = np.zeros((1 + len(sources), _NAME_BYTES), np.uint8)
    for row, each in enumerate([name, *sources]):
        names[row, : len(each)] = np.frombuffer(each, np.uint8)
    return names


@inlined
def _close(slots, row):  # type: ignore[no-untyped-def]
    """Close a slot's descriptors. Closing the last descriptor of a socket takes it out of the interest list.

    Of a pipe the server may hold a copy for another moment, from before it handed it over; it is taken out by name.
    """
    connection = slots.connections[row]
    if connection.rfd != connection.wfd:
        epoll_fd = slots.shared[0].epoll_fd
        wire.epoll_ctl(epoll_fd, wire.EPOLL_CTL_DEL, connection.rfd, 0, 0, slots.event)
        if connection.writable == 1:
            wire.epoll_ctl(epoll_fd, wire.EPOLL_CTL_DEL, connection.wfd, 0, 0, slots.event)
        sockets.close(connection.wfd)
    sockets.close(connection.rfd)
    connection.rfd = -1
    connection.wfd = -1
    connection.writable = 0
    slots.phases[row] = CLOSED


@inlined
def _write(slots, row):  # type: ignore[no-untyped-def]
    shared, connection = slots.shared[0], slots.connections[row]
    gone = connection.written == connection.begun_bytes
    if gone or write_message(shared, connection, row, slots.words, slots.event):
        want_room(shared, connection, row, 0, slots.event)


@inlined
def _send(slots, row):  # type: ignore[no-untyped-def]
    """The connection is open: note how long that took, and send its message."""
    shared, connection = slots.shared[0], slots.connections[row]
    slots.phases[row] = OPEN
    shared.connects += 1
    if shared.recording != RECORD_NOTHING:
        begun_ns = slots.times_ns[row, (connection.begun - 1) & (shared.slots - 1), SENT]
        slots.counts[CONNECT, bucket_of(wire.monotonic_ns(slots.timespec) - begun_ns)] += 1
    _write(slots, row)


@inlined
def _watch(slots, row, interest):  # type: ignore[no-untyped-def]
    shared, connection = slots.shared[0], slots.connections[row]
    if wire.epoll_ctl(shared.epoll_fd, wire.EPOLL_CTL_ADD, connection.rfd, interest, row, slots.event) < 0:
        give_up(shared, connection, wire.last_error(), slots.event)
        return False
    return True


@inlined
def _take_pipes(slots, row):  # type: ignore[no-untyped-def]
    """Go on with the hand-over: have the pipes in place of the socket that they came over."""
    connection = slots.connections[row]
    taken = sockets.take_pipes(connection.rfd, slots.ends, slots.scratch)
    if taken != 0:
        reason = wire.last_error() if taken == -1 else END_OF_FILE if taken == sockets.NO_PIPES else taken
        if reason not in (_EAGAIN, _EINTR):
            give_up(slots.shared[0], connection, reason, slots.event)
        return
    sockets.close(connection.rfd)
    connection.rfd = slots.ends[0]
    connection.wfd = slots.ends[1]
    if _watch(slots, row, wire.EPOLLIN):
        _send(slots, row)


@inlined
def _connect(slots, row):  # type: ignore[no-untyped-def]
    """Connect a slot's socket, or go on with it, and send once it is open.

    On loopback the handshake is over when connect(2) returns, though it says EINPROGRESS: the answer is processed as
    the call lets go of the socket. So it is called again, which tells whether it has come.
    """
    connection, churning = slots.connections[row], slots.churning[0]
    before = slots.phases[row]
    result = sockets.connect(connection.rfd, wire.address(slots.names), churning.name_bytes)
    if result < 0 and wire.last_error() == _EINPROGRESS:
        result = sockets.connect(connection.rfd, wire.address(slots.names), churning.name_bytes)
    error = wire.last_error() if result < 0 else 0
    if error == _EAGAIN and churning.family == _UNIX:
        slots.phases[row] = BACKLOGGED
        churning.backlogged += before != BACKLOGGED
        return
    churning.backlogged -= before == BACKLOGGED
    if error in _UNDER_WAY:
        if before != OPENING:
            slots.phases[row] = OPENING
            connection.writable = 1
            _watch(slots, row, wire.EPOLLIN | wire.EPOLLOUT)
    elif error not in (0, _EISCONN):
        give_up(slots.shared[0], connection, error, slots.event)
    elif before == OPENING or _watch(slots, row, wire.EPOLLIN):
        if churning.pipes == 1:
            slots.phases[row] = HANDOVER
        else:
            _send(slots, row)


@inlined
def _open(slots, row):  # type: ignore[no-untyped-def]
    """Begin a slot's next message, which begins with a connection."""
    connection, churning = slots.connections[row], slots.churning[0]
    begin_message(slots.shared[0], connection, row, slots.times_ns, slots.timespec)
    fd = sockets.open_socket(churning.family)
    connection.rfd = fd
    connection.wfd = fd
    connection.writable = 0
    good = fd >= 0
    if good and churning.family != _UNIX:
        good = sockets.send_at_once(fd, slots.scratch) == 0
    if good and churning.sources > 0:
        churning.next_source = (churning.next_source + 1) % churning.sources
        name = wire.address(slots.names) + (1 + churning.next_source) * _NAME_BYTES
        good = sockets.bind_source(fd, name, churning.source_bytes, slots.scratch) == 0
    if good:
        _connect(slots, row)
    else:
        give_up(slots.shared[0], connection, wire.last_error(), slots.event)


@inlined
def _open_closed(slots):  # type: ignore[no-untyped-def]
    for row in range(len(slots.connections)):
        if slots.connections[row].ended == RUNNING and slots.phases[row] == CLOSED:
            _open(slots, row)


@inlined
def _retry_backlogged(slots):  # type: ignore[no-untyped-def]
    """Go on with the slots that wait for room in the backlog, until there is none again."""
    for row in range(len(slots.connections)):
        if slots.connections[row].ended == RUNNING and slots.phases[row] == BACKLOGGED:
            _connect(slots, row)
            if slots.phases[row] == BACKLOGGED:
                return


@inlined
def _go_on(slots, row):  # type: ignore[no-untyped-def]
    """Do what a slot is ready for."""
    connection, phase = slots.connections[row], slots.phases[row]
    if phase == OPENING:
        _connect(slots, row)
    elif phase == HANDOVER:
        _take_pipes(slots, row)
    elif phase == OPEN and connection.echoed < connection.begun:
        _write(slots, row)
    elif phase == OPEN:
        _close(slots, row)
        if slots.shared[0].stopping == 0:
            _open(slots, row)


@inlined
def _attend(slots, row, happened):  # type: ignore[no-untyped-def]
    """Do what an event calls for; returns the time."""
    shared, connection = slots.shared[0], slots.connections[row]
    if connection.ended == RUNNING and slots.phases[row] == OPEN and happened != wire.EPOLLOUT:
        arrays = slots.times_ns, slots.counts, slots.inbound, slots.words, slots.timespec, slots.event
        now_ns = receive(shared, connection, row, *arrays)
    else:
        now_ns = wire.monotonic_ns(slots.timespec)
    if connection.ended == RUNNING:  # else its other descriptor may have had an event in the same batch
        _go_on(slots, row)
    return now_ns


@compiled
def advance(slots, until_ns):  # type: ignore[no-untyped-def]
    """Run the workload until `until_ns` (CLOCK_MONOTONIC); returns why it came back. Call again to go on."""
    shared, churning = slots.shared[0], slots.churning[0]
    now_ns = wire.monotonic_ns(slots.timespec)
    if shared.stopping == 0 and now_ns < until_ns:
        _open_closed(slots)
    while now_ns < until_ns:
        if shared.stopping == 1 and shared.outstanding == 0:
            return IDLE
        wait_ms = min((until_ns - now_ns + 999_999) // 1_000_000, 1_000)
        if churning.backlogged > 0:
            wait_ms = 1
            if now_ns >= churning.retry_ns:
                churning.retry_ns = now_ns + RETRY_NS
                _retry_backlogged(slots)
        ready = wire.epoll_wait(shared.epoll_fd, slots.events, wait_ms)
        if ready <= 0:
            now_ns = wire.monotonic_ns(slots.timespec)
            if ready < 0:
                return INTERRUPTED
        for k in range(ready):
            row = np.int64(slots.events[k, wire.EVENT_DATA])
            now_ns = _attend(slots, row, slots.events[k, 0])
            if slots.connections[row].ended == WRONG_BYTES:
                return WRONG
    return REACHED
