"""The forms of asyncio_loops.py on event loops that are written in other languages: uvloop and rloop.

    uvloop   libuv in C, and Cython around it
    rloop    mio in Rust, and Python around it

The interface is asyncio's and so are the forms; what differs is what they come down to. One echo that comes alone:

    uvloop_protocol    epoll_pwait, read, write. The read goes into a buffer of the loop's (256,000 bytes, for all
    uvloop_streams     connections), and an object just as long as the message is made from it: no mmap. A resumed
                       coroutine runs before epoll is asked again: streams cost no further system call.
    uvloop_buffered    The same three, reading into the buffer that is lent.
    uvloop_sock        Eleven calls: epoll_pwait, recv, epoll_ctl(DEL) three times, send, epoll_ctl(ADD) and (DEL),
                       ioctl(FIONBIO), epoll_ctl(DEL), io_uring_enter. sock_recv always waits first, with a libuv
                       handle of its own that is made for each wait, tried out on epoll, and closed after it.
    rloop_sock         epoll_wait, recv, send, recv = EAGAIN. A socket is registered once for both directions, edge-
                       triggered, and stays on the interest list: no epoll_ctl, but on UNIX sockets each message that
                       the client reads brings an idle wake-up, as in epoll_edge.py.

libuv gathers its changes of the interest list and hands them over before it sleeps, where the kernel allows by a
private io_uring, in a single io_uring_enter.

As long as reads fill its buffer, libuv reads from the same connection up to 32 times before it looks at another. For a
flood that is 8 MB a turn: uvloop_protocol stops reading for the rest of the iteration after a large read.

rloop's transports may be unavailable: release 0.5.0 tells the protocol that the connection is lost when the client ends
its sending, and never closes the descriptor. The probe finds that by trying.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import warnings
from functools import lru_cache, partial
from typing import Any

from servers.asyncio_loops import FORMS, Echo, Form, echo_by_protocol, on_loop
from servers.contract import RECV_SIZE, Channel, Strategy

# How long a probe waits for a loop that may never tell of the end, and then for the end that it told of.
PATIENCE_S = 1.0
CLOSING_S = 0.05


class EchoInTurns(Echo):
    """Stops reading for the rest of the loop's iteration after a large read, for loops that would go on at once."""

    writable = True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(data) > RECV_SIZE:
            self.input.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume_reading)

    def resume_reading(self) -> None:
        if self.writable:
            self.input.resume_reading()

    def pause_writing(self) -> None:
        self.writable = False
        super().pause_writing()

    def resume_writing(self) -> None:
        self.writable = True
        super().resume_writing()


class EchoTellsOfEnd(Echo):
    """Says when the loop takes the connection for lost."""

    def __init__(self, lost: asyncio.Event) -> None:
        self.lost = lost

    def connection_lost(self, exc: object) -> None:
        super().connection_lost(exc)
        self.lost.set()


def new_loop(package: str) -> Any:
    """Make an event loop. Raises ModuleNotFoundError, with the remedy, where the package is not installed."""
    try:
        return importlib.import_module(package).new_event_loop()
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pip install 'iobench[loops]'") from None


def probe(package: str, form: Form) -> None:
    """Raise, with the reason, where the loop can't serve in this form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # rloop leaves a pair of sockets of its own to the collector
        try_loop(package, form)


def try_loop(package: str, form: Form) -> None:
    """Raise as `probe` does."""
    new_loop(package).close()
    if form.name != "sock" and not transports_end(package):
        raise RuntimeError(
            f"{package} {version(package)} does not close a connection whose client has ended its sending"
        )


@lru_cache(maxsize=None)
def transports_end(package: str) -> bool:
    """Whether a client that ends its sending gets every byte and then the end, found by trying."""
    loop = new_loop(package)
    client, accepted = socket.socketpair()
    client.setblocking(False)

    async def echoed() -> bytes:
        fd, lost = accepted.detach(), asyncio.Event()
        await echo_by_protocol(partial(EchoTellsOfEnd, lost), Channel(fd, fd))
        client.send(b"?")
        client.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(lost.wait(), PATIENCE_S)
        return await asyncio.wait_for(received_to_end(), CLOSING_S)

    async def received_to_end() -> bytes:
        received = b""
        while data := await loop.sock_recv(client, 1):
            received += data
        return received

    try:
        return bool(loop.run_until_complete(echoed()) == b"?")
    except asyncio.TimeoutError:
        return False
    finally:
        loop.close()
        client.close()


def version(package: str) -> str:
    """The release of an installed package."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and for a reason to give alone

    return metadata.version(package)


def on_package(package: str, form: Form) -> Strategy:
    """Describe one form on the loop of one package."""
    return on_loop(package, partial(new_loop, package), form, partial(probe, package, form))


IN_TURNS = partial(echo_by_protocol, EchoInTurns)
ON_LIBUV = tuple(form._replace(echo=IN_TURNS) if form.name == "protocol" else form for form in FORMS)

STRATEGIES = (
    *(on_package("uvloop", form) for form in ON_LIBUV),
    *(on_package("rloop", form) for form in FORMS),
)
