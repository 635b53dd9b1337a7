"""Echo peers inside the test process, and the faults they commit on purpose, for the tests of the load generator.

A peer reads whole messages, so that it can do to one what no honest server does. No assertion belongs here.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from servers.contract import Channel, Listener
from servers.transport import listen, listener, parse


@dataclass
class Talk:
    """One connection, as a fault sees it."""

    channel: Channel
    over: threading.Event = field(default_factory=threading.Event)
    open: bool = True
    held: bytes = b""

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.channel.wfd, view) :]

    def receive(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = os.read(self.channel.rfd, size - len(parts))
            if not part:
                return b""
            parts += part
        return bytes(parts)

    def end(self) -> None:
        if self.open:
            self.open = False
            self.channel.close()


Fault = Callable[[Talk, bytes], None]


def echo(talk: Talk, message: bytes) -> None:
    talk.send(message + talk.held)
    talk.held = b""


def flip_first(talk: Talk, message: bytes) -> None:
    talk.send(bytes([message[0] ^ 1]) + message[1:])


def flip_middle(talk: Talk, message: bytes) -> None:
    at = len(message) // 2
    talk.send(message[:at] + bytes([message[at] ^ 0x80]) + message[at + 1 :])


def flip_last(talk: Talk, message: bytes) -> None:
    talk.send(message[:-1] + bytes([message[-1] ^ 4]))


def duplicate(talk: Talk, message: bytes) -> None:
    talk.send(message + message)


def duplicate_late(talk: Talk, message: bytes) -> None:
    talk.send(message)
    talk.receive(len(message))
    talk.send(message)


def drop(talk: Talk, message: bytes) -> None:
    """Say nothing, and go on with the next message."""


def stall(talk: Talk, message: bytes) -> None:
    """Say nothing, and never read again."""
    talk.over.wait()


def reorder(talk: Talk, message: bytes) -> None:
    talk.held = message  # `echo` sends it after the next


def truncate(talk: Talk, message: bytes) -> None:
    talk.send(message[:-5])


def cut_middle(talk: Talk, message: bytes) -> None:
    at = len(message) // 2
    talk.send(message[:at] + message[at + 3 :])


def pad(talk: Talk, message: bytes) -> None:
    talk.send(message + b"!?")


def pad_front(talk: Talk, message: bytes) -> None:
    talk.send(b"!?" + message)


def insert(talk: Talk, message: bytes) -> None:
    at = len(message) // 2
    talk.send(message[:at] + b"!?" + message[at:])


def close(talk: Talk, message: bytes) -> None:
    talk.end()


def close_half_way(talk: Talk, message: bytes) -> None:
    talk.send(message[: len(message) // 2])
    talk.end()


def reset(talk: Talk, message: bytes) -> None:
    """Close with a linger time of 0, which makes TCP send RST instead of FIN."""
    with socket.socket(fileno=os.dup(talk.channel.rfd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.end()


def fragments(talk: Talk, message: bytes) -> None:
    for byte in message:
        talk.send(bytes([byte]))


@dataclass
class Peer:
    """What a peer did so far. `wrongs` counts its faults, `echoed` the messages it echoed after the first of them."""

    address: str
    sock: socket.socket  # that listens
    message_bytes: int
    fault: Fault = echo
    at: int = 5  # the message of a connection, from 0, that the fault befalls
    on: tuple[int, ...] | None = None  # the connections, in order of arrival; None is all of them
    from_there_on: bool = False  # the fault befalls all messages after that one, too
    greeting: bytes = b""  # what it says unasked, to whoever connects
    accepted: int = 0
    wrongs: int = 0
    echoed: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)  # the test has ended

    def serve(self, source: Listener) -> None:
        with suppress(OSError):  # shutdown() ends a pending accept with EINVAL
            while True:
                channel = source.accept()
                if channel is not None:
                    self._start(Talk(channel, self.over))

    def _start(self, talk: Talk) -> None:
        wrong = self.fault is not echo and (self.on is None or self.accepted in self.on)
        self.accepted += 1
        thread = threading.Thread(target=self._talk, args=(talk, wrong))
        self.threads.append(thread)
        thread.start()

    def _talk(self, talk: Talk, wrong: bool) -> None:
        number = 0
        try:
            talk.send(self.greeting)
            while talk.open:
                message = talk.receive(self.message_bytes)
                if not message:
                    return
                if wrong and (number == self.at or (self.from_there_on and number > self.at)):
                    self.wrongs += 1
                    self.fault(talk, message)
                else:
                    echo(talk, message)
                    self.echoed += self.wrongs > 0
                number += 1
        except OSError:
            pass  # the client has gone
        finally:
            talk.end()


@contextmanager
def peer(transport: str = "tcp", message_bytes: int = 64, fault: Fault = echo, **options: object) -> Iterator[Peer]:
    """Run a peer; at the end every thread of it has ended and every descriptor is closed."""
    place = "127.0.0.1:0" if transport == "tcp" else f"@iobench-test-{secrets.token_hex(8)}"
    sock = listen(parse(f"{transport}:{place}"))
    source = listener(sock, transport)
    running = Peer(source.address, sock, message_bytes, fault, **options)  # type: ignore[arg-type]
    accepting = threading.Thread(target=running.serve, args=(source,))
    accepting.start()
    try:
        yield running
    finally:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        running.over.set()
        accepting.join()
        for thread in running.threads:
            thread.join()
        sock.close()
        os.close(source._reserve)


@contextmanager
def nobody() -> Iterator[str]:
    """An address where nobody listens: bound, so that no one else gets the port meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"tcp:127.0.0.1:{sock.getsockname()[1]}"
