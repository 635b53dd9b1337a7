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
from typing import Dict, Iterable, List, Protocol, Set

from servers.contract import Channel, Listener, Strategy
from servers.polling import echo_some


class Interest(Protocol):
    """An interest list: the descriptors being waited for, each either for reading or for writing."""

    def watch(self, channel: Channel) -> None:
        """Begin with a new channel: wait for it to be readable. Raises ValueError or OSError if that can't be done."""

    def await_room(self, channel: Channel) -> None:
        """Wait for the channel to be writable instead."""

    def await_bytes(self, channel: Channel) -> None:
        """Wait for the channel to be readable again."""

    def forget(self, channel: Channel, writing: bool) -> None:
        """Stop waiting for the channel, before it is closed."""

    def wait(self) -> Iterable[int]:
        """Sleep until something is ready; return the descriptors that are."""


def serve(listener: Listener, interest: Interest) -> None:
    """Echo on every channel that `interest` reports.

    A channel waits either for bytes or, while some are unsent, for room: never for both.
    """
    listener.set_blocking(False)
    channels: Dict[int, Channel] = {}  # by the descriptor that is waited for
    unsent: Dict[int, bytes] = {}  # likewise; present while the channel waits for room
    interest.watch(Channel(listener.fd, listener.fd))
    while True:
        for fd in interest.wait():
            if fd == listener.fd:
                welcome(listener, interest, channels)
                continue
            channel = channels[fd]
            try:
                rest = echo_some(channel, unsent.get(fd, b""))
            except BlockingIOError:
                continue  # readiness is a hint: what was there may be gone
            except (OSError, EOFError):
                interest.forget(channel, writing=fd in unsent)
                del channels[fd]
                unsent.pop(fd, None)
                channel.close()
                continue
            if rest:
                if fd not in unsent:
                    interest.await_room(channel)
                    channels[channel.wfd] = channels.pop(fd)
                unsent[channel.wfd] = rest
            elif fd in unsent:
                del unsent[fd]
                interest.await_bytes(channel)
                channels[channel.rfd] = channels.pop(fd)


def welcome(listener: Listener, interest: Interest, channels: Dict[int, Channel]) -> None:
    """Accept one connection. If more are waiting, the listener is simply reported again."""
    channel = listener.accept()
    if channel is None:
        return
    try:
        interest.watch(channel)
    except (ValueError, OSError) as error:
        listener.refuse(channel, str(error))
    else:
        channels[channel.rfd] = channel


class Select:
    """Two sets, handed to the kernel whole at every wait."""

    def __init__(self) -> None:
        self.readers: Set[int] = set()
        self.writers: Set[int] = set()

    def watch(self, channel: Channel) -> None:
        try:
            select.select(channel, (), (), 0)
        except ValueError:
            raise ValueError("a descriptor numbered FD_SETSIZE or above, which select can't watch") from None
        self.readers.add(channel.rfd)

    def await_room(self, channel: Channel) -> None:
        self.readers.remove(channel.rfd)
        self.writers.add(channel.wfd)

    def await_bytes(self, channel: Channel) -> None:
        self.writers.remove(channel.wfd)
        self.readers.add(channel.rfd)

    def forget(self, channel: Channel, writing: bool) -> None:
        if writing:
            self.writers.remove(channel.wfd)
        else:
            self.readers.remove(channel.rfd)

    def wait(self) -> Iterable[int]:
        readable, writable, _ = select.select(self.readers, self.writers, ())
        return readable + writable


class Poll:
    """An array of (descriptor, events), kept by CPython and handed to the kernel whole at every wait."""

    def __init__(self) -> None:
        self.array = select.poll()

    def watch(self, channel: Channel) -> None:
        self.array.register(channel.rfd, select.POLLIN)

    def await_room(self, channel: Channel) -> None:
        self.array.unregister(channel.rfd)
        self.array.register(channel.wfd, select.POLLOUT)

    def await_bytes(self, channel: Channel) -> None:
        self.array.unregister(channel.wfd)
        self.array.register(channel.rfd, select.POLLIN)

    def forget(self, channel: Channel, writing: bool) -> None:
        self.array.unregister(channel.wfd if writing else channel.rfd)

    def wait(self) -> Iterable[int]:
        return [fd for fd, _ in self.array.poll()]


class EpollLevelTriggered:
    """A list in the kernel. Only a change of it is a system call of its own, epoll_ctl(2)."""

    def __init__(self) -> None:
        self.epoll = select.epoll()

    def watch(self, channel: Channel) -> None:
        self.epoll.register(channel.rfd, select.EPOLLIN)

    def await_room(self, channel: Channel) -> None:
        self._rearm(channel.rfd, channel.wfd, select.EPOLLOUT)

    def await_bytes(self, channel: Channel) -> None:
        self._rearm(channel.wfd, channel.rfd, select.EPOLLIN)

    def forget(self, channel: Channel, writing: bool) -> None:
        # Closing the descriptor would do, but only while no other process holds a copy of it (epoll(7), Q6).
        self.epoll.unregister(channel.wfd if writing else channel.rfd)

    def wait(self) -> List[int]:
        return [fd for fd, _ in self.epoll.poll()]

    def _rearm(self, old_fd: int, fd: int, events: int) -> None:
        if fd == old_fd:
            self.epoll.modify(fd, events)
        else:
            self.epoll.unregister(old_fd)
            self.epoll.register(fd, events)


STRATEGIES = (
    Strategy(
        name="select",
        summary="select(2): all descriptors below 1,024 passed and scanned at every wait",
        serve=lambda listener: serve(listener, Select()),
        model="multiplexing",
    ),
    Strategy(
        name="poll",
        summary="poll(2): all descriptors passed and scanned at every wait",
        serve=lambda listener: serve(listener, Poll()),
        model="multiplexing",
    ),
    Strategy(
        name="epoll_lt",
        summary="epoll(7), level-triggered: the kernel keeps the list and reports what is ready",
        serve=lambda listener: serve(listener, EpollLevelTriggered()),
        model="multiplexing",
    ),
)
