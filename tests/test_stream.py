"""Streams: long messages, several at once, every byte verified, and bytes a second the figure."""

from __future__ import annotations

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, descriptors, drive, kinds, strategy
from peers import Fault, peer


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [65_536, 1_000_003, 8 << 20])
def test_long_messages_come_back_verified_several_at_a_time(transport: str, message_bytes: int) -> None:
    with peer(transport, message_bytes) as server:
        server.wrongs = 1
        load = drive(
            server, "stream", connections=2, depth=3, duration_s=FOREVER_S, ended=after(8, lambda: server.echoed)
        )
    assert kinds(load) == {}
    assert load.in_flight <= 6


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bytes_count_as_they_come_and_not_as_messages_are_complete(transport: str) -> None:
    with strategy("epoll_lt", transport) as server:
        load = drive(server, "stream", connections=2, message_bytes=64 << 20, duration_s=0.05)
    assert load.bytes_echoed > load.completed * (64 << 20)
    assert load.bytes_echoed < (load.completed + 2) * (64 << 20)


@pytest.mark.parametrize(
    ("fault", "kind"), [(peers.flip_middle, "corrupt"), (peers.cut_middle, "short"), (peers.pad, "extra")]
)
def test_a_fault_in_a_long_message_is_named(fault: Fault, kind: str) -> None:
    with peer("tcp", 1_000_000, fault, at=2) as server:
        load = drive(server, "stream", depth=4, duration_s=FOREVER_S, timeout_s=FOREVER_S)
    assert set(load.errors) == {kind}


def test_every_descriptor_is_closed_after_a_stream() -> None:
    before = descriptors()
    with strategy("epoll_lt", "pipe") as server:
        drive(server, "stream", connections=3, depth=4, message_bytes=1 << 20, duration_s=0.05)
    assert len(descriptors()) == len(before)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["epoll_et", "iterative", "thread_per_connection", "asyncio_protocol"])
def test_our_own_servers_echo_streams(name: str, transport: str) -> None:
    with strategy(name, transport) as server:
        load = drive(server, "stream", message_bytes=300_000, depth=8, duration_s=1.0)
    assert kinds(load) == {}
    assert load.bytes_echoed > 300_000
