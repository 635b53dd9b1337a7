"""Addresses and the transports behind them: tcp:HOST:PORT, unix:PATH, pipe:PATH.

`listen` and `dial` are the two ends. Whatever the transport, both sides see a Channel: a descriptor to read from and
one to write to. A pipe is one-way, so a pipe channel is two of them; they are handed over a UNIX socket.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any, Callable, List, NamedTuple, Optional

from servers.contract import BACKLOG, Channel, Listener

TRANSPORTS = ("tcp", "unix", "pipe")


class AddressError(ValueError):
    """The text is not an address; the message says what one looks like."""


class Address(NamedTuple):
    """`place` is a path (a leading @ for Linux's abstract namespace) or a host; `port` is 0 but for tcp."""

    transport: str
    place: str
    port: int = 0

    def __str__(self) -> str:
        if self.transport != "tcp":
            return f"{self.transport}:{self.place}"
        host = f"[{self.place}]" if ":" in self.place else self.place
        return f"tcp:{host}:{self.port}"


def parse(text: str) -> Address:
    """Read tcp:HOST:PORT (an IPv6 HOST in brackets), unix:PATH or pipe:PATH. Raises AddressError."""
    transport, _, rest = text.partition(":")
    if transport in ("unix", "pipe") and rest:
        return Address(transport, rest)
    if transport == "tcp":
        host, _, port = rest.rpartition(":")
        host = host.strip("[]")
        if _is_host(host) and port.isascii() and port.isdigit() and int(port) < 65536:
            return Address("tcp", host, int(port))
    raise AddressError(f"{text!r} is not an address: expected tcp:HOST:PORT, unix:PATH or pipe:PATH")


def listen(address: Address) -> socket.socket:
    """Bind and listen. Port 0 lets the kernel choose a free one. Raises OSError where the address is taken."""
    if address.transport == "tcp":
        family = socket.AF_INET6 if ":" in address.place else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # An accepted socket inherits it from its listener: no system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        where: Any = (address.place, address.port)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _remove_stale_socket(address.place)
        where = _unix_name(address.place)
    try:
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bound_address(sock: socket.socket, transport: str) -> Address:
    """Where a listening socket can be reached."""
    name = sock.getsockname()
    if transport == "tcp":
        return Address("tcp", name[0], name[1])
    return Address(transport, "@" + name[1:].decode() if isinstance(name, bytes) else name)


def listener(sock: socket.socket, transport: str, on_refused: Optional[Callable[[str], None]] = None) -> Listener:
    """Wrap a listening socket, own or inherited, for a strategy to accept from."""
    open_channel = _hand_over_pipes if transport == "pipe" else _socket_channel
    return Listener(sock, str(bound_address(sock, transport)), open_channel, on_refused)


def dial(address: Address, timeout: Optional[float] = None) -> Channel:
    """Connect, waiting at most `timeout` seconds. The channel is blocking. Raises OSError (TimeoutError, ...)."""
    if address.transport == "tcp":
        sock = socket.create_connection((address.place, address.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(_unix_name(address.place))
            if address.transport == "pipe":
                return _take_pipes(sock)
        except OSError:
            sock.close()
            raise
    sock.settimeout(None)
    return _socket_channel(sock.detach())


def _is_host(text: str) -> bool:
    try:
        return bool(text.encode("idna"))  # as the resolver does: it knows empty and too long labels
    except UnicodeError:
        return False


def _socket_channel(fd: int) -> Channel:
    return Channel(fd, fd)


def _hand_over_pipes(fd: int) -> Channel:
    """Make two pipes and pass the client its ends as ancillary data (SCM_RIGHTS, unix(7)).

    The server must not keep a copy of the client's ends: as long as any process holds a write end, the reader never
    sees end-of-file.
    """
    made: List[int] = []
    with socket.socket(fileno=fd) as conn:
        try:
            made += os.pipe()  # close-on-exec, as is every descriptor that Python makes (PEP 446)
            made += os.pipe()
            from_client, client_writes, client_reads, to_client = made
            socket.send_fds(conn, [b"p"], [client_reads, client_writes])
        except OSError:
            for end in made:
                os.close(end)
            raise
    os.close(client_reads)
    os.close(client_writes)
    return Channel(from_client, to_client)


def _take_pipes(sock: socket.socket) -> Channel:
    _, fds, flags, _ = socket.recv_fds(sock, 1, 2)
    if len(fds) != 2:
        for fd in fds:
            os.close(fd)
        if flags & socket.MSG_CTRUNC:  # the kernel drops those for which there is no descriptor left
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise ConnectionRefusedError("the server closed the connection before it handed over its pipes")
    for fd in fds:
        os.set_inheritable(fd, False)  # recv_fds passes no MSG_CMSG_CLOEXEC on, whatever flags it is given
    sock.close()
    return Channel(*fds)


def _unix_name(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


def _remove_stale_socket(path: str) -> None:
    """A socket file outlives its server; one that nobody listens on is in the way of the next bind."""
    if path.startswith("@") or not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return  # connect(2) is refused by a file that is no socket as well: it must not be taken for a stale one
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
