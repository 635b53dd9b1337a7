"""What every strategy relies on: a Listener's `accept`, its refusals, and the Stop that SIGTERM raises."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from echo_client import Client
from spawn import ROOT, WAIT_S, Case, asleep, cases, eventually, spawned, stop, system_calls

from servers.contract import BACKLOG, Channel, Listener, Stop
from servers.transport import Address, dial, listen, listener


@pytest.fixture
def sock(tmp_path: Path) -> Iterator[socket.socket]:
    """A UNIX socket that listens: whoever has dialled it is in its queue."""
    with listen(Address("unix", str(tmp_path / "echo"))) as sock:
        yield sock


def dialled(sock: socket.socket, transport: str = "unix") -> Channel:
    return dial(Address(transport, sock.getsockname()), WAIT_S)


def test_accept_says_when_nobody_is_waiting_instead_of_waiting_for_somebody(sock: socket.socket) -> None:
    source = listener(sock, "unix")
    source.set_blocking(False)
    assert source.accept() is None


@pytest.mark.parametrize("blocking", [True, False])
def test_a_channel_blocks_if_its_listener_does(sock: socket.socket, blocking: bool) -> None:
    source = listener(sock, "unix")
    source.set_blocking(blocking)
    client = dialled(sock)
    channel = source.accept()
    assert channel is not None
    assert os.get_blocking(channel.rfd) == os.get_blocking(channel.wfd) == blocking
    channel.close()
    client.close()


def test_a_channel_blocks_on_a_listener_that_does_not_if_that_is_asked_for(sock: socket.socket) -> None:
    source = listener(sock, "unix")
    source.set_blocking(False, channels=True)
    client = dialled(sock)
    channel = source.accept()
    assert channel is not None
    assert os.get_blocking(channel.rfd)
    assert source.accept() is None
    channel.close()
    client.close()


# How often FIONBIO is set for one connection: Python's accept yields sockets that wait, and no loop can do with those.
FIONBIO = {
    "thread_per_connection": 0,
    "posix_aio_signal": 0,
    "sigio": 0,  # O_NONBLOCK is set along with O_ASYNC
    "io_uring": 0,
    "epoll_lt": 1,
    "asyncio_protocol": 1,
    "asyncio_sock": 1,
    "trio": 1,
    "gevent": 1,
}


@pytest.mark.parametrize("strategy", FIONBIO)
def test_no_mode_is_set_that_an_accepted_socket_has_already(strategy: str) -> None:
    case = next(case for case in cases() if str(case) == f"{strategy}-tcp")
    if case.unavailable:
        pytest.skip(case.unavailable)
    with spawned(case) as server:
        with Client(server.address) as client:
            assert client.echo(b"open") == b"open"
        assert eventually(lambda: asleep(server))

        def churn() -> None:
            for _ in range(10):
                with Client(server.address) as client:
                    assert client.echo(b"hello") == b"hello"

        calls = Counter(system_calls(server.process.pid, churn))
        assert calls["ioctl"] == 10 * FIONBIO[strategy], calls


def test_a_client_that_left_before_it_got_its_pipes_is_passed_over(sock: socket.socket) -> None:
    source = listener(sock, "pipe")
    source.set_blocking(False)
    dialled(sock).close()
    assert source.accept() is None
    assert source.refused == {}


def test_a_connection_that_a_strategy_refuses_is_closed_and_counted_and_told_of_once(sock: socket.socket) -> None:
    told: list[str] = []
    source = listener(sock, "unix", told.append)
    for _ in range(3):
        client = dialled(sock)
        channel = source.accept()
        assert channel is not None
        source.refuse(channel, "no room")
        assert os.read(client.rfd, 1) == b""
        client.close()
    assert source.refused == {"no room": 3}
    assert told == ["no room"]


def test_a_connection_that_the_kernel_accepted_is_adopted_as_one_from_accept_is(sock: socket.socket) -> None:
    source = listener(sock, "pipe")
    source.set_blocking(False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        accepted, _ = sock.accept()
        channel = source.adopt(accepted.detach())
        assert channel is not None
        assert channel.rfd != channel.wfd
        assert not os.get_blocking(channel.rfd)
        channel.close()


def test_an_adopted_connection_whose_client_has_gone_is_none(sock: socket.socket) -> None:
    source = listener(sock, "pipe")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        accepted, _ = sock.accept()
    assert source.adopt(accepted.detach()) is None
    assert source.refused == {}


def test_a_closed_listener_has_no_descriptor_left_and_others_still_listen(sock: socket.socket) -> None:
    before = psutil.Process().num_fds()
    source = listener(sock.dup(), "unix")
    source.close()
    assert psutil.Process().num_fds() == before
    client = dialled(sock)
    client.close()


class Exhausted(socket.socket):
    """A socket for which the system has no descriptors left."""

    def accept(self) -> NoReturn:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))


def test_a_system_without_descriptors_makes_a_server_neither_end_nor_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []
    monkeypatch.setattr("servers.contract.time.sleep", pauses_s.append)
    with Exhausted(socket.AF_UNIX) as sock:
        source = Listener(sock, "unix:nowhere", lambda conn: Channel(0, 0))
        assert source.accept() is None
        assert len(pauses_s) == 1
        assert 0 < pauses_s[0] < 0.1
        assert source.refused == {}


class Failing(socket.socket):
    """A listening socket whose accept fails once with each of `failures`, and then works."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            number = self.failures.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


PASSED_ON = (
    # of TCP/IP
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH),
    *(errno.EOPNOTSUPP, errno.ENETUNREACH),
    # of a firewall
    errno.EPERM,
    # of "various Linux kernels"
    *(errno.ENOSR, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT, errno.ETIMEDOUT),
)


@pytest.mark.parametrize("number", PASSED_ON, ids=errno.errorcode.get)
def test_a_connection_that_the_network_lost_is_counted_and_the_next_one_accepted(
    sock: socket.socket, number: int
) -> None:
    with Failing(fileno=os.dup(sock.fileno())) as failing:
        failing.failures = [number]
        source = listener(failing, "unix")
        client = dialled(sock)
        channel = source.accept()
        assert channel is not None
        assert source.refused == {f"{errno.errorcode[number]}: {os.strerror(number)}": 1}
        channel.close()
        client.close()


def test_a_connection_whose_client_gave_up_is_passed_over_and_not_counted(sock: socket.socket) -> None:
    with Failing(fileno=os.dup(sock.fileno())) as failing:
        failing.failures = [errno.ECONNABORTED, errno.ECONNRESET]
        source = listener(failing, "unix")
        client = dialled(sock)
        channel = source.accept()
        assert channel is not None
        assert source.refused == {}
        channel.close()
        client.close()


LOSES_TWO = """
import errno, os, socket, sys
from servers.__main__ import main
accept, lost = socket.socket.accept, [errno.EPROTO, errno.EHOSTUNREACH]
def losing(sock):
    if lost:
        number = lost.pop()
        raise OSError(number, os.strerror(number))
    return accept(sock)
socket.socket.accept = losing
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "which", [case for case in cases() if case.transport == "tcp" and not case.unavailable], ids=str
)
def test_a_server_serves_on_when_the_network_has_lost_a_connection(which: Case) -> None:
    with spawned(which, program=["-c", LOSES_TWO]) as server:
        with Client(server.address) as client:
            assert client.echo(b"served") == b"served"
        assert stop(server.process) == 0
        assert server.complaints() == ""


def test_a_firewall_that_forbids_every_connection_makes_a_server_neither_end_nor_spin(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_s: list[float] = []
    monkeypatch.setattr("servers.contract.time.sleep", pauses_s.append)
    with Failing(fileno=os.dup(sock.fileno())) as failing:
        failing.failures = [errno.EPERM] * 3 * BACKLOG
        source = listener(failing, "unix")
        assert source.accept() is None
        assert len(pauses_s) == 1
        assert 0 < pauses_s[0] < 0.1
        assert sum(source.refused.values()) == BACKLOG


def test_pipes_that_can_not_be_handed_over_are_refused_with_the_limit_that_they_met(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many_in_flight(*_: object) -> None:
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    monkeypatch.setattr("servers.transport.socket.send_fds", too_many_in_flight)
    source = listener(sock, "pipe")
    source.set_blocking(False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        before = psutil.Process().num_fds()
        assert source.accept() is None
        assert psutil.Process().num_fds() == before
        assert client.recv(1) == b""
    [(reason, times)] = source.refused.items()
    assert reason.startswith("ETOOMANYREFS") and "RLIMIT_NOFILE" in reason
    assert times == 1


def test_an_error_that_is_about_the_listener_itself_is_not_swallowed() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        source = Listener(sock, "unix:nowhere", lambda conn: Channel(0, 0))
        with pytest.raises(OSError, match="Invalid argument"):  # accept(2) on a socket that does not listen
            source.accept()


def test_stop_passes_through_code_that_catches_every_exception() -> None:
    assert issubclass(Stop, SystemExit)
    assert not issubclass(Stop, Exception)


def test_sigterm_raises_stop_in_the_main_thread_once() -> None:
    code = """
import os, signal
from servers.contract import Stop, stop_on_sigterm
stop_on_sigterm()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("not stopped")
except Stop:
    os.kill(os.getpid(), signal.SIGTERM)
    print("ended in peace")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert ended.stdout == "ended in peace\n"
