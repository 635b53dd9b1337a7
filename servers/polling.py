"""Non-blocking I/O, and asking every connection in turn.

    accept() = EAGAIN   read(4) = EAGAIN   read(5) = 64 --> write(5)   read(6) = EAGAIN   accept() = EAGAIN ...

With O_NONBLOCK a read(2) that has nothing to give returns at once with EAGAIN (EWOULDBLOCK is the same number on
Linux), and so does a write(2) that has no room. The server never sleeps: it sweeps over all of its connections and
asks each one, again and again, and burns a whole core when nothing happens at all.

What it costs as connections grow: every sweep makes one system call for each connection, ready or not. With all of
them busy that is little worse than being told which are ready; with one busy among a thousand it is a thousand
calls for an echo. Nothing wakes it, so nothing has to: with a core to itself and few connections it answers
quickly.
"""

from __future__ import annotations

import os
from typing import List

from servers.contract import RECV_SIZE, Channel, Listener, Strategy

# Accepted between two sweeps, at most. One alone would make the time in which all get in rise with the square of their
# number: each would wait for a sweep over all before it.
NEWCOMERS = 64


class Connection:
    """A non-blocking channel, and the bytes read from it for which there was no room yet.

    While any are `unsent` nothing more is read, so a peer that never reads costs one buffer, and flow control then
    stops it from sending.
    """

    __slots__ = ("channel", "rfd", "unsent", "wfd")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.rfd, self.wfd = channel
        self.unsent = b""

    def echo_some(self) -> None:
        """Write what is unsent, or else what can be read now, without waiting for either.

        Raises BlockingIOError (EAGAIN) when there was nothing to read, EOFError when the peer has closed, and any other
        OSError when the connection is broken.
        """
        data = self.unsent or os.read(self.rfd, RECV_SIZE)
        if not data:
            raise EOFError
        try:
            sent = os.write(self.wfd, data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:] if sent < len(data) else b""


def serve(listener: Listener) -> None:
    """Sweep over the listener and all connections for ever."""
    listener.set_blocking(False)
    connections: List[Connection] = []
    while True:
        for _ in range(NEWCOMERS):
            channel = listener.accept()
            if channel is None:
                break
            connections.append(Connection(channel))
        ended = []
        for connection in connections:
            try:
                connection.echo_some()
            except BlockingIOError:
                continue
            except (OSError, EOFError):
                ended.append(connection)
        for connection in ended:
            connections.remove(connection)
            connection.channel.close()


STRATEGIES = (
    Strategy(
        name="nonblocking_polling",
        summary="non-blocking read and write, tried on every connection in turn",
        serve=serve,
        model="nonblocking",
    ),
)
