"""What is special to the servers that live on queued signals: the queue is short, and what does not fit is not lost."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from contextlib import ExitStack

import psutil
import pytest
from echo_client import Client, flood, noise
from spawn import Case, Server, asleep, cases, eventually, kill, spawned, start, stop

from servers.transport import Address, bound_address, listen

TRANSPORTS = ["tcp", "unix", "pipe"]


@pytest.mark.parametrize("room", [0, 1])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_everybody_is_served_when_the_queue_of_signals_is_full(transport: str, room: int) -> None:
    with spawned(case_of("sigio", transport)) as server, ExitStack() as stack:
        limit_queued_signals(server, room)
        clients = [stack.enter_context(Client(server.address)) for _ in range(30)]
        for turn in range(3):
            for client in clients:
                client.send(noise(100 + turn))
            assert all(client.receive(100 + turn) == noise(100 + turn) for client in clients)
        assert eventually(lambda: asleep(server))
        assert clients[0].echo(noise(1_000_000)) == noise(1_000_000)
        for client in clients:
            client.half_close()
            assert client.receive_to_end() == b""
        assert server.complaints() == ""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_full_queue_of_signals_lets_no_flood_starve_anybody(transport: str) -> None:
    with spawned(case_of("sigio", transport)) as server, Client(server.address) as quiet:
        limit_queued_signals(server, 0)
        with flood(server.address, 4):
            for number in range(1, 20):
                assert quiet.echo(noise(number)) == noise(number)
        assert stop(server.process) == 0
        assert server.complaints() == ""


def test_a_listener_that_sends_signals_already_under_another_number_is_heard() -> None:
    case = case_of("sigio", "tcp")
    status, its_status = os.pipe()
    with tempfile.TemporaryFile() as stderr, listen(Address("tcp", "127.0.0.1")) as sock:
        fcntl.fcntl(sock, fcntl.F_SETFL, os.O_ASYNC)  # as an earlier server, to which it had this number, left it
        handed_down = os.dup(sock.fileno())
        server = Server(
            bound_address(sock, "tcp"), start(sys.executable, case, handed_down, its_status, stderr), status, stderr
        )
        try:
            assert server.next_status()["event"] == "ready"
            assert eventually(lambda: asleep(server))
            with Client(server.address) as client:
                assert client.echo(b"heard") == b"heard"
        finally:
            kill(server.process)
            for fd in (handed_down, its_status, status):
                os.close(fd)


def case_of(strategy: str, transport: str) -> Case:
    """Find a case by its names; skip the test where this machine can't run it."""
    case = next(case for case in cases() if str(case) == f"{strategy}-{transport}")
    if case.unavailable:
        pytest.skip(f"{strategy}: {case.unavailable}")
    return case


def limit_queued_signals(server: Server, limit: int) -> None:
    """Let so many signals, of all processes of this user, be queued before the server's are full."""
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_SIGPENDING, (limit, limit))
