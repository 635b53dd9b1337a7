"""What is special to the servers on epoll: whose turn it is, and interest lists that have no room left."""

from __future__ import annotations

import errno
import os
import select
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from echo_client import Client
from spawn import asleep, cases, eventually, spawned, stop

from servers import epoll_edge
from servers.contract import Channel, Stop
from servers.polling import Connection
from servers.prefork import ExclusiveInterest
from servers.transport import Address, listen, listener

LISTENER = 3


class TwoEdges:
    """An epoll instance that reports the listener, then both pipes that it accepted, then nothing; then comes Stop."""

    def __init__(self) -> None:
        self.registered: list[int] = []
        self.rounds = 0

    def register(self, fd: int, events: int) -> None:
        self.registered.append(fd)

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        self.rounds += 1
        if self.rounds > 3:
            raise Stop
        reported = (self.registered[:1], self.registered[1:], [])[self.rounds - 1]
        return [(fd, select.EPOLLIN) for fd in reported]


def test_a_pair_of_pipes_that_never_comes_to_an_end_has_one_turn_in_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Connection] = []

    def take_turn(connection: Connection) -> bool:
        turns.append(connection)
        return False

    epoll = TwoEdges()
    monkeypatch.setattr(epoll_edge, "take_turn", take_turn)
    monkeypatch.setattr(select, "epoll", lambda: epoll)
    with listen(Address("pipe", str(tmp_path / "echo"))) as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        with pytest.raises(Stop):
            epoll_edge.serve(listener(sock, "pipe"))
    assert len(epoll.registered) == 3, "the listener and two pipes"
    assert len(turns) == 2, "the round of the edges, and the one after it"
    turns[0].channel.close()


NO_ROOM_TO_WAIT_FOR_ROOM = """
import errno, os, select, sys
from servers.__main__ import main
epoll = select.epoll

class Full:
    def __init__(self):
        self.epoll = epoll()
        self.modify, self.unregister = self.epoll.modify, self.epoll.unregister
        self.poll, self.close = self.epoll.poll, self.epoll.close

    def register(self, fd, events):
        if events & select.EPOLLOUT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.epoll.register(fd, events)

select.epoll = Full
sys.exit(main(sys.argv[1:]))
"""
WAITING_FOR_ROOM = ("epoll_lt", "epoll_oneshot_threads", "prefork_epoll", "trio")


@pytest.mark.parametrize("strategy", WAITING_FOR_ROOM)
def test_a_connection_that_can_not_be_waited_for_any_more_is_refused_and_the_others_served(strategy: str) -> None:
    which = next(case for case in cases() if str(case) == f"{strategy}-pipe")
    if which.unavailable:
        pytest.skip(which.unavailable)
    with spawned(which, program=["-c", NO_ROOM_TO_WAIT_FOR_ROOM]) as server, ExitStack() as stack:
        others = [stack.enter_context(Client(server.address)) for _ in range(5)]
        deaf = stack.enter_context(Client(server.address))
        for client in (deaf, *others):
            assert client.echo(b"hello") == b"hello"
        with suppress(BrokenPipeError):
            deaf.send_until_stuck(bytes(1024 * 1024))
        assert server.next_status() == {
            "event": "refused",
            "reason": "ENOSPC: No space left on device (fs.epoll.max_user_watches)",
        }
        deaf.receive_to_end()
        assert all(client.echo(b"still") == b"still" for client in others)
        assert eventually(lambda: asleep(server))
        assert stop(server.process) == 0
        assert sum(server.refused_in_all().values()) == 1
        assert server.complaints() == ""


class Crowded:
    """An interest list with places for so many; when one is given up, others take it so many times."""

    def __init__(self, places: int, taken_by_others: int) -> None:
        self.places, self.taken_by_others = places, taken_by_others
        self.watched: list[int] = []
        self.poll = None

    def register(self, fd: int, events: int) -> None:
        if not self.places:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.places -= 1
        self.watched.append(fd)

    def unregister(self, fd: int) -> None:
        self.watched.remove(fd)
        if self.taken_by_others:
            self.taken_by_others -= 1
        else:
            self.places += 1


def test_a_worker_that_lost_its_place_in_the_line_gets_that_of_the_connection_that_it_took() -> None:
    crowded = Crowded(places=2, taken_by_others=1)
    interest = ExclusiveInterest(crowded)
    interest.listen(LISTENER)
    with pytest.raises(OSError, match="No space left"):  # so that the connection is refused
        interest.admit(Channel(4, 4))
    assert crowded.watched == [LISTENER]


def test_a_worker_that_can_not_get_back_into_the_line_does_not_go_on_deaf() -> None:
    interest = ExclusiveInterest(Crowded(places=2, taken_by_others=2))
    interest.listen(LISTENER)
    with pytest.raises(RuntimeError, match=r"can't wait for connections any more: ENOSPC.*max_user_watches"):
        interest.admit(Channel(4, 4))
