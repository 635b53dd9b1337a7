"""Idle connections: many that never send beside some under load, and what is noticed on the silent ones."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, descriptors, drive, kinds, strategy
from peers import Talk, peer

from clients.job import JobError
from servers.contract import Channel
from servers.transport import listen, listener, parse

ACTIVE, SILENT = 2, 5
Prank = Callable[[Channel], None]  # what is done to one of the silent connections


@dataclass
class Prankster:
    """Echoes on the first ACTIVE connections and, after so many echoes, plays its prank on the third silent one."""

    address: str
    prank: Prank
    channels: list[Channel] = field(default_factory=list)
    echoed: int = 0

    def serve(self, channel: Channel) -> None:
        with suppress(OSError):
            while data := os.read(channel.rfd, 64):
                os.write(channel.wfd, data)
                self.echoed += 1
                if self.echoed == 10:
                    self.prank(self.channels[ACTIVE + 2])


@contextmanager
def prankster(transport: str, prank: Prank) -> Iterator[Prankster]:
    with listen(
        parse(f"{transport}:" + ("127.0.0.1:0" if transport == "tcp" else f"@iobench-test-{os.getpid()}"))
    ) as sock:
        source = listener(sock, transport)
        running = Prankster(source.address, prank)
        threads: list[threading.Thread] = []

        def attend() -> None:
            with suppress(OSError):  # shutdown() ends a pending accept with EINVAL
                while True:
                    channel = source.accept()
                    if channel is None:
                        continue
                    running.channels.append(channel)
                    if len(running.channels) == ACTIVE + SILENT:
                        threads.extend(
                            threading.Thread(target=running.serve, args=(each,)) for each in running.channels[:ACTIVE]
                        )
                        for thread in threads:
                            thread.start()

        accepting = threading.Thread(target=attend)
        accepting.start()
        yield running
        sock.shutdown(socket.SHUT_RDWR)
        for thread in [accepting, *threads]:
            thread.join()
        for channel in running.channels:
            with suppress(OSError):
                channel.close()
        os.close(source._reserve)


def say_something(channel: Channel) -> None:
    os.write(channel.wfd, b"!")


def close(channel: Channel) -> None:
    channel.close()


def reset(channel: Channel) -> None:
    with socket.socket(fileno=channel.rfd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stop_reading(channel: Channel) -> None:
    os.close(channel.rfd)


PRANKS = [
    *((transport, say_something, "extra") for transport in TRANSPORTS),
    *((transport, close, "closed") for transport in TRANSPORTS),
    ("tcp", reset, "reset"),
    ("pipe", stop_reading, "closed"),
]


@pytest.mark.parametrize(("transport", "prank", "kind"), PRANKS, ids=lambda value: getattr(value, "__name__", value))
def test_what_befalls_a_silent_connection_is_counted_by_its_name(transport: str, prank: Prank, kind: str) -> None:
    with prankster(transport, prank) as server:
        load = drive(  # type: ignore[arg-type]
            server,
            "idle",
            connections=ACTIVE,
            silent=SILENT,
            duration_s=FOREVER_S,
            ended=after(500, lambda: server.echoed),
        )
    assert kinds(load) == {kind: 1}
    assert load.completed >= 490  # the others go on


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("rate_hz", [0.0, 2000.0])
def test_silent_connections_are_open_beside_the_active_ones_and_nothing_is_sent_on_them(
    transport: str, rate_hz: float
) -> None:
    spoken: list[int] = []

    def echo_and_note(talk: Talk, message: bytes) -> None:
        spoken.append(talk.channel.rfd)
        talk.send(message)

    with peer(transport, 64, echo_and_note, at=0) as server:
        load = drive(
            server,
            "idle",
            connections=3,
            silent=20,
            rate_hz=rate_hz,
            duration_s=FOREVER_S,
            ended=lambda: server.accepted == 23 and server.echoed > 100,
        )
    assert kinds(load) == {}
    assert load.connections == len(spoken) == 3
    assert bool(load.response_hdr) == bool(rate_hz)


def test_faults_of_the_active_connections_are_counted_as_ever() -> None:
    with peer("tcp", 64, peers.flip_first, on=(1,)) as server:
        load = drive(
            server, "idle", connections=3, silent=4, duration_s=FOREVER_S, ended=after(100, lambda: server.echoed)
        )
    assert kinds(load) == {"corrupt": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_descriptor_is_closed_after_idling(transport: str) -> None:
    before = descriptors()
    with peer(transport) as server:
        drive(server, "idle", connections=2, silent=50, duration_s=0.05)
    with peer(transport, 64, peers.close, at=0) as server, pytest.raises(JobError, match="no connection was left"):
        drive(server, "idle", connections=2, silent=50, warmup_s=FOREVER_S, duration_s=0.05)
    assert descriptors() == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["epoll_et", "select", "thread_per_connection", "asyncio_protocol"])
def test_our_own_servers_leave_silent_connections_alone(name: str, transport: str) -> None:
    with strategy(name, transport) as server:
        load = drive(server, "idle", connections=4, silent=200, threads=2, duration_s=1.0)
    assert kinds(load) == {}
    assert load.completed > 0
    assert load.connections == 4
