"""What is special to the servers that are told by signals, and to those of POSIX aio: what nobody tells of is not lost.

The queue of signals is bounded, and so is the C library's pool of threads.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from echo_client import Client, flood, noise, served
from spawn import ROOT, WAIT_S, Case, Server, asleep, cases, eventually, kill, spawned, start, stop

from servers.transport import Address, bound_address, listen, parse

AIO = ["posix_aio_signal", "posix_aio_callback"]
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
        process = start([sys.executable, "-m", "servers"], case, handed_down, its_status, stderr)
        server = Server(bound_address(sock, "tcp"), process, status, stderr)
        try:
            assert server.next_status()["event"] == "ready"
            assert eventually(lambda: asleep(server))
            with Client(server.address) as client:
                assert client.echo(b"heard") == b"heard"
        finally:
            kill(server.process)
            for fd in (handed_down, its_status, status):
                os.close(fd)


@pytest.mark.parametrize("strategy", AIO)
def test_a_server_started_by_hand_serves_more_connections_than_the_c_library_has_threads_by_default(
    strategy: str,
) -> None:
    with by_hand(strategy, "-m", "servers") as address, ExitStack() as stack:
        silent = [stack.enter_context(Client(address)) for _ in range(40)]
        with Client(address) as client:
            assert client.echo(b"served") == b"served"
        assert all(client.echo(b"as well") == b"as well" for client in silent)


SMALL_LIMIT = """
import os, sys
from servers import posix_aio
from servers.__main__ import main
posix_aio.POOL = 2
os._exit(main(sys.argv[1:]))
"""


def test_a_connection_beyond_the_limit_of_the_pool_is_refused_at_once_and_the_others_served() -> None:
    with by_hand("posix_aio_signal", "-c", SMALL_LIMIT) as address, Client(address) as first, Client(address) as second:
        assert first.echo(b"first") == b"first"
        assert second.echo(b"second") == b"second"
        with Client(address) as third:
            assert third.receive_to_end() == b""
        assert first.echo(b"still") == second.echo(b"still") == b"still"
        second.close()
        assert eventually(lambda: is_served(address))


SMALL_POOL = """
import os, sys
from servers import posix_aio
from servers.__main__ import main
size = posix_aio.PoolSize
posix_aio.PoolSize = lambda threads, requests: size(threads=2, requests=requests)
os._exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("strategy", AIO)
def test_where_threads_are_lacking_somebody_is_refused_and_nobody_waits_for_ever(strategy: str) -> None:
    with by_hand(strategy, "-c", SMALL_POOL) as address, ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in range(3)]
        poll = select.poll()
        for client in clients:
            poll.register(client.rfd, select.POLLIN)
        ended = dict(poll.poll(WAIT_S * 1000))
        served_ones = [client for client in clients if client.rfd not in ended]
        assert len(served_ones) == 2
        assert all(client.echo(b"served") == b"served" for client in served_ones)
        served_ones[0].close()
        assert eventually(lambda: is_served(address))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_completion_that_the_queue_of_signals_had_no_room_for_hangs_nobody(transport: str) -> None:
    with spawned(case_of("posix_aio_signal", transport)) as server, Client(server.address) as client:
        assert client.echo(b"before") == b"before"
        assert eventually(lambda: asleep(server))
        before = limit_queued_signals(server, 0)
        client.send(b"its length is lost with the signal")
        assert client.receive_to_end() == b""
        refusal = server.next_status()
        assert refusal["event"] == "refused"
        assert refusal["reason"].startswith("EAGAIN: the queue of signals is full")
        limit_queued_signals(server, before)
        assert is_served(server.address)
        assert server.complaints() == ""


def case_of(strategy: str, transport: str) -> Case:
    """Find a case by its names; skip the test where this machine can't run it."""
    case = next(case for case in cases() if str(case) == f"{strategy}-{transport}")
    if case.unavailable:
        pytest.skip(f"{strategy}: {case.unavailable}")
    return case


def is_served(address: Address) -> bool:
    """Tell whether a new connection is."""
    client = served(address)
    if client is None:
        return False
    client.close()
    return True


def limit_queued_signals(server: Server, soft: int) -> int:
    """Let so many signals, of all processes of this user, be queued before there is no room for one of the server's.

    Returns what the limit was.
    """
    process = psutil.Process(server.process.pid)
    before, hard = process.rlimit(psutil.RLIMIT_SIGPENDING)
    process.rlimit(psutil.RLIMIT_SIGPENDING, (soft, hard))
    return int(before)


@contextmanager
def by_hand(strategy: str, *how: str) -> Iterator[Address]:
    """Start a server as somebody does at a terminal, so that its probe runs in its own process; yield its address."""
    case_of(strategy, "tcp")
    command = [sys.executable, *how, strategy, "tcp:127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield parse(process.stdout.readline().split()[-1])
            assert stop(process) == 0
        finally:
            process.kill()
