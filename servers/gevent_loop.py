"""Green threads: gevent, a greenlet for each connection, over libev.

    epoll_wait() --> recv() --> getsockopt(SO_SNDBUF) --> send() --> recv() = EAGAIN --> epoll_wait() ...

The code of a connection is the blocking one, without async or await. Where a read says EAGAIN, its greenlet switches to
the hub, the greenlet that runs libev's loop, which switches back when the descriptor is ready. All of them share the
thread's C stack: at a switch, the piece that one has in use is copied to the heap, and the other's is copied back.

One echo on a socket is five system calls; sendall asks for the size of the socket's buffer each time. libev
changes its interest list lazily: a descriptor that nobody waits for any more stays on it, and is dealt with when it is
reported. A socket has one watcher for as long as it lives, so waiting again needs no epoll_ctl. nb_read, for pipes,
makes a watcher for each wait, and libev makes sure with fcntl(F_GETFD) and an epoll_ctl(ADD) = EEXIST: six calls.

What it costs as connections grow: for each that waits, a greenlet with its frames and its piece of the C stack.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Callable

from servers.contract import RECV_SIZE, Channel, Listener, Strategy

# Messages that a greenlet echoes before it lets others run, whether it had to wait for any of them or not.
TURN = 16


def probe() -> None:
    """Raise, with the remedy, where gevent is not installed."""
    try:
        import gevent  # type: ignore[import-untyped]  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pip install 'iobench[loops]'") from None


def serve(listener: Listener) -> None:
    """Serve until SIGTERM: a greenlet accepts, and starts one for each connection."""
    import gevent.event  # type: ignore[import-untyped]  # noqa: PLC0415
    import gevent.os  # type: ignore[import-untyped]  # noqa: PLC0415
    import gevent.socket  # type: ignore[import-untyped]  # noqa: PLC0415

    listener.set_blocking(False, channels=True)  # a socket of gevent sets O_NONBLOCK itself
    stopped = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # libev's handler takes the place of Python's: Stop would be raised in whichever greenlet runs.
        gevent.signal_handler(number, stopped.set)
    gevent.spawn(welcome, gevent, listener)
    stopped.wait()


def welcome(gevent: ModuleType, listener: Listener) -> None:
    """Accept; give every connection a greenlet of its own."""
    while True:
        gevent.socket.wait_read(listener.fd)
        channel = listener.accept()
        if channel is not None:
            gevent.spawn(echo_on_socket if channel.rfd == channel.wfd else echo_on_pipes, gevent, channel)


def echo_on_socket(gevent: ModuleType, channel: Channel) -> None:
    """Echo by the calls of gevent's socket objects."""
    with gevent.socket.socket(fileno=channel.rfd) as sock:
        echo(sock.recv, sock.sendall, partial(gevent.socket.wait_read, channel.rfd))


def echo_on_pipes(gevent: ModuleType, channel: Channel) -> None:
    """Echo by gevent's functions for descriptors that are no sockets."""
    for fd in channel:
        os.set_blocking(fd, False)

    def write_all(data: bytes) -> None:
        sent = gevent.os.nb_write(channel.wfd, data)
        while sent < len(data):
            sent += gevent.os.nb_write(channel.wfd, data[sent:])

    echo(partial(gevent.os.nb_read, channel.rfd), write_all, partial(gevent.socket.wait_read, channel.rfd))
    channel.close()


def echo(read: Callable[[int], bytes], write_all: Callable[[bytes], None], wait_read: Callable[[], None]) -> None:
    """Echo until the peer closes the connection or it breaks."""
    with suppress(OSError):
        while True:
            for _ in range(TURN):
                data = read(RECV_SIZE)
                if not data:
                    return
                write_all(data)
            # A read that finds bytes at once does not switch: a flood would be echoed here for ever. Nor would sleep(0)
            # do, with which floods take turns among themselves for up to 5 ms until the loop asks who else is ready.
            wait_read()


STRATEGIES = (
    Strategy(
        name="gevent",
        summary="gevent: a greenlet for each connection calls what looks like a blocking read and write",
        serve=serve,
        model="coroutine",
        probe=probe,
    ),
)
