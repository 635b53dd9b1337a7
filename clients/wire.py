"""The system calls of the load generator, for compiled code: epoll, read, write and the clock, straight on libc.

No connection, message or workload is known here. Addresses are passed as integers (`address`), results and errors are
those of libc: -1, and the reason in `last_error()`.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import platform
import time
from typing import Any

import numpy as np
from numba import types

from clients.compiled import inlined

EPOLLIN = 0x001
EPOLLOUT = 0x004
EPOLL_CTL_ADD = 1
EPOLL_CTL_DEL = 2
EPOLL_CTL_MOD = 3

# struct epoll_event is 32 bits of events and 64 bits of the user's data. On x86-64 alone it is packed, so that 32-bit
# programs can share it (<sys/epoll.h>): 12 bytes there, 16 wherever a 64-bit number is aligned to 8.
PACKED = platform.machine() in ("x86_64", "i386", "i486", "i586", "i686")
EVENT_WORDS = 3 if PACKED else 4
EVENT_DATA = 1 if PACKED else 2  # the word that holds the lower half of the data

_MONOTONIC = int(time.CLOCK_MONOTONIC)


def _libc(name: str, result: Any, *arguments: Any) -> Any:
    """Declare a function of libc, to be called by its symbol.

    Through a ctypes pointer its address would become part of the machine code: another one in the next process, so that
    Numba refuses to cache it.
    """
    return types.ExternalFunction(name, result(*arguments))


_INT, _LONG = types.int32, types.int64  # a pointer is passed as a long: on every 64-bit ABI they travel alike
_read = _libc("read", _LONG, _INT, _LONG, _LONG)
_write = _libc("write", _LONG, _INT, _LONG, _LONG)
_memcmp = _libc("memcmp", _INT, _LONG, _LONG, _LONG)
_clock_gettime = _libc("clock_gettime", _INT, _INT, _LONG)
_epoll_ctl = _libc("epoll_ctl", _INT, _INT, _INT, _INT, _LONG)
_epoll_wait = _libc("epoll_wait", _INT, _INT, _LONG, _INT, _INT)
# Variadic in C, and epoll_pwait2 has no function of its own in an older libc. On x86-64 and AArch64 Linux integers are
# passed to a variadic function as to any other.
_syscall = _libc("syscall", _LONG, _LONG, _LONG, _LONG, _LONG, _LONG, _LONG, _LONG)
_EPOLL_PWAIT2 = 441  # the same on every architecture (Linux 5.11)
_errno = _libc("__errno_location", types.CPointer(_INT))  # type: ignore[no-untyped-call]


@inlined
def address(array):  # type: ignore[no-untyped-def]
    """Return where an array's memory begins."""
    return np.int64(array.ctypes.data)


@inlined
def last_error():  # type: ignore[no-untyped-def]
    """Return errno of this thread."""
    return np.int64(_errno()[0])


@inlined
def read(fd, into, size):  # type: ignore[no-untyped-def]
    """read(2): the number of bytes, 0 at end-of-file, -1 on error."""
    return _read(fd, into, size)


@inlined
def write(fd, source, size):  # type: ignore[no-untyped-def]
    """write(2): the number of bytes taken, -1 on error. Python ignores SIGPIPE, so a vanished reader is EPIPE."""
    return _write(fd, source, size)


@inlined
def same(left, right, size):  # type: ignore[no-untyped-def]
    """Return whether two stretches of memory hold the same bytes."""
    return _memcmp(left, right, size) == 0


@inlined
def monotonic_ns(timespec):  # type: ignore[no-untyped-def]
    """CLOCK_MONOTONIC in ns, the clock of time.monotonic_ns(). `timespec` is scratch: two int64."""
    _clock_gettime(_MONOTONIC, address(timespec))
    return timespec[0] * 1_000_000_000 + timespec[1]


@inlined
def epoll_ctl(epoll_fd, operation, fd, interest, token, event):  # type: ignore[no-untyped-def]
    """epoll_ctl(2); `token` comes back with each event. `event` is scratch: EVENT_WORDS of int32."""
    event[0] = interest
    event[1] = 0
    event[EVENT_WORDS - 1] = 0
    event[EVENT_DATA] = token
    return _epoll_ctl(epoll_fd, operation, fd, address(event))


@inlined
def epoll_wait(epoll_fd, events, timeout_ms):  # type: ignore[no-untyped-def]
    """epoll_wait(2) into `events`, int32 of shape (most, EVENT_WORDS); the number of events, -1 on error."""
    return _epoll_wait(epoll_fd, address(events), np.int32(events.shape[0]), np.int32(timeout_ms))


@inlined
def epoll_wait_ns(epoll_fd, events, timeout_ns, timespec):  # type: ignore[no-untyped-def]
    """epoll_pwait2(2) with a timeout in ns, otherwise as `epoll_wait`. `timespec` is scratch: two int64."""
    timespec[0] = timeout_ns // 1_000_000_000
    timespec[1] = timeout_ns % 1_000_000_000
    most = np.int64(events.shape[0])
    return _syscall(_EPOLL_PWAIT2, np.int64(epoll_fd), address(events), most, address(timespec), 0, 0)
