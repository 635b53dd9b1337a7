"""Churn: connect, one echo, close, again; what the server sees of it, what is counted, where the ports come from."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, count, descriptors, drive, kinds, strategy
from peers import Fault, Talk, peer
from spawn import ROOT

from clients import churn, histogram, sockets
from clients.job import Job, JobError
from clients.opening import Connected, connect
from clients.session import run
from clients.table import Ends

EXTRA = {"tcp": 2, "unix": 1, "pipe": 1}  # connections that see who is there, beforehand


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_message_has_a_connection_of_its_own(transport: str) -> None:
    with peer(transport) as server:
        load = drive(server, "churn", connections=4, duration_s=FOREVER_S, ended=after(100, lambda: server.accepted))
    assert kinds(load) == {}
    assert load.completed <= load.connects <= load.completed + 4
    assert load.completed + EXTRA[transport] <= server.accepted
    assert load.connects == count(load.connect_hdr)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [1, 5000, 300_000])
def test_long_and_short_messages_come_back_verified(transport: str, message_bytes: int) -> None:
    with peer(transport, message_bytes) as server:
        load = drive(
            server,
            "churn",
            connections=3,
            message_bytes=message_bytes,
            duration_s=FOREVER_S,
            ended=after(30, lambda: server.accepted),
        )
    assert kinds(load) == {}
    assert load.bytes_echoed == load.completed * message_bytes > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_reads_end_of_file_and_no_reset(transport: str) -> None:
    seen: list[bytes | OSError] = []

    def echo_and_see(talk: Talk, message: bytes) -> None:
        talk.send(message)
        try:
            seen.append(talk.receive(1))
        except OSError as error:
            seen.append(error)

    with peer(transport, 64, echo_and_see, at=0) as server:
        load = drive(server, "churn", connections=2, duration_s=FOREVER_S, ended=after(50, lambda: len(seen)))
    assert kinds(load) == {}
    assert load.in_flight <= 2
    assert seen.count(b"") >= len(seen) - load.in_flight  # those under way at the end are cut off


def test_connections_to_loopback_come_from_many_addresses_of_it() -> None:
    sources: list[str] = []

    def echo_and_note(talk: Talk, message: bytes) -> None:
        with socket.socket(fileno=os.dup(talk.channel.rfd)) as sock:
            sources.append(sock.getpeername()[0])
        talk.send(message)

    with peer("tcp", 64, echo_and_note, at=0) as server:
        drive(server, "churn", duration_s=FOREVER_S, ended=after(churn.SOURCES, lambda: len(sources)))
    assert set(sources) == {f"127.0.0.{2 + k}" for k in range(churn.SOURCES)}


FAULTS: list[tuple[Fault, str]] = [
    (peers.flip_first, "corrupt"),
    (peers.flip_last, "corrupt"),
    (peers.duplicate, "duplicated"),
    (peers.drop, "timed_out"),
    (peers.truncate, "short"),
    (peers.cut_middle, "short"),
    (peers.pad, "extra"),
    (peers.insert, "extra"),
    (peers.close, "refused"),
    (peers.close_half_way, "closed"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_named_and_its_slot_goes_on(transport: str, fault: Fault, kind: str) -> None:
    waited_for = fault in (peers.drop, peers.truncate)
    with peer(transport, 64, fault, at=0, on=(5,)) as server:
        load = drive(
            server,
            "churn",
            duration_s=FOREVER_S,
            timeout_s=2.0 if waited_for else FOREVER_S,
            ended=after(20, lambda: server.echoed),
        )
    assert kinds(load) == {kind: 1}
    assert load.completed >= 20  # there is but one slot


def test_a_reset_before_the_echo_is_a_refusal() -> None:
    with peer("tcp", 64, peers.reset, at=0, on=(5,)) as server:
        load = drive(server, "churn", duration_s=FOREVER_S, ended=after(20, lambda: server.echoed))
    assert load.errors == {"refused": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_has_gone_is_counted_and_not_stormed(transport: str) -> None:
    def leave(talk: Talk, message: bytes) -> None:
        talk.end()
        server.sock.shutdown(socket.SHUT_RDWR)

    looks = 0  # at whether to end, one every 100 ms

    def seen_enough() -> bool:
        nonlocal looks
        looks += server.wrongs
        return looks == 6

    with peer(transport, 64, leave, at=0, on=(20,)) as server:
        load = drive(server, "churn", connections=3, duration_s=FOREVER_S, ended=seen_enough)
    assert set(load.errors) == {"refused"}
    assert 3 * 3 <= load.errors["refused"] <= 3 * 8  # each slot rests for 100 ms
    assert load.completed >= 10


def test_nobody_there_is_a_refusal_of_every_connection() -> None:
    with peers.nobody() as address:
        job = Job(address=address, workload="churn", connections=3, message_bytes=1, duration_s=1.0)
        assert connect(job).channels == []
        with pytest.raises(JobError, match="no connection can be opened"):
            run(job, Connected([Ends(-1, -1)] * 3, connect(job).failed, "", 0))


def test_a_full_backlog_of_a_unix_socket_is_waited_for() -> None:
    with peer("unix") as server:
        server.sock.listen(1)
        load = drive(server, "churn", connections=40, duration_s=FOREVER_S, ended=after(400, lambda: server.accepted))
    assert kinds(load) == {}
    assert load.completed > 300


def test_connect_time_is_part_of_service_time() -> None:
    with peer() as server:
        load = drive(server, "churn", duration_s=FOREVER_S, ended=after(50, lambda: server.accepted))
    connecting, serving = (histogram.to_hdr(histogram.decode(text)) for text in (load.connect_hdr, load.service_hdr))
    assert 0 < connecting.min_value < serving.min_value
    assert connecting.get_mean_value() < serving.get_mean_value()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [peers.echo, peers.flip_first, peers.drop, peers.close])
def test_every_descriptor_is_closed_after_churn(transport: str, fault: Fault) -> None:
    before = descriptors()
    with peer(transport, 64, fault, at=0) as server:
        drive(server, "churn", connections=10, duration_s=0.1, timeout_s=0.05)
    assert descriptors() == before


def test_every_descriptor_is_closed_when_churn_is_interrupted() -> None:
    def interrupt() -> bool:
        if server.accepted > 20:
            raise KeyboardInterrupt
        return False

    before = descriptors()
    with peer() as server, pytest.raises(KeyboardInterrupt):
        drive(server, "churn", connections=10, duration_s=FOREVER_S, ended=interrupt)
    assert descriptors() == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["epoll_lt", "thread_per_connection", "asyncio_streams", "iterative"])
def test_our_own_servers_are_churned_through(name: str, transport: str) -> None:
    with strategy(name, transport) as server:
        load = drive(server, "churn", connections=6, threads=2, duration_s=1.0)
    assert kinds(load) == {}
    assert load.completed > 6


@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
def test_the_address_of_a_socket_is_packed_as_the_kernel_reads_it(text: str) -> None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((text, 0))
        server.listen()
        packed = sockets.internet_name(family, server.getsockname())
        sent, read = packed, bytes(_getsockname(server.fileno(), len(packed)))
    assert sent == read


def _getsockname(fd: int, size: int) -> bytes:
    room, length = ctypes.create_string_buffer(size), ctypes.c_uint32(size)
    assert ctypes.CDLL(None).getsockname(fd, room, ctypes.byref(length)) == 0
    return room.raw[: length.value]


@pytest.fixture(scope="module")
def _own_network() -> None:
    """Skip where an unprivileged process may not have a network of its own."""
    try:
        subprocess.run(["unshare", "--map-root-user", "--net", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {error}")


def in_a_network_of_few_ports(place: str) -> dict[str, Any]:
    command = [
        "unshare",
        "--map-root-user",
        "--net",
        sys.executable,
        str(Path(__file__).with_name("few_ports.py")),
        place,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.usefixtures("_own_network")
def test_a_connection_that_finds_no_port_is_an_error_by_its_name() -> None:
    seen = in_a_network_of_few_ports("tcp:[::1]:0")
    assert set(seen["errors"]) == {"eaddrnotavail"}
    assert seen["completed"] <= seen["ports"]


@pytest.mark.usefixtures("_own_network")
def test_on_127_0_0_0_there_are_ports_for_more() -> None:
    seen = in_a_network_of_few_ports("tcp:127.0.0.1:0")
    assert seen["errors"] == {}
    assert seen["completed"] > 10 * seen["ports"]
