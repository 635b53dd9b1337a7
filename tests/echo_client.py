"""The client's side of a connection, polite or not, with every wait bounded.

It knows nothing of strategies or of processes; what a server must do is asserted in the tests, not here.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial

from spawn import WAIT_S

from servers.transport import Address, dial

CHUNK = 256 * 1024
FLOOD = 1024 * 1024


@lru_cache(maxsize=16)
def noise(size_bytes: int) -> bytes:
    """Return bytes in which nothing repeats, so that loss, duplication and reordering all show."""
    return random.Random(size_bytes).randbytes(size_bytes)


class Client:
    """One connection. Raises TimeoutError where nothing moves for WAIT_S, EOFError where the server closed too soon."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.rfd, self.wfd = dial(address, WAIT_S)
        os.set_blocking(self.rfd, False)
        os.set_blocking(self.wfd, False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def echo(self, *chunks: bytes) -> bytes:
        """Write each chunk while reading; return what came back once it is as long as what was sent."""
        unsent = deque(memoryview(chunk) for chunk in chunks if chunk)
        expected = sum(map(len, chunks))
        received = bytearray()
        while unsent or len(received) < expected:
            self._wait(sending=bool(unsent))
            if unsent:
                self._write_some(unsent)
            with suppress(BlockingIOError):
                data = os.read(self.rfd, CHUNK)
                if not data:
                    raise EOFError(f"the server closed after {len(received)} of {expected} bytes")
                received += data
        return bytes(received)

    def send(self, data: bytes) -> None:
        """Write it all, reading nothing."""
        unsent = deque([memoryview(data)])
        while unsent:
            self._wait(receiving=False)
            self._write_some(unsent)

    def send_until_stuck(self, data: bytes, patience_s: float = 0.05) -> int:
        """Write until the server takes no more, reading nothing; return how many bytes it took."""
        unsent = deque([memoryview(data)])
        with suppress(TimeoutError):
            while unsent:
                self._wait(receiving=False, timeout_s=patience_s)
                self._write_some(unsent)
        return len(data) - sum(map(len, unsent))

    def receive(self, size_bytes: int) -> bytes:
        """Read exactly that many bytes."""
        received = bytearray()
        while len(received) < size_bytes:
            self._wait()
            with suppress(BlockingIOError):
                data = os.read(self.rfd, size_bytes - len(received))
                if not data:
                    raise EOFError(f"the server closed after {len(received)} of {size_bytes} bytes")
                received += data
        return bytes(received)

    def receive_to_end(self) -> bytes:
        """Read until end-of-file."""
        received = bytearray()
        while True:
            self._wait()
            with suppress(BlockingIOError):
                data = os.read(self.rfd, CHUNK)
                if not data:
                    return bytes(received)
                received += data

    def half_close(self) -> None:
        """End the sending direction: the server reads end-of-file and can still write."""
        if self.rfd == self.wfd:
            with socket.socket(fileno=os.dup(self.wfd)) as sock:
                sock.shutdown(socket.SHUT_WR)
        else:
            os.close(self.wfd)
            self.wfd = -1

    def reset(self) -> None:
        """Leave as rudely as the transport knows: a reset on TCP, a close over unread bytes elsewhere."""
        if self.address.transport == "tcp":
            with socket.socket(fileno=os.dup(self.wfd)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close what is still open."""
        for fd in {self.rfd, self.wfd} - {-1}:
            os.close(fd)
        self.rfd = self.wfd = -1

    def _write_some(self, unsent: deque[memoryview]) -> None:
        with suppress(BlockingIOError):
            written = os.write(self.wfd, unsent[0])
            unsent[0] = unsent[0][written:]
            if not unsent[0]:
                unsent.popleft()

    def _wait(self, receiving: bool = True, sending: bool | None = None, timeout_s: float = WAIT_S) -> None:
        """Sleep until one of the wanted directions is ready; sending is wanted where receiving is not."""
        sending = not receiving if sending is None else sending
        poller = select.poll()
        if self.rfd == self.wfd:
            poller.register(self.rfd, select.POLLIN * receiving | select.POLLOUT * sending)
        else:
            if receiving:
                poller.register(self.rfd, select.POLLIN)
            if sending:
                poller.register(self.wfd, select.POLLOUT)
        if not poller.poll(timeout_s * 1000):
            raise TimeoutError(f"no byte moved within {timeout_s:g} s")


def served(address: Address) -> Client | None:
    """Connect and echo one byte; None where the server refused the connection."""
    try:
        client = Client(address)
    except ConnectionError:
        return None
    try:
        assert client.echo(b"?") == b"?"
    except (ConnectionError, EOFError):
        client.close()
        return None
    return client


@contextmanager
def flood(address: Address, connections: int) -> Iterator[Callable[[], int]]:
    """Keep that many connections full of bytes in both directions, faster than any server can echo them.

    Yields a function that tells how many bytes have been echoed so far.
    """
    clients = [Client(address) for _ in range(connections)]
    for client in clients:
        client.echo(b"first")
    echoed_bytes: list[int] = []
    enough = threading.Event()
    threads = [
        threading.Thread(target=_pour, args=(clients, enough), daemon=True),
        threading.Thread(target=_drain, args=(clients, enough, echoed_bytes), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(echoed_bytes)
    finally:
        enough.set()
        for thread in threads:
            thread.join(WAIT_S)
        for client in clients:
            client.close()


def _pour(clients: list[Client], enough: threading.Event) -> None:
    """Write without end. sendfile(2) passes the pages of a file along where write(2) would copy them."""
    with tempfile.TemporaryFile() as source:
        source.truncate(FLOOD)
        pour = partial(os.sendfile, in_fd=source.fileno(), offset=0, count=FLOOD)
        _repeat([client.wfd for client in clients], select.POLLOUT, pour, enough)


def _drain(clients: list[Client], enough: threading.Event, echoed_bytes: list[int]) -> None:
    """Read without end. With MSG_TRUNC a TCP socket discards the bytes where read(2) would copy them (tcp(7))."""
    room = bytearray(FLOOD)

    def drain(fd: int) -> int:
        if clients[0].address.transport == "tcp":
            with socket.socket(fileno=os.dup(fd)) as sock:
                size_bytes = sock.recv_into(room, FLOOD, socket.MSG_TRUNC)
        else:
            size_bytes = os.readv(fd, [room])
        echoed_bytes.append(size_bytes)
        return size_bytes

    _repeat([client.rfd for client in clients], select.POLLIN, drain, enough)


def _repeat(fds: list[int], events: int, move: Callable[[int], int], enough: threading.Event) -> None:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, events)
    while not enough.is_set():
        for fd, _ in poller.poll(100):
            try:
                moved = move(fd)
            except BlockingIOError:
                continue
            except ConnectionError:
                return  # the server has stopped
            if not moved:
                return
