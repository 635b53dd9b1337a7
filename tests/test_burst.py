"""Bursts: one message on every connection, all echoes awaited, and again."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, descriptors, drive, kinds, strategy
from peers import Fault, peer

from clients.job import Job, JobError
from servers.contract import Channel
from servers.transport import Address, bound_address, listen, listener


@dataclass
class RoundServer:
    """Echoes a round when a message of every connection is there, the last one only after a look at the others."""

    address: Address
    message_bytes: int = 64
    rounds: int = 0
    early: int = 0  # messages that came before their round had begun
    channels: list[Channel] = field(default_factory=list)

    def serve(self) -> None:
        while self._round():
            self.rounds += 1

    def _round(self) -> bool:
        messages = [os.read(channel.rfd, 2 * self.message_bytes) for channel in self.channels]
        self.early += sum(len(message) > self.message_bytes for message in messages)
        for channel, message in zip(self.channels[1:], messages[1:], strict=True):
            os.write(channel.wfd, message)
        patience_s = 0.02 if self.rounds < 5 else 0.0
        if all(messages):
            poll = select.poll()
            for channel in self.channels:
                poll.register(channel.rfd, select.POLLIN)
            self.early += len(poll.poll(patience_s * 1000))
        os.write(self.channels[0].wfd, messages[0])
        return all(messages)


@contextmanager
def round_server(connections: int) -> Iterator[RoundServer]:
    with listen(Address("tcp", "127.0.0.1")) as sock:
        source = listener(sock, "tcp")
        running = RoundServer(bound_address(sock, "tcp"))

        def attend() -> None:
            running.channels += [channel for channel in (source.accept() for _ in range(connections)) if channel]
            with suppress(OSError):  # the client has gone
                running.serve()

        thread = threading.Thread(target=attend)
        thread.start()
        yield running
        thread.join()
        for channel in running.channels:
            channel.close()
        os.close(source._reserve)


@pytest.mark.parametrize("connections", [1, 2, 7])
def test_a_round_brings_one_message_on_each_connection_and_the_next_one_waits_for_all_echoes(connections: int) -> None:
    with round_server(connections) as server:
        load = drive(  # type: ignore[arg-type]
            server, "burst", connections=connections, duration_s=FOREVER_S, ended=after(20, lambda: server.rounds)
        )
    assert server.early == 0
    assert load.rounds >= 19
    assert load.rounds * connections <= load.completed < (load.rounds + 1) * connections


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [1, 64, 300_000])
def test_every_byte_of_a_round_comes_back_verified(transport: str, message_bytes: int) -> None:
    with peer(transport, message_bytes) as server:
        server.wrongs = 1  # count every echo
        load = drive(
            server,
            "burst",
            connections=5,
            message_bytes=message_bytes,
            duration_s=FOREVER_S,
            ended=after(30, lambda: server.echoed),
        )
    assert kinds(load) == {}
    assert load.rounds >= 5
    assert load.bytes_echoed == load.completed * message_bytes


FAULTS: list[tuple[Fault, str]] = [
    (peers.flip_middle, "corrupt"),
    (peers.duplicate, "duplicated"),
    (peers.drop, "timed_out"),
    (peers.truncate, "short"),
    (peers.pad, "extra"),
    (peers.close, "closed"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_named_and_the_rounds_after_it_are_smaller(transport: str, fault: Fault, kind: str) -> None:
    waited_for = fault in (peers.drop, peers.truncate)
    with peer(transport, 64, fault, on=(1,)) as server:
        load = drive(
            server,
            "burst",
            connections=3,
            duration_s=FOREVER_S,
            timeout_s=2.0 if waited_for else FOREVER_S,
            ended=after(60, lambda: server.echoed),
        )
    assert kinds(load) == {kind: 1}
    assert 2 * (load.rounds - 6) <= load.completed <= 2 * (load.rounds + 1) + 6


def test_a_run_ends_when_no_connection_is_left() -> None:
    with peer("tcp", 64, peers.close) as server:
        load = drive(server, "burst", connections=4, duration_s=FOREVER_S)
    assert load.errors == {"closed": 4}
    assert load.completed == 20


def test_several_threads_have_rounds_of_their_own() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, "burst", connections=5, threads=2)
    assert load.threads == 2
    assert kinds(load) == {}
    assert load.rounds > 2


def test_every_descriptor_is_closed_after_bursts() -> None:
    before = descriptors()
    with peer("tcp", 64, peers.drop, on=(2,)) as server:
        drive(server, "burst", connections=10, timeout_s=0.05)
    assert descriptors() == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["epoll_et", "thread_per_connection", "asyncio_protocol"])
def test_our_own_servers_echo_bursts(name: str, transport: str) -> None:
    with strategy(name, transport) as server:
        load = drive(server, "burst", connections=40, duration_s=1.0)
    assert kinds(load) == {}
    assert load.rounds > 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_of_one_connection_at_a_time_echoes_bursts_of_one(transport: str) -> None:
    with strategy("iterative", transport) as server:
        load = drive(server, "burst", connections=1)
    assert kinds(load) == {}
    assert load.rounds == load.completed > 1


def test_a_fixed_number_of_rounds_is_sent_exactly_and_the_window_closes_behind_it() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, "burst", connections=5, rounds=30, duration_s=FOREVER_S)
    assert (load.rounds, load.completed, load.in_flight) == (30, 150, 0)
    assert load.closed_ns - load.opened_ns < FOREVER_S * 1e9 / 2


def test_after_the_last_round_the_connections_stay_open_and_nothing_is_sent_until_the_end_is_asked_for() -> None:
    seen: list[tuple[int, int]] = []
    closed: list[int] = []

    with peer("tcp", 64) as server:
        server.wrongs = 1  # count every echo

        def say(event: str, at_ns: int) -> None:
            if event == "window_closed":
                closed.append(at_ns)

        def ended() -> bool:
            if closed:
                seen.append((server.echoed, len(descriptors())))
            return len(seen) >= 3

        before = len(descriptors())
        load = drive(
            server, "burst", connections=2, rounds=10, duration_s=FOREVER_S, hold_s=FOREVER_S, say=say, ended=ended
        )
    assert load.completed == 20
    assert len({echoed for echoed, _ in seen}) == 1
    assert all(open_now > before for _, open_now in seen)


def test_a_window_that_is_too_short_for_its_rounds_closes_with_fewer() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, "burst", connections=2, rounds=1_000_000_000, duration_s=0.05)
    assert 0 < load.rounds < 1_000_000_000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"workload": "closed"}, "rounds mean nothing to workload 'closed'"),
        ({"threads": 2}, "one thread only"),
        ({"warmup_s": 0.1}, "no warmup_s"),
        ({"rounds": -1}, "between 0 and a billion"),
    ],
)
def test_rounds_that_can_not_be_counted_are_refused(options: dict[str, object], why: str) -> None:
    settings = {"workload": "burst", "connections": 2, "message_bytes": 64, "duration_s": 1.0, "rounds": 5, **options}
    with pytest.raises(JobError, match=why):
        Job(address="tcp:127.0.0.1:9", **settings)  # type: ignore[arg-type]
