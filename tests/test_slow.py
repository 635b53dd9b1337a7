"""Slow peers: messages that go out and come back in small pieces, at a bounded pace."""

from __future__ import annotations

import fcntl
import os
import socket
import time

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, descriptors, drive, kinds, strategy
from peers import Fault, Talk, peer

from clients.job import Job
from clients.opening import connect
from clients.slow import BUFFER_BYTES, slow
from clients.table import Table


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_message_is_complete_after_many_pieces_and_right(transport: str) -> None:
    with peer(transport, 20) as server:
        server.wrongs = 1
        load = drive(
            server,
            "slow",
            connections=3,
            trickle_bytes=3,
            trickle_hz=1000.0,
            duration_s=FOREVER_S,
            ended=after(30, lambda: server.echoed),
        )
    assert kinds(load) == {}
    assert load.completed >= 27


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_connection_is_faster_than_its_trickle(transport: str) -> None:
    with peer(transport, 64) as server:
        load = drive(server, "slow", connections=4, trickle_bytes=8, trickle_hz=200.0, duration_s=0.5)
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    assert 0 < load.bytes_echoed <= 4 * 8 * (200.0 * window_s + 1)


def test_the_pieces_of_a_message_reach_the_server_one_by_one() -> None:
    pieces: list[int] = []

    def read_pieces(talk: Talk, message: bytes) -> None:
        talk.send(message)
        while data := os.read(talk.channel.rfd, 1000):
            pieces.append(len(data))
            talk.send(data)

    with peer("tcp", 50, read_pieces, at=0) as server:
        load = drive(
            server,
            "slow",
            trickle_bytes=5,
            trickle_hz=200.0,
            duration_s=FOREVER_S,
            ended=after(40, lambda: len(pieces)),
        )
    assert kinds(load) == {}
    assert all(size % 5 == 0 for size in pieces)  # some may have met on the way
    assert min(pieces) == 5


FAULTS: list[tuple[Fault, str]] = [
    (peers.flip_middle, "corrupt"),
    (peers.duplicate, "duplicated"),
    (peers.drop, "timed_out"),
    (peers.truncate, "short"),
    (peers.insert, "extra"),
    (peers.close, "closed"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_named(transport: str, fault: Fault, kind: str) -> None:
    waited_for = fault in (peers.drop, peers.truncate)
    with peer(transport, 24, fault, at=2) as server:
        load = drive(
            server,
            "slow",
            trickle_bytes=8,
            trickle_hz=1000.0,
            duration_s=FOREVER_S,
            timeout_s=2.0 if waited_for else FOREVER_S,
        )
    assert kinds(load) == {kind: 1}
    assert load.completed in (2, 3)


def test_a_message_may_take_as_long_as_its_pieces_take_whatever_the_timeout() -> None:
    with peer("tcp", 40) as server:
        server.wrongs = 1
        load = drive(
            server,
            "slow",
            trickle_bytes=4,
            trickle_hz=20.0,
            timeout_s=0.3,
            duration_s=FOREVER_S,
            ended=after(1, lambda: server.echoed),
        )
    assert kinds(load) == {}
    assert load.timed_out == 0


def test_bytes_count_as_they_come_also_those_of_a_message_that_is_never_complete() -> None:
    with strategy("epoll_lt", "tcp") as server:
        load = drive(server, "slow", message_bytes=1 << 20, trickle_bytes=10, trickle_hz=1000.0, duration_s=0.3)
    assert load.completed == 0
    assert load.bytes_echoed > 0
    assert load.in_flight == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_kernel_takes_in_little_for_a_peer_that_does_not_read(transport: str) -> None:
    with peer(transport) as server:
        job = Job(address=server.address, workload="slow", connections=1, message_bytes=64, duration_s=1.0)
        connected = connect(job)
        table = Table(connected.channels, job)
        slow(table)
        rfd, wfd = connected.channels[0]
        if rfd == wfd:
            with socket.socket(fileno=os.dup(rfd)) as sock:
                taken = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)  # twice what was asked for (socket(7))
        else:
            taken = fcntl.fcntl(rfd, fcntl.F_GETPIPE_SZ)
        table.close()
    assert taken <= 2 * BUFFER_BYTES


def test_where_the_kernel_only_sleeps_whole_milliseconds_bytes_trickle_as_well() -> None:
    with peer("tcp", 8) as server:
        server.wrongs = 1
        job = Job(address=server.address, workload="slow", connections=2, message_bytes=8, duration_s=1.0)
        table = Table(connect(job).channels, job)
        advance = slow(table)
        advance.args[1]["fine"] = 0  # type: ignore[attr-defined]
        while table.total("completed") < 4:
            advance(time.monotonic_ns() + 100_000_000)
        table.close()
    assert server.echoed >= 4


def test_every_descriptor_is_closed_after_a_trickle() -> None:
    before = descriptors()
    with peer("pipe", 64, peers.drop, at=0) as server:
        drive(server, "slow", connections=10, duration_s=0.05)
    assert descriptors() == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["epoll_et", "poll", "thread_per_connection", "asyncio_streams"])
def test_our_own_servers_serve_slow_peers(name: str, transport: str) -> None:
    with strategy(name, transport) as server:
        load = drive(server, "slow", connections=20, threads=2, trickle_bytes=16, trickle_hz=200.0, duration_s=1.0)
    assert kinds(load) == {}
    assert load.completed > 0
