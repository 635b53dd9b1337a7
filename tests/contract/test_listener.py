"""What every strategy relies on: a Listener's `accept`, its refusals, and the Stop that SIGTERM raises."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from spawn import ROOT, WAIT_S

from servers.contract import Channel, Listener, Stop
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


def test_an_error_that_is_not_about_descriptors_is_not_swallowed() -> None:
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
