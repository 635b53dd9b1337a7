"""Opening and closing connections from compiled code: socket, bind, connect, the hand-over of pipes, close.

Like clients.wire, these are system calls and nothing more: results are those of libc, -1 and `wire.last_error()`,
unless said otherwise. When a connection is opened is the workload's business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Any

import numpy as np
from numba import types

from clients import wire
from clients.compiled import inlined
from clients.wire import _libc

_INT, _LONG = types.int32, types.int64
_UNSIGNED = types.uint32
_socket = _libc("socket", _INT, _INT, _INT, _INT)
_bind = _libc("bind", _INT, _INT, _LONG, _UNSIGNED)
_connect = _libc("connect", _INT, _INT, _LONG, _UNSIGNED)
_setsockopt = _libc("setsockopt", _INT, _INT, _INT, _INT, _LONG, _UNSIGNED)
_recvmsg = _libc("recvmsg", _LONG, _INT, _LONG, _INT)
_close = _libc("close", _INT, _INT)
# Variadic in C. On x86-64 and AArch64 Linux integers are passed to it as to any other function.
_fcntl = _libc("fcntl", _INT, _INT, _INT, _LONG)

_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
_IP, _TCP = int(socket.IPPROTO_IP), int(socket.IPPROTO_TCP)
_TCP_NODELAY = int(socket.TCP_NODELAY)
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; Python has no name for it before 3.12
_SOL_SOCKET, _SCM_RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_MSG_CMSG_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
_MSG_CTRUNC = int(socket.MSG_CTRUNC)
_F_SETFL, _O_NONBLOCK = int(fcntl.F_SETFL), int(os.O_NONBLOCK)
_EMFILE = errno.EMFILE

SCRATCH_WORDS = (
    16  # int64: a struct msghdr (7 words), an iovec (2), a buffer (1), a control message with 2 descriptors (3)
)
_IOVEC, _BUFFER, _CONTROL = 7, 9, 10

# What `take_pipes` returns besides 0 and -1.
NO_PIPES = -2

Scratch = np.ndarray[Any, np.dtype[np.int64]]


def internet_name(family: int, where: tuple[Any, ...]) -> bytes:
    """Return a struct sockaddr_in or sockaddr_in6 for an address as the socket module has it."""
    port = socket.htons(where[1])
    if family == socket.AF_INET:
        return struct.pack("=HH4s8x", family, port, socket.inet_aton(where[0]))
    flow, scope = (*where[2:], 0, 0)[:2]
    packed = socket.inet_pton(family, where[0].partition("%")[0])
    return struct.pack("=HHI16sI", family, port, socket.htonl(flow), packed, scope)


def unix_name(path: str) -> bytes:
    """Return a struct sockaddr_un, cut to its length: an abstract name has no end but that (unix(7))."""
    text = b"\0" + path[1:].encode() if path.startswith("@") else path.encode() + b"\0"
    return struct.pack("=H", socket.AF_UNIX) + text


@inlined
def open_socket(family):  # type: ignore[no-untyped-def]
    """socket(2), SOCK_STREAM, non-blocking and close-on-exec."""
    return _socket(np.int32(family), np.int32(_STREAM), np.int32(0))


@inlined
def close(fd):  # type: ignore[no-untyped-def]
    """close(2)."""
    return _close(fd)


@inlined
def connect(fd, name, name_bytes):  # type: ignore[no-untyped-def]
    """connect(2) to the socket address that lies at `name`."""
    return _connect(fd, name, np.uint32(name_bytes))


@inlined
def send_at_once(fd, scratch):  # type: ignore[no-untyped-def]
    """TCP_NODELAY: the last part of a long message does not wait for the acknowledgement of what went before it."""
    scratch[0] = 1
    return _setsockopt(fd, np.int32(_TCP), np.int32(_TCP_NODELAY), wire.address(scratch), np.uint32(4))


@inlined
def bind_source(fd, name, name_bytes, scratch):  # type: ignore[no-untyped-def]
    """Choose the source address, and leave the port to connect(2).

    Otherwise bind(2) would have to choose a port that no socket of this address holds in any state, TIME_WAIT among
    them. connect(2) knows the other end, and needs but a pair of ends not in use (ip(7), IP_BIND_ADDRESS_NO_PORT).
    """
    scratch[0] = 1
    option = np.int32(_IP_BIND_ADDRESS_NO_PORT)
    if _setsockopt(fd, np.int32(_IP), option, wire.address(scratch), np.uint32(4)) < 0:
        return np.int32(-1)
    return _bind(fd, name, np.uint32(name_bytes))


@inlined
def take_pipes(link, ends, scratch):  # type: ignore[no-untyped-def]
    """Receive the two ends of a pipe channel into `ends` (int32: to read from, to write to), both non-blocking.

    Returns 0; -1 with an errno, EAGAIN where they have not come yet; NO_PIPES where the server closed the link instead;
    EMFILE (positive) where there was no descriptor left for them. The layout is that of 64-bit Linux: struct msghdr is
    name, its length, iovec, its count, control, its length, flags; a control message begins with its length (64 bits),
    level and type (32 each) (recvmsg(2), cmsg(3)).
    """
    at = wire.address(scratch)
    scratch[0] = 0
    scratch[1] = 0
    scratch[2] = at + 8 * _IOVEC
    scratch[3] = 1
    scratch[4] = at + 8 * _CONTROL
    scratch[5] = 24
    scratch[6] = 0
    scratch[_IOVEC] = at + 8 * _BUFFER
    scratch[_IOVEC + 1] = 1
    scratch[_CONTROL] = 0
    count = _recvmsg(link, at, np.int32(_MSG_CMSG_CLOEXEC | _MSG_DONTWAIT))
    if count < 0:
        return np.int64(-1)
    rights = (_SCM_RIGHTS << 32) | _SOL_SOCKET
    received = (scratch[_CONTROL] - 16) >> 2 if scratch[_CONTROL] > 16 and scratch[_CONTROL + 1] == rights else 0
    first = np.int32(scratch[_CONTROL + 2] & 0xFFFF_FFFF)
    if received == 2:
        ends[0] = first
        ends[1] = np.int32(scratch[_CONTROL + 2] >> 32)
        _fcntl(ends[0], np.int32(_F_SETFL), _O_NONBLOCK)
        _fcntl(ends[1], np.int32(_F_SETFL), _O_NONBLOCK)
        return np.int64(0)
    if received == 1:
        _close(first)
    # The kernel drops those descriptors for which there is no room in the table of this process.
    return np.int64(_EMFILE) if scratch[6] & _MSG_CTRUNC else np.int64(NO_PIPES)
