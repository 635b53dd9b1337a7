"""I/O multiplexing: sleep until one of many descriptors is ready, with select, poll or level-triggered epoll.

    wait() = {5, 9} --> read(5) --> write(5) --> read(9) --> write(9) --> wait() ...

One system call waits for all connections; it returns those on which a read (or a write) will not block. So one echo
is read + write + its share of a wait: three calls when messages come one by one, close to two when many do at once.

The three differ in where the interest list lives and in how they find the ready ones:

    select   The list is an argument: two bit masks of FD_SETSIZE (1,024) bits, copied in, scanned and copied out at
             every call. A descriptor numbered 1,024 or more can't be watched.
    poll     The list is an argument too, an array of (descriptor, events): no limit on the numbers, but still every
             entry is copied and asked at every call.
    epoll    The list is kept in the kernel and changed by epoll_ctl(2). A descriptor that becomes ready puts itself on
             the ready list, and epoll_wait(2) takes from that: its cost follows the ready ones, not the watched ones.

All are level-triggered here: a descriptor is reported for as long as it is ready, so it is safe to read once and
come back.
"""

from __future__ import annotations

import select
from typing import Any, Dict, List, Protocol, Set, Tuple

from servers.contract import Channel, Listener, Strategy, describe
from servers.polling import Connection

# The bits in an fd_set of the C library, <sys/select.h>; what select(2) writes beyond them is somebody else's memory.
FD_SETSIZE = 1024


class Interest(Protocol):
    """An interest list: the descriptors that are waited for, each either until it has bytes or until it has room."""

    def listen(self, fd: int) -> None:
        """Begin with the listener: wait for connections."""

    def admit(self, channel: Channel) -> None:
        """Begin with a new channel: wait for bytes. Raises ValueError or OSError if it can't be watched."""

    def await_room(self, channel: Channel) -> None:
        """Wait for room to write, where bytes were waited for until now."""

    def await_bytes(self, channel: Channel) -> None:
        """Wait for bytes to read, where room was waited for until now."""

    def forget(self, fd: int) -> None:
        """Stop waiting for a descriptor, before it is closed."""

    def wait(self) -> List[Tuple[int, int]]:
        """Sleep until something is ready; return (descriptor, events) for all that is."""


class SelectInterest:
    """Two sets, made into bit masks and handed to the kernel whole at every wait."""

    def __init__(self) -> None:
        self.readers: Set[int] = set()
        self.writers: Set[int] = set()

    def listen(self, fd: int) -> None:
        self.readers.add(fd)

    def admit(self, channel: Channel) -> None:
        if max(channel) >= FD_SETSIZE:
            raise ValueError("a descriptor numbered FD_SETSIZE or above, which select can't watch")
        self.readers.add(channel.rfd)

    def await_room(self, channel: Channel) -> None:
        self.readers.remove(channel.rfd)
        self.writers.add(channel.wfd)

    def await_bytes(self, channel: Channel) -> None:
        self.writers.remove(channel.wfd)
        self.readers.add(channel.rfd)

    def forget(self, fd: int) -> None:
        self.readers.discard(fd)
        self.writers.discard(fd)

    def wait(self) -> List[Tuple[int, int]]:
        readable, writable, _ = select.select(self.readers, self.writers, ())
        return [(fd, select.POLLIN) for fd in readable] + [(fd, select.POLLOUT) for fd in writable]


class RegisteredInterest:
    """The list of a poll or an epoll object, which Python gives the same methods.

    For poll, CPython keeps the array, and `register` is no system call: the array goes to the kernel at every wait. For
    epoll, the kernel keeps the list, and each of register, modify and unregister is an epoll_ctl(2).
    """

    def __init__(self, poller: Any) -> None:
        self.poller = poller
        self.forget = poller.unregister
        self.wait = poller.poll

    def listen(self, fd: int) -> None:
        self.poller.register(fd, select.POLLIN)

    def admit(self, channel: Channel) -> None:
        self.poller.register(channel.rfd, select.POLLIN)

    def await_room(self, channel: Channel) -> None:
        self._replace(channel.rfd, channel.wfd, select.POLLOUT)

    def await_bytes(self, channel: Channel) -> None:
        self._replace(channel.wfd, channel.rfd, select.POLLIN)

    def _replace(self, old_fd: int, fd: int, events: int) -> None:
        if fd == old_fd:
            self.poller.modify(fd, events)
        else:
            self.poller.unregister(old_fd)
            self.poller.register(fd, events)


def serve(listener: Listener, interest: Interest) -> None:
    """Echo on every connection that `interest` reports."""
    listener.set_blocking(False)
    listening = listener.fd
    connections: Dict[int, Connection] = {}  # by the descriptor that is waited for
    interest.listen(listening)
    while True:
        for fd, _ in interest.wait():
            if fd == listening:
                welcome(listener, interest, connections)
                continue
            connection = connections[fd]
            awaited_bytes = not connection.unsent
            try:
                connection.echo_some()
            except BlockingIOError:
                continue  # readiness is a hint: what was there may be gone by now
            except (OSError, EOFError):
                interest.forget(fd)
                connections.pop(fd).channel.close()
                continue
            if (not connection.unsent) != awaited_bytes:
                turn_round(listener, interest, connections, fd)


def turn_round(listener: Listener, interest: Interest, connections: Dict[int, Connection], fd: int) -> None:
    """Wait for room while anything is unsent, else for bytes: never for both, or a flood would fill our memory."""
    connection = connections.pop(fd)
    channel = connection.channel
    try:
        if connection.unsent:
            interest.await_room(channel)
            connections[channel.wfd] = connection
        else:
            interest.await_bytes(channel)
            connections[channel.rfd] = connection
    except OSError as error:  # ENOSPC, ENOMEM: of a pair of pipes, another descriptor is waited for from now on
        listener.refuse(channel, describe(error))


def welcome(listener: Listener, interest: Interest, connections: Dict[int, Connection]) -> None:
    """Accept one connection. If more are waiting, the listener is simply reported again."""
    channel = listener.accept()
    if channel is None:
        return
    try:
        interest.admit(channel)
    except (ValueError, OSError) as error:
        listener.refuse(channel, describe(error))
    else:
        connections[channel.rfd] = Connection(channel)


STRATEGIES = (
    Strategy(
        name="select",
        summary="select(2): all descriptors, below 1,024, passed and scanned at every wait",
        serve=lambda listener: serve(listener, SelectInterest()),
        model="multiplexing",
    ),
    Strategy(
        name="poll",
        summary="poll(2): all descriptors passed and scanned at every wait",
        serve=lambda listener: serve(listener, RegisteredInterest(select.poll())),
        model="multiplexing",
    ),
    Strategy(
        name="epoll_lt",
        summary="epoll(7), level-triggered: the kernel keeps the list and reports what is ready",
        serve=lambda listener: serve(listener, RegisteredInterest(select.epoll())),
        model="multiplexing",
    ),
)
