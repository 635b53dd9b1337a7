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
from typing import Dict

from servers.contract import RECV_SIZE, Channel, Listener, Strategy


def echo_some(channel: Channel, unsent: bytes) -> bytes:
    """Do one step of an echo without waiting: write what is still unsent or else what can be read now.

    Returns the bytes for which there was no room. While there are any nothing more is read, so a peer that never reads
    costs one buffer, and TCP's flow control then stops it from sending. Raises BlockingIOError when there was nothing
    to read, EOFError when the peer has closed, any other OSError when the connection is broken.
    """
    rfd, wfd = channel
    data = unsent or os.read(rfd, RECV_SIZE)
    if not data:
        raise EOFError
    try:
        return data[os.write(wfd, data) :]
    except BlockingIOError:
        return data


def serve(listener: Listener) -> None:
    """Sweep over the listener and all connections for ever."""
    listener.set_blocking(False)
    unsent: Dict[Channel, bytes] = {}
    while True:
        newcomer = listener.accept()
        if newcomer is not None:
            unsent[newcomer] = b""
        ended = []
        for channel, rest in unsent.items():
            try:
                unsent[channel] = echo_some(channel, rest)
            except BlockingIOError:
                continue
            except (OSError, EOFError):
                ended.append(channel)
        for channel in ended:
            del unsent[channel]
            channel.close()


STRATEGIES = (
    Strategy(
        name="nonblocking_polling",
        summary="non-blocking read and write, tried on every connection in turn",
        serve=serve,
        model="nonblocking",
    ),
)
