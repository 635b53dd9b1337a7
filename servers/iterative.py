"""Blocking I/O, one connection at a time.

    accept() --> read() --> write() --> read() --> write() ... read() = 0 --> close() --> accept()

One echo is two system calls: read(2), then write(2). Both block. The process sleeps in read until bytes arrive, is
woken by the kernel when they do, and sleeps in write only when the peer's window is full: a peer that never reads
stops the server here, with at most one buffer in its hands.

There is one thread of control and it is inside one connection, so no other is looked at until this one ends: further
clients connect (the kernel completes the handshake on the backlog) and then wait. It is the cheapest way to serve one
client, and no way to serve two.
"""

from __future__ import annotations

import os

from servers.contract import RECV_SIZE, Channel, Listener, Strategy


def echo(channel: Channel) -> None:
    """Echo on a blocking channel until its peer closes it or it breaks; then close it."""
    rfd, wfd = channel
    try:
        while data := os.read(rfd, RECV_SIZE):
            sent = os.write(wfd, data)
            while sent < len(data):  # a signal handler may cut a blocking write short
                sent += os.write(wfd, data[sent:])
    except OSError:
        pass  # ECONNRESET, EPIPE: the peer has gone, and with it the connection
    finally:
        channel.close()


def serve(listener: Listener) -> None:
    """Serve one connection after the other."""
    while True:
        channel = listener.accept()
        if channel is not None:
            echo(channel)


STRATEGIES = (
    Strategy(
        name="iterative",
        summary="blocking read and write, one connection at a time",
        serve=serve,
        model="blocking",
        concurrent=False,
    ),
)
