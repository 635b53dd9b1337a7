"""Whose the socket is that listens at an address, found with real sockets and in a /proc that is made up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.probes import listener
from bench.probes.listener import listening, why_elsewhere
from servers.transport import Address, bound_address, listen, parse

HOLDER = "import sys; sys.stdin.read()"  # of whatever it was given at its start


@contextmanager
def held_by_another(place: str) -> Iterator[tuple[Address, int]]:
    """An address, and the process that listens there: not this one."""
    with listen(parse(place)) as sock:
        address = bound_address(sock, place.partition(":")[0])
        argv = [sys.executable, "-c", HOLDER]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[sock.fileno()])
    try:
        yield address, process.pid
    finally:
        process.communicate()


@pytest.fixture(params=["tcp", "tcp6", "unix", "abstract"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "tcp6" and not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    return {
        "tcp": "tcp:127.0.0.1:0",
        "tcp6": "tcp:[::1]:0",
        "unix": f"unix:{tmp_path / 'echo.sock'}",
        "abstract": f"unix:@iobench-test-{os.getpid()}",
    }[request.param]


def test_a_process_that_holds_the_listening_socket_is_the_server(place: str) -> None:
    with held_by_another(place) as (address, pid):
        assert why_elsewhere(address, [os.getpid(), pid]) == ""


def test_a_server_that_is_none_of_the_processes_that_were_started_is_named(place: str) -> None:
    with held_by_another(place) as (address, pid):
        why = why_elsewhere(address, [os.getpid()])
    assert why.startswith(f"the server at {address} is process {pid} (python")
    assert why.endswith("), and none of the processes that were started")


def test_where_nobody_is_seen_to_listen_the_server_is_elsewhere() -> None:
    """As behind a rule of the firewall that leads into a container."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = Address("tcp", "127.0.0.1", sock.getsockname()[1])
        assert "another process, which can't be seen from here" in why_elsewhere(address, [os.getpid()])


def test_a_process_that_has_gone_holds_nothing_and_hinders_nothing(place: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with held_by_another(place) as (address, pid):
        assert why_elsewhere(address, [gone.pid, pid]) == ""


def test_where_a_process_of_the_server_s_can_not_be_read_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> set[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listener, "_held_by", refuse)
    with held_by_another("tcp:127.0.0.1:0") as (address, _):
        assert why_elsewhere(address, [os.getpid()]) == ""


def test_connections_of_a_server_are_no_listeners(place: str) -> None:
    transport = place.partition(":")[0]
    with listen(parse(place)) as sock:
        address = bound_address(sock, transport)
        with socket.socket(sock.family) as client:
            client.connect(sock.getsockname())
            conn, _ = sock.accept()
            with conn:
                assert listening(address) == {str(os.fstat(sock.fileno()).st_ino)}
    assert listening(address) == set()


def test_a_kernel_without_ipv6_has_one_table_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address rem_address   st ...\n{row}\n")
    monkeypatch.setattr(listener, "PROC", tmp_path)
    assert listening(Address("tcp", "127.0.0.1", 8080)) == {"4711"}
    assert listening(Address("tcp", "127.0.0.1", 8081)) == set()
