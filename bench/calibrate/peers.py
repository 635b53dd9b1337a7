"""The servers of the calibration: what each of them does is known beforehand, so that its figures are too.

    python -m bench.calibrate.peers [OPTIONS] NAME TRANSPORT --listen-fd N --status-fd N

- `echo`    sends back what comes
- `fifo`    one server, in order of arrival: spins for the time that the message carries, then echoes it
- `faulty`  echoes, and commits one fault on each connection
- `record`  echoes the messages of one connection, and notes when each came, polling without a pause
- `loop`    pipes only: the client is given both ends of one pipe; the kernel is the echo and this process idle

On SIGTERM the peer writes what it saw to the file that --record names. Standard library only; nothing is judged here.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from servers.transport import listener

READ_BYTES = 64 * 1024
CARRIED_FROM = 8  # the second word of a message is a hash of the first (clients.payload): as good as random


class Incoming(NamedTuple):
    """Whole messages of one connection. `woken_ns`: when they came, if they were waited for; 0 if they were there."""

    number: int  # of the connection, in order of arrival
    fd: int  # to answer on
    messages: list[bytes]
    woken_ns: int


class Told:
    """What the peer has seen: the contents of its record file."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = 0  # whole messages
        self.faults = 0
        self.at_ns: list[int] = []

    def write(self, path: str) -> None:
        """Write it all, if there is a file to write it to."""
        if path:
            Path(path).write_text(json.dumps(vars(self)))


Source = Any  # servers.contract.Listener, which bench may not import
Peer = Callable[[Source, argparse.Namespace, Told], None]


def incoming(source: Source, size: int, told: Told) -> Iterator[Incoming]:
    """Accept, read, and cut into messages, until the process ends."""
    poll = select.epoll()
    poll.register(source.fd, select.EPOLLIN)
    open_now: dict[int, tuple[int, Any, bytearray]] = {}
    while True:
        events = poll.poll(0)
        woken_ns = 0
        if not events:
            events = poll.poll()
            woken_ns = time.monotonic_ns()
        for fd, _ in events:
            if fd == source.fd:
                channel = source.accept()
                if channel is not None:
                    open_now[channel.rfd] = (told.connections, channel, bytearray())
                    told.connections += 1
                    poll.register(channel.rfd, select.EPOLLIN)
                continue
            number, channel, part = open_now[fd]
            data = b""
            with suppress(ConnectionError):
                data = os.read(fd, READ_BYTES)
            if not data:
                del open_now[fd]
                channel.close()  # which takes it out of the interest list
                continue
            part += data
            whole = len(part) // size * size
            messages = [bytes(part[at : at + size]) for at in range(0, whole, size)]
            del part[:whole]
            if messages:
                told.received += len(messages)
                yield Incoming(number, channel.wfd, messages, woken_ns)
                woken_ns = 0  # while these were served, the others of this round were there


def send(fd: int, data: bytes) -> None:
    """Write it all; a client that has gone is no error."""
    with suppress(ConnectionError):
        while data:
            data = data[os.write(fd, data) :]


def echo(source: Source, options: argparse.Namespace, told: Told) -> None:
    """Send back what comes."""
    for came in incoming(source, options.message_bytes, told):
        send(came.fd, b"".join(came.messages))


def fifo(source: Source, options: argparse.Namespace, told: Told) -> None:
    """Serve one message after the other, each for the time it carries.

    A service begins when the one before it was due to end, if the message was there by then, else when it came. So what
    reading, writing and being interrupted cost delays an answer but is not carried on into the next service: the queue
    is that of the theory, at the load of the theory.
    """
    service_ns = SERVICES[options.law](options.mean_us * 1000.0)
    free_ns = 0.0
    for came in incoming(source, options.message_bytes, told):
        free_ns = float(came.woken_ns) or free_ns
        for message in came.messages:
            free_ns += service_ns(message)
            while time.monotonic_ns() < free_ns:
                pass
            send(came.fd, message)


def _exponential(mean_ns: float) -> Callable[[bytes], float]:
    def service_ns(message: bytes) -> float:
        word = int.from_bytes(message[CARRIED_FROM : CARRIED_FROM + 8], "little")
        return -mean_ns * math.log((word + 0.5) / 2.0**64)

    return service_ns


SERVICES: dict[str, Callable[[float], Callable[[bytes], float]]] = {
    "constant": lambda mean_ns: lambda message: mean_ns,
    "exponential": _exponential,
}


def record(source: Source, options: argparse.Namespace, told: Told) -> None:
    """Note when each message came.

    Sleeping in the kernel would add the time of a wake-up, but not to a message that comes while another is dealt with:
    short gaps would become shorter. So it polls, and reads one message at a time.
    """
    channel = source.accept()
    told.connections += 1
    os.set_blocking(channel.rfd, False)
    left = options.message_bytes
    while True:
        try:
            data = os.read(channel.rfd, left)
        except BlockingIOError:
            continue
        except ConnectionError:
            data = b""
        now_ns = time.monotonic_ns()
        if not data:
            signal.pause()
        left -= len(data)
        if left == 0:
            told.at_ns.append(now_ns)
            told.received += 1
            left = options.message_bytes
        send(channel.wfd, data)


def faulty(source: Source, options: argparse.Namespace, told: Told) -> None:
    """Commit one fault on each connection, at some message from the third to the tenth.

    The client must keep two messages outstanding. The message that the fault befalls is held back until the one after
    it has come, and both are answered in one write: then two messages are outstanding whenever a fault shows, and what
    shows is the fault and not how the kernel cut the stream.
    """
    chance = random.Random(options.seed)
    spoil = FAULTS[options.fault]
    befalls: dict[int, int] = {}
    seen: dict[int, int] = {}
    held: dict[int, bytes] = {}
    for came in incoming(source, options.message_bytes, told):
        at = befalls.setdefault(came.number, chance.randrange(2, 10))
        for message in came.messages:
            number = seen.get(came.number, 0)
            seen[came.number] = number + 1
            if number == at:
                held[came.number] = message
            elif number == at + 1:
                told.faults += 1
                for piece in spoil(held.pop(came.number), message, chance):
                    send(came.fd, piece)
            else:
                send(came.fd, message)


def _flip(message: bytes, after: bytes, chance: random.Random) -> list[bytes]:
    at, bit = chance.randrange(len(message)), 1 << chance.randrange(8)
    return [message[:at] + bytes([message[at] ^ bit]) + message[at + 1 :] + after]


def _truncate(message: bytes, after: bytes, chance: random.Random) -> list[bytes]:
    return [message[: -chance.randrange(1, len(message))] + after]


def _pad(message: bytes, after: bytes, chance: random.Random) -> list[bytes]:
    more = bytes([after[0] ^ chance.randrange(1, 256)]) + chance.randbytes(chance.randrange(8))
    return [message + more + after]


FAULTS: dict[str, Callable[[bytes, bytes, random.Random], list[bytes]]] = {
    "flip": _flip,
    "drop": lambda message, after, chance: [after],
    "duplicate": lambda message, after, chance: [message + message + after],
    "reorder": lambda message, after, chance: [after + message],
    "truncate": _truncate,
    "pad": _pad,
    "fragment": lambda message, after, chance: [bytes([byte]) for byte in message + after],  # no fault of an echo
}


def loop(source: Source, options: argparse.Namespace, told: Told) -> None:
    """Hand out pipes that lead back to their writer."""
    with socket.socket(fileno=os.dup(source.fd)) as listening:
        while True:
            conn, _ = listening.accept()
            told.connections += 1
            reading, writing = os.pipe()
            with conn:
                socket.send_fds(conn, [b"p"], [reading, writing])
            os.close(reading)
            os.close(writing)


PEERS: dict[str, Peer] = {"echo": echo, "fifo": fifo, "faulty": faulty, "record": record, "loop": loop}


def _stop(signum: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate.peers", description="Servers of the calibration.")
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("transport")
    parser.add_argument("--module", help="ignored: every server is given it")
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--message-bytes", type=int, default=64)
    parser.add_argument("--mean-us", type=float, default=0.0, help="fifo: mean time of service")
    parser.add_argument("--law", choices=SERVICES, default="constant", help="fifo: how the times are distributed")
    parser.add_argument("--fault", choices=FAULTS, default="flip", help="faulty: which one")
    parser.add_argument("--seed", type=int, default=1, help="faulty: what befalls which message")
    parser.add_argument("--record", default="", metavar="FILE", help="where to write what was seen")
    return parser.parse_args()


def main() -> None:
    """Serve until SIGTERM."""
    options = _options()
    told = Told()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # it may be forbidden to, and few connections need no more
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # nothing here makes cycles, and a collection would show in the figures
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = listener(socket.socket(fileno=options.listen_fd), options.transport)

    def say(event: str, **facts: object) -> None:
        os.write(options.status_fd, json.dumps({"event": event, **facts}).encode() + b"\n")

    try:
        say("ready", implementation=platform.python_implementation(), version=platform.python_version(), gil=True)
        PEERS[options.name](source, options, told)
    finally:
        told.write(options.record)
        say("stopped", refused={})


if __name__ == "__main__":
    main()
