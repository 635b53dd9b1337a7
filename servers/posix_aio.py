"""POSIX asynchronous I/O, aio_read(3) and aio_write(3): ask for a transfer, and be told when it is done.

    aio_read(5) ... [another thread: read(5) = 64] ... done --> aio_write(5) ... [another thread: write(5)] ... done

The calls return at once, and the program names the buffer before there is anything to read: a completion tells that the
bytes are there already, where readiness tells only that they could be had.

On Linux the kernel has no part in this. glibc keeps a queue for each descriptor and does the requests in threads of its
own, one at a time for each descriptor. So a read that waits for bytes is a thread that sleeps in read(2): this is
`thread_per_connection`, done by the C library, with a hand-over at either end of every transfer. By default there are
20 such threads at most, and 20 silent clients would stop all others; aio_init(3), a GNU extension, makes the pool
larger if it is called before the first request. A write that is queued behind a read of the same socket waits until
that is done, perhaps for ever; an echo never does that, it has one request at a time. Nobody can accept by aio: the
main thread does, and poll(2) tells it when.

The two differ in who is told:

    posix_aio_signal    The thread queues a real-time signal with the request's number. The main thread sleeps in
                        poll(2), takes the signals from a signalfd(2), and asks for what comes next.
    posix_aio_callback  The thread starts a further thread for each completion, which calls a function of ours. That
                        asks for what comes next, and ends.

One transfer is, in the thread that does it, pread(2) or pwrite(2), which fail with ESPIPE as sockets and pipes have no
position, read(2) or write(2) in their place, the telling, and futex(2) to sleep until there is something to do. The
telling and the answer to it are getpid + getuid + rt_sigqueueinfo + poll + read(signalfd) + futex, or else clone3 +
futex and a dozen calls more, with which a thread begins and ends. One echo is two transfers: 14 system calls, or 30,
and six to ten on futexes where iterative.py makes two.

What it costs as connections grow: a thread with a small stack and a buffer of RECV_SIZE for each of them, busy or not;
and the descriptors with requests are one linked list, under one lock, which every new request walks from its start.

Completions can go untold: the queue of signals may be full (RLIMIT_SIGPENDING), and a thread may not start. Also, a
request may find no thread to do it. Neither is reported to anybody, so once a second the main thread looks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import struct
import time
from itertools import count
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from servers.contract import RECV_SIZE, Channel, Listener, Strategy
from servers.sigio import Signals

# The most threads that the C library may start, and so the most connections.
POOL = 4096

# The time between two looks for what nobody tells of.
LOOK_S = 1.0

COMPLETED = signal.SIGRTMIN

# struct signalfd_siginfo, 128 bytes: ssi_ptr, the value that came with a queued signal.
SIGNAL_VALUE = struct.Struct("48xQ72x")

# <bits/siginfo-consts.h>: what sigev_notify can be.
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD = 0, 1, 2

# <aio.h>: for lio_listio(3), and set by aio_read and aio_write as well.
LIO_READ, LIO_WRITE = 0, 1

# void (*sigev_notify_function)(union sigval): the union is passed as a pointer would be.
NotifyFunction = ctypes.CFUNCTYPE(None, ctypes.c_size_t)

# The threads of the C library know nothing of Stop: what they use must outlive `serve`.
IN_USE: List[Requests] = []

# Errors that a transfer on a blocking descriptor can't have. Where a signal can't be queued, glibc puts EAGAIN in the
# place of the result, and nobody can say any more how many bytes were moved.
REFUSALS = {
    errno.EAGAIN: "EAGAIN: the queue of signals is full (RLIMIT_SIGPENDING)",
    errno.ECANCELED: "EAGAIN: no thread of the C library is free to read or write",
}


class Sigevent(ctypes.Structure):
    """How to tell of a completion: struct sigevent of 64-bit glibc."""

    _fields_ = (
        ("value", ctypes.c_size_t),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", NotifyFunction),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 32),
    )


class Request(ctypes.Structure):
    """One read or write: struct aiocb of 64-bit glibc, which uses it until the request has completed."""

    _fields_ = (
        ("fd", ctypes.c_int),
        ("lio_opcode", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("address", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("sigevent", Sigevent),
        ("next_prio", ctypes.c_void_p),
        ("abs_prio", ctypes.c_int),
        ("policy", ctypes.c_int),
        ("error_code", ctypes.c_int),
        ("return_value", ctypes.c_ssize_t),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_char * 32),
    )


class PoolSize(ctypes.Structure):
    """struct aioinit, a GNU extension."""

    _fields_ = (
        ("threads", ctypes.c_int),
        ("requests", ctypes.c_int),
        ("unused", ctypes.c_int * 4),
        ("idle_time_s", ctypes.c_int),
        ("reserved", ctypes.c_int),
    )


class Connection(NamedTuple):
    """A blocking channel, and the buffer that its one request at a time reads into or writes from."""

    channel: Channel
    buffer: Any
    start: int  # the buffer's address


class Requests:
    """The requests that are not done yet, one for each connection, by number.

    Whoever takes a number out deals with its completion: so each is dealt with once, whoever tells of it.
    """

    def __init__(self, listener: Listener, sigevent: Sigevent) -> None:
        self.listener = listener
        self.library = posix_aio()
        self.sigevent = sigevent
        # The C library's threads use a request and its buffer until it is done: this is what keeps them in memory.
        self.outstanding: Dict[int, Tuple[Connection, Request]] = {}
        self._numbers = count(1)
        self._last_look = self._look_before = 0

    def welcome(self) -> None:
        """Accept one connection, if there is one, and ask for its first bytes."""
        channel = self.listener.accept()
        if channel is None:
            return
        if len(self.outstanding) >= POOL:
            self.listener.refuse(channel, f"{POOL:,} connections: each needs a thread of the pool")
            return
        buffer = (ctypes.c_char * RECV_SIZE)()
        self._read(Connection(channel, buffer, ctypes.addressof(buffer)))

    def complete(self, number: int) -> None:
        """Take what a request has brought, and ask for what comes next."""
        connection, request = self.outstanding.pop(number, (None, None))
        if connection is None or request is None:
            return  # look() was quicker
        error = self.library.aio_error(ctypes.byref(request))
        moved = self.library.aio_return(ctypes.byref(request))
        if error in REFUSALS:
            self.listener.refuse(connection.channel, REFUSALS[error])
        elif error or not moved:
            connection.channel.close()  # ECONNRESET, EPIPE; end-of-file. Nothing else is under way on it
        elif request.lio_opcode == LIO_READ:
            self._write(connection, connection.start, moved)
        elif moved < request.size:
            self._write(connection, request.address + moved, request.size - moved)
        else:
            self._read(connection)

    def look(self) -> None:
        """Deal with what nobody tells of: requests that are done or have no thread, and are older than the last look.

        The C library fails no request for want of a thread, as long as it has any: it keeps it until one is free, and
        they may all sleep in a read. What has not begun by now is given up, whoever's it is, and that is told of.
        """
        for number, (_, request) in list(self.outstanding.items()):
            if number >= self._last_look:
                continue
            done = self.library.aio_error(ctypes.byref(request)) != errno.EINPROGRESS
            if done or number >= self._look_before:
                # Nothing happens to a request that a thread has begun. If one is done, this waits for the lock under
                # which the thread tells of it: after that, it does not touch the request any more.
                self.library.aio_cancel(request.fd, ctypes.byref(request))
            if done:
                self.complete(number)
        self._look_before, self._last_look = self._last_look, next(self._numbers)

    def _read(self, connection: Connection) -> None:
        request = Request(fd=connection.channel.rfd, address=connection.start, size=RECV_SIZE, lio_opcode=LIO_READ)
        self._submit(self.library.aio_read, connection, request)

    def _write(self, connection: Connection, address: int, size: int) -> None:
        request = Request(fd=connection.channel.wfd, address=address, size=size, lio_opcode=LIO_WRITE)
        self._submit(self.library.aio_write, connection, request)

    def _submit(self, call: Any, connection: Connection, request: Request) -> None:
        number = next(self._numbers)
        request.sigevent = self.sigevent
        request.sigevent.value = number
        request.error_code = errno.EINPROGRESS  # as `call` will set it, but only when it has got the lock
        self.outstanding[number] = connection, request  # first, for it may be done before `call` returns
        if call(ctypes.byref(request)) != 0:
            del self.outstanding[number]
            self.listener.refuse(connection.channel, f"EAGAIN: {os.strerror(ctypes.get_errno())}")


def posix_aio() -> Any:
    """The C library's functions, with the pool sized: that has an effect before the first request only.

    Raises OSError where there are none, or they are not glibc's.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "aio_init"):
        library = ctypes.CDLL("librt.so.1", use_errno=True)  # before glibc 2.34
    if not hasattr(library, "aio_init"):
        raise OSError("this C library has no aio_init: the layout of its struct aiocb is not known")
    if ctypes.sizeof(Request) != 168 or ctypes.sizeof(Sigevent) != 64:
        raise OSError("struct aiocb is known for 64-bit systems only")
    library.aio_return.restype = ctypes.c_ssize_t
    library.aio_init(ctypes.byref(PoolSize(threads=POOL, requests=POOL)))
    return library


def serve_by_signal(listener: Listener) -> None:
    """Be told by a queued signal that carries the request's number; take it from a signalfd."""
    signals = Signals((COMPLETED,))
    requests = Requests(listener, Sigevent(notify=SIGEV_SIGNAL, signo=COMPLETED))

    def told() -> None:
        for (number,) in SIGNAL_VALUE.iter_unpack(signals.take(wait=False)):
            requests.complete(number)

    serve(requests, {listener.fd: requests.welcome, signals.fileno(): told})


def serve_by_callback(listener: Listener) -> None:
    """Be told by a call, in a thread that the C library starts for it."""
    requests = Requests(listener, Sigevent(notify=SIGEV_THREAD))
    requests.sigevent.function = NotifyFunction(requests.complete)
    # Any thread may take a signal that is sent to the process, and the C library lets all signals through in those that
    # it starts to tell. The handler in C then runs there, but Python's own runs in this thread, which must be woken.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    serve(requests, {listener.fd: requests.welcome, woken: lambda: None})


def serve(requests: Requests, actions: Dict[int, Callable[[], None]]) -> None:
    """Do what is due for each descriptor that is readable; once a second look for what nobody tells of."""
    IN_USE.append(requests)
    # The threads of the C library are to wait in a transfer: EAGAIN would be its result.
    requests.listener.set_blocking(False, channels=True)
    poll = select.poll()
    for fd in actions:
        poll.register(fd, select.POLLIN)
    looked = time.monotonic()
    while True:
        for fd, _ in poll.poll(LOOK_S * 1000 if requests.outstanding else None):
            actions[fd]()
        if time.monotonic() - looked > LOOK_S:
            requests.look()
            looked = time.monotonic()


def probe() -> None:
    """Read a byte from a socket."""
    library = posix_aio()
    rfd, wfd = os.pipe()
    os.write(wfd, b"?")
    byte = ctypes.c_char()
    request = Request(fd=rfd, address=ctypes.addressof(byte), size=1, sigevent=Sigevent(notify=SIGEV_NONE))
    waited_for = (ctypes.c_void_p * 1)(ctypes.addressof(request))
    try:
        if library.aio_read(ctypes.byref(request)) != 0:
            raise OSError(ctypes.get_errno(), "aio_read: " + os.strerror(ctypes.get_errno()))
        library.aio_suspend(waited_for, 1, None)
        error = library.aio_error(ctypes.byref(request))
        if error or byte.value != b"?":
            raise OSError(error, "aio_read: " + os.strerror(error))
    finally:
        os.close(rfd)
        os.close(wfd)


STRATEGIES = (
    Strategy(
        name="posix_aio_signal",
        summary="POSIX aio: the C library's threads read and write, and queue a signal when they are done",
        serve=serve_by_signal,
        model="completion",
        probe=probe,
    ),
    Strategy(
        name="posix_aio_callback",
        summary="POSIX aio: the C library's threads read and write, and start another one to call back",
        serve=serve_by_callback,
        model="completion",
        probe=probe,
    ),
)
