"""Opening the connections: evenly over a ramp, until told to stop, and from further addresses when ports run out."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from driving import TRANSPORTS, drive, kinds
from peers import peer

from clients import opening
from clients.job import Job, JobError
from clients.opening import connect
from clients.table import Ends
from servers import transport
from servers.contract import Channel
from servers.transport import Address


@dataclass
class Clock:
    """A clock that only sleeping moves on."""

    now_s: float = 100.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock in place of the one that a ramp goes by."""
    ticking = Clock()
    monkeypatch.setattr(opening, "time", ticking)
    return ticking


@pytest.fixture
def dialled_at(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """When connections are opened, in seconds since the start; they are the ends of pipes."""
    moments: list[float] = []

    def dial(address: Address, timeout: float) -> Channel:
        moments.append(clock.now_s - 100.0)
        return Channel(*os.pipe())

    monkeypatch.setattr(opening, "dial", dial)
    return moments


def a_job(**options: Any) -> Job:
    return Job(address="unix:@nowhere", message_bytes=1, duration_s=1.0, **{"connections": 5, **options})


def close_all(connected: opening.Connected) -> int:
    channels = [*connected.channels, *connected.silent]
    for channel in channels:
        channel.close()
    return len(channels)


def source_of(channel: Ends) -> str:
    with socket.socket(fileno=os.dup(channel.rfd)) as sock:
        return str(sock.getsockname()[0])


def test_connections_are_opened_evenly_over_the_ramp(dialled_at: list[float]) -> None:
    assert close_all(connect(a_job(ramp_s=10.0))) == 5
    assert dialled_at == pytest.approx([0, 2, 4, 6, 8])


def test_silent_connections_are_part_of_the_ramp(dialled_at: list[float]) -> None:
    connected = connect(a_job(workload="idle", connections=1, silent=3, ramp_s=4.0))
    assert (len(connected.channels), len(connected.silent)) == (1, 3)
    assert close_all(connected) == 4
    assert dialled_at == pytest.approx([0, 1, 2, 3])


def test_without_a_ramp_nothing_is_waited_for(dialled_at: list[float], clock: Clock) -> None:
    assert close_all(connect(a_job())) == 5
    assert clock.sleeps == []
    assert dialled_at == [0] * 5


def test_a_ramp_may_take_longer_than_the_timeout(dialled_at: list[float]) -> None:
    connected = connect(a_job(ramp_s=100.0, timeout_s=1.0))
    assert close_all(connected) == 5
    assert connected.failed == {}


def test_a_ramp_ends_when_it_is_told_to_with_the_connections_opened_so_far(
    dialled_at: list[float], clock: Clock
) -> None:
    connected = connect(a_job(ramp_s=10.0), ended=lambda: clock.now_s > 105.0)
    assert close_all(connected) == 3
    assert connected.failed == {}
    assert max(clock.sleeps) <= 0.1  # a stop is heeded soon


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_connections_of_a_ramp_are_all_under_load(transport: str) -> None:
    with peer(transport) as server:
        load = drive(server, "closed", connections=6, ramp_s=0.1)
    assert kinds(load) == {}
    assert load.connections == server.accepted == 6


@contextmanager
def listener(accepting: bool) -> Iterator[int]:
    """A listener of this port, with room for all; perhaps one that accepts, at a leisurely pace, until it is closed."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(sock.accept()[0])
                    time.sleep(0.001)

        thread = threading.Thread(target=accept)
        if accepting:
            thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            if accepting:
                thread.join()
            for one in accepted:
                one.close()


def many(port: int, connections: int = 300) -> Job:
    return Job(address=f"tcp:127.0.0.1:{port}", connections=connections, message_bytes=1, duration_s=1.0)


@pytest.mark.parametrize("connections", [16, 100, 300])
def test_of_many_connections_none_is_still_to_be_accepted_at_the_end(connections: int) -> None:
    with listener(accepting=True) as port:
        connected = connect(many(port, connections))
        assert opening.queued(port) == 0
        assert close_all(connected) == connections


def test_a_server_that_accepts_none_is_not_waited_for_to_the_deadline() -> None:
    with listener(accepting=False) as port:
        connected = connect(many(port))
        assert opening.queued(port) == close_all(connected) == 300


def test_many_connections_end_when_told_to_though_some_are_still_to_be_accepted(clock: Clock) -> None:
    with listener(accepting=False) as port:
        connected = connect(many(port), ended=lambda: bool(clock.sleeps))
        assert close_all(connected) == 300
    assert len(clock.sleeps) == 1


@pytest.fixture
def short_of_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel find no port after two connections from the address that it chooses."""
    taken: list[Address] = []

    def dial(address: Address, timeout: float) -> Channel:
        if len(taken) == 2:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        taken.append(address)
        return transport.dial(address, timeout)

    monkeypatch.setattr(opening, "dial", dial)


@pytest.mark.usefixtures("short_of_ports")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_loopback_connections_come_from_another_address_when_one_has_no_port_left(host: str) -> None:
    with peer("tcp") as server:
        port = server.address.rpartition(":")[2]
        connected = connect(Job(address=f"tcp:{host}:{port}", connections=5, message_bytes=64, duration_s=1.0))
        sources = [source_of(channel) for channel in connected.channels]
        close_all(connected)
    assert sources == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2"]


def test_on_loopback_no_address_has_more_connections_than_it_finds_ports_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_PORTS_EACH", 3)
    with peer("tcp") as server:
        connected = connect(Job(address=server.address, connections=7, message_bytes=64, duration_s=1.0))
        sources = [source_of(channel) for channel in connected.channels]
        close_all(connected)
    assert sources == ["127.0.0.1"] * 3 + ["127.0.0.2"] * 3 + ["127.0.0.3"]


@pytest.mark.usefixtures("short_of_ports")
def test_without_a_further_address_it_is_said_that_no_port_was_left() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        sock.listen()
        address = f"tcp:[::1]:{sock.getsockname()[1]}"
        with pytest.raises(JobError, match="Cannot assign requested address"):
            connect(Job(address=address, connections=5, message_bytes=64, duration_s=1.0))
