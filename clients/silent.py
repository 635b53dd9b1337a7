"""Connections that never send, and on which the server is to say nothing either. Those that do send are elsewhere."""

from __future__ import annotations

import os
import select
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clients.faults import name_ending

if TYPE_CHECKING:
    from clients.table import Ends


class Silent:
    """Open connections, watched by an epoll of their own. Takes the channels over: `close` ends them all.

    Raises OSError where the kernel won't watch them; they are then still the caller's.
    """

    def __init__(self, channels: Sequence[Ends]) -> None:
        self._channels: dict[int, Ends] = {}
        self._epoll = select.epoll()
        try:
            for channel in channels:
                os.set_blocking(channel.rfd, False)
                self._epoll.register(channel.rfd, select.EPOLLIN)
                self._channels[channel.rfd] = channel
                if channel.wfd != channel.rfd:
                    self._epoll.register(channel.wfd, 0)  # EPOLLERR, when nobody reads the pipe any more, comes unasked
                    self._channels[channel.wfd] = channel
        except OSError:
            self._channels.clear()
            self._epoll.close()
            raise

    def __len__(self) -> int:
        return len(set(self._channels.values()))

    def reap(self) -> Counter[str]:
        """End those that the server has closed or sent anything on; returns how many, by what happened."""
        ended = Counter[str]()
        if not self._channels:
            return ended
        for fd, _ in self._epoll.poll(0, len(self._channels)):
            if fd in self._channels:  # its other descriptor may have had an event too
                channel = self._channels[fd]
                ended[_name(channel)] += 1
                self._forget(channel)
        return ended

    def _forget(self, channel: Ends) -> None:
        for fd in set(channel):
            self._epoll.unregister(fd)
            del self._channels[fd]
        channel.close()

    def close(self) -> None:
        """Close every descriptor. A second call does nothing."""
        for channel in set(self._channels.values()):
            channel.close()
        self._channels.clear()
        self._epoll.close()


def _name(channel: Ends) -> str:
    try:
        return "extra" if os.read(channel.rfd, 1) else "closed"
    except BlockingIOError:
        return "closed"  # the event was of the other direction
    except OSError as error:
        return name_ending(error.errno or 0, 1, 0)
