"""What every echo server agrees on: the channel, the listener, how a strategy is described and how it is stopped.

Buffer size, backlog and the treatment of a connection that can't be served are set here, once, so that two strategies
differ in nothing but their I/O. No strategy's own mechanism belongs in this file.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Callable, Dict, NamedTuple, NoReturn, Optional, Tuple

# One read takes at most this much. 64 KiB is below glibc's mmap threshold (128 KiB), so a buffer of this size comes
# from the heap; a larger one may cost an mmap and a munmap for every read.
RECV_SIZE = 64 * 1024

# Connections the kernel completes while the server is busy elsewhere. The kernel caps it at net.core.somaxconn.
BACKLOG = 4096

# What accept(2), and the hand-over of pipes, say when there is no descriptor, or no memory, left for a connection.
# ETOOMANYREFS (unix(7)): pipes that clients have not taken out of their sockets count against a limit as well.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)

# What accept(2) passes on of the one connection that it took out of the queue: the network lost it, or a firewall
# forbids it. The last line is what some kernels return besides.
LOST = (
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH),
    *(errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM),
    *(errno.ETIMEDOUT, errno.ENOSR, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT),
)

# The limits behind some errors; ENOSPC is epoll_ctl(2)'s.
LIMITS = {
    errno.EMFILE: " (RLIMIT_NOFILE, ulimit -n)",
    errno.ENFILE: " (fs.file-max)",
    errno.ETOOMANYREFS: " (RLIMIT_NOFILE, ulimit -n: pipes that clients have not taken yet)",
    errno.ENOSPC: " (fs.epoll.max_user_watches)",
}

# Before the next attempt at what the system had nothing left for: a server must not spin on it.
PAUSE_S = 0.01


class Stop(SystemExit):
    """Raised in the main thread by SIGTERM: it ends `serve` wherever it is.

    A SystemExit, because event loops let that through where they log and swallow any other exception of a callback.
    """


class Channel(NamedTuple):
    """One connection: bytes come in on `rfd` and go out on `wfd`. The same descriptor twice for a socket."""

    rfd: int
    wfd: int

    def close(self) -> None:
        """Close both directions."""
        os.close(self.rfd)
        if self.wfd != self.rfd:
            os.close(self.wfd)


class Listener:
    """A listening socket whose `accept` yields a Channel, on every transport.

    A connection for which there is no descriptor left is refused in an orderly way: it is taken out of the queue and
    closed, so that its client learns of it at once, and the listener and all other connections live on. Refusals are
    counted by reason in `refused`, and so are connections that the network lost in the queue; `on_refused` is told of
    the first one of each reason.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        open_channel: Callable[[int], Channel],
        on_refused: Optional[Callable[[str], None]] = None,
    ) -> None:
        self.fd = sock.fileno()
        self.address = address
        self.refused: Dict[str, int] = {}
        self._sock = sock
        self._open_channel = open_channel
        self._on_refused = on_refused
        self._channels_block = True
        self._reserve = _reserve_descriptor()

    def set_blocking(self, blocking: bool, channels: Optional[bool] = None) -> None:
        """Choose whether `accept` waits, and whether the channels that it yields do: the same, if not told.

        A new channel waits (accept(2): O_NONBLOCK is not inherited), and Python's accept has no SOCK_NONBLOCK. Another
        one takes a system call for each descriptor: a strategy whose loop makes that call anyway takes those that wait.
        """
        self._channels_block = blocking if channels is None else channels
        self._sock.setblocking(blocking)

    def accept(self) -> Optional[Channel]:
        """Take one connection out of the queue; None if none is waiting (non-blocking only) or can be accepted now.

        Those that have gone again, those that the network lost, and those that must be refused, are passed over. Raises
        OSError for what no other connection will mend.
        """
        for _ in range(BACKLOG):
            try:
                conn = self._accept_descriptor()
                channel = self._open(conn) if conn is not None else None
            except BlockingIOError:
                return None
            except OSError as error:
                self.pass_over(error)
                continue
            if channel is not None:
                return channel
        time.sleep(PAUSE_S)  # a firewall may forbid them all, and leave them in the queue
        return None

    def adopt(self, fd: int) -> Optional[Channel]:
        """Make a Channel of a connection that was accepted without us; None if it has gone or must be refused.

        For strategies in which the kernel accepts by itself. Raises OSError for what no other connection will mend.
        """
        try:
            return self._open(fd)
        except OSError as error:
            self.pass_over(error)
            return None

    def close(self) -> None:
        """Close this process's copy of the listening socket, in a child that accepts nothing."""
        self._sock.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def refuse(self, channel: Channel, reason: str) -> None:
        """Close a connection that the strategy can't serve, and count it."""
        channel.close()
        self.count(reason)

    def count(self, reason: str) -> None:
        """Count a connection that could not be served, and tell of the first one for that reason."""
        first = reason not in self.refused
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if first and self._on_refused is not None:
            self._on_refused(reason)

    def pass_over(self, error: OSError) -> None:
        """Go on after an error of one connection: its client has gone, or the network lost it, which is counted.

        Raises any other error.
        """
        if error.errno in LOST:
            self.count(describe(error))
        elif not isinstance(error, ConnectionError):
            raise error

    def _open(self, conn: int) -> Optional[Channel]:
        """Open the channel of an accepted connection; None if there is no descriptor left for it."""
        try:
            channel = self._open_channel(conn)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self.count(describe(error))
            return None
        if not self._channels_block:
            for fd in set(channel):
                os.set_blocking(fd, False)
        return channel

    def _accept_descriptor(self) -> Optional[int]:
        """Accept; with no descriptor left, on the reserved one. None if the connection had to be closed again.

        A connection that is left in the queue would keep the listener readable, and a level-triggered loop would spin.
        Raises BlockingIOError where none is waiting, or where there is no descriptor even so.
        """
        try:
            return self._sock.accept()[0].detach()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            if self._reserve is not None:
                os.close(self._reserve)
            try:
                conn = self._sock.accept()[0].detach()
            except OSError as again:
                if again.errno not in EXHAUSTED:
                    raise
                time.sleep(PAUSE_S)  # the limit was lowered, or the whole system has run out
                raise BlockingIOError from None
            finally:
                self._reserve = _reserve_descriptor()
            if self._reserve is not None:
                return conn  # the kernel wants a descriptor before it looks at the queue: one has become free meanwhile
            os.close(conn)
            self.count(describe(error))
            self._reserve = _reserve_descriptor()
            return None


@dataclass(frozen=True)
class Strategy:
    """One way of doing I/O, as `python -m servers --list` describes it.

    `model` is blocking, nonblocking, multiplexing, signal, completion or coroutine. `concurrent` is False for a server
    that serves one connection at a time. `probe` raises, with the reason, where the machine or the interpreter can't
    run the strategy.
    """

    name: str
    summary: str
    serve: Callable[[Listener], None]
    model: str
    transports: Tuple[str, ...] = ("tcp", "unix", "pipe")
    concurrent: bool = True
    probe: Optional[Callable[[], None]] = None


def stop_on_sigterm() -> None:
    """Make SIGTERM, and the Ctrl-C of somebody who runs a server by hand, raise Stop in the main thread.

    Python's handler runs between two byte codes, or when the signal interrupts a system call (signal(7), EINTR): a
    server that sleeps in the kernel is woken by it.
    """

    stopping = (signal.SIGTERM, signal.SIGINT)

    def stop(signum: int, frame: object) -> NoReturn:
        # Once is enough; a second one must not interrupt the ending. Blocked first: Python complains of a signal that
        # comes while it changes what is done about that signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        for number in stopping:
            signal.signal(number, signal.SIG_IGN)
        raise Stop(0)

    for number in stopping:
        signal.signal(number, stop)


def _reserve_descriptor() -> Optional[int]:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None


def describe(error: Exception) -> str:
    """The name of an error, what it means, and the limit behind it where that is known; other exceptions' own words."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error)
    return f"{errno.errorcode.get(error.errno, error.errno)}: {os.strerror(error.errno)}{LIMITS.get(error.errno, '')}"
