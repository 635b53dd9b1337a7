"""I/O multiplexing with edge-triggered epoll: told once, at the moment when something changes.

    epoll_wait() = {5} --> read(5) --> write(5) --> read(5) = EAGAIN --> epoll_wait() ...

With EPOLLET the kernel reports a descriptor when bytes arrive or room appears, and then no more until that happens
again, whatever is left unread. So the server must go on until EAGAIN: bytes that it leaves behind on an edge are
bytes that it may never hear of again. One echo is epoll_wait + read + write + the read that finds EAGAIN.

In return the interest list is set once, for reading and writing together, and never changed: no epoll_ctl(2) when a
connection goes from reading to writing and back. (A UNIX socket announces room after every read of its peer, so there
each message brings a second, idle wake-up.)

Reading until EAGAIN has a trap: a peer that sends faster than it is read never lets EAGAIN come, and all others
starve. Therefore a turn is bounded, and a connection whose turn ended early is kept on a list of our own, to go on
after the others have had theirs.
"""

from __future__ import annotations

import select
from typing import Dict, List

from servers.contract import Listener, Strategy, describe
from servers.polling import Connection

# Reads in one turn: few enough that others wait for a millisecond at most, enough that the list is seldom used.
TURN = 16


def serve(listener: Listener) -> None:
    """Give a turn to each connection that has an edge, and to each whose last turn ended before EAGAIN."""
    listener.set_blocking(False)
    listening = listener.fd
    epoll = select.epoll()
    epoll.register(listening, select.EPOLLIN)  # level-triggered: one accept for each report loses nobody
    connections: Dict[int, Connection] = {}  # by each of their descriptors
    unfinished: List[Connection] = []
    while True:
        edges = [fd for fd, _ in epoll.poll(0 if unfinished else -1)]
        # Once each: an edge must not add a turn for good, nor have a pair of pipes one for each of its descriptors.
        due = dict.fromkeys(unfinished + [connections[fd] for fd in edges if fd != listening])
        unfinished = []
        for connection in due:
            try:
                if not take_turn(connection):
                    unfinished.append(connection)
            except (OSError, EOFError):
                del connections[connection.rfd]
                connections.pop(connection.wfd, None)
                connection.channel.close()  # takes it off the interest list: no other process has a copy
        if listening in edges:
            welcome(listener, epoll, connections)


def take_turn(connection: Connection) -> bool:
    """Echo until EAGAIN on either side: an edge will follow. False if the turn is over first, and none is due."""
    for _ in range(TURN):
        try:
            connection.echo_some()
        except BlockingIOError:
            return True
        if connection.unsent:
            return True
    return False


def welcome(listener: Listener, epoll: select.epoll, connections: Dict[int, Connection]) -> None:
    """Accept one connection and register it, once, for everything that it will ever wait for."""
    channel = listener.accept()
    if channel is None:
        return
    try:
        if channel.rfd == channel.wfd:
            epoll.register(channel.rfd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        else:
            epoll.register(channel.rfd, select.EPOLLIN | select.EPOLLET)
            epoll.register(channel.wfd, select.EPOLLOUT | select.EPOLLET)
    except OSError as error:
        listener.refuse(channel, describe(error))
        return
    connections[channel.rfd] = connections[channel.wfd] = Connection(channel)


STRATEGIES = (
    Strategy(
        name="epoll_et",
        summary="epoll(7), edge-triggered: reported once for each change, then read until EAGAIN",
        serve=serve,
        model="multiplexing",
    ),
)
