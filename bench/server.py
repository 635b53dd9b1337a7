"""One server process: the listener it is given, its start, what it says of itself, its end.

The listener is made here, before the server starts, and handed down (socket activation): a client can connect from the
first moment on, no port is raced for, and nothing is retried. How a server is started that is not ours, and knows
nothing of this, is in external_server.py. Nothing is measured in this file.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated

import msgspec

from bench import processes
from bench.events import Event, Interrupted, ProtocolError, Stream, readable, wait
from bench.processes import Guard
from bench.record import StrategyInfo
from servers.transport import Address, bound_address, dial, listen, parse

READY_PATIENCE_S = 10.0
STOP_PATIENCE_S = 2.0
STOP_PATIENCE_MORE_S = 3e-3  # for each connection above a thousand: as many threads or processes take long to end
LAST_WORDS_PATIENCE_S = 1.0
VISIT_PATIENCE_S = 0.5
LOOPBACK = "127.0.0.1"
MOST_REASONS = 20  # why it refused connections

_numbers = count()


class ServerFailedError(Exception):
    """The server did not start; the message is the reason. `ending` says how it ended, if it was started at all."""

    def __init__(self, reason: str, ending: processes.Ending | None = None) -> None:
        super().__init__(reason)
        self.ending = ending


class _Ready(msgspec.Struct):
    implementation: str
    version: str
    gil: bool
    jit: bool = False


class _Refused(msgspec.Struct):
    reason: str


class _Stopped(msgspec.Struct):
    refused: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]]
    gil: bool | None = None  # now; a server of an earlier version does not say


class _Other(msgspec.Struct):
    """Of a later version."""


_SAID: dict[str, type[_Ready | _Refused | _Stopped | _Other]] = {
    "ready": _Ready,
    "refused": _Refused,
    "stopped": _Stopped,
}


@dataclass
class RunningServer:
    """A server that accepts connections on `address`.

    A `foreign` one is not ours: it says nothing of itself, and how it ends at SIGTERM is its own affair. One that was
    running before, and goes on, has no `child`. `unwatched` says why nothing can be read of the server's processes; ""
    where they are known. `clean_up` removes what was made for it, once it has ended.
    """

    child: processes.Child | None
    address: str
    cpus: list[int]
    status: Stream
    spawn_s: float
    implementation: str = ""
    version: str = ""
    gil: bool = True
    jit: bool = False
    foreign: bool = False
    unwatched: str = ""
    clean_up: Callable[[], None] = lambda: None
    refused: dict[str, int] = field(default_factory=dict)
    refused_are_all: bool = False  # it has told the final counts; until then each reason counts once
    ended: bool = False

    @property
    def pid(self) -> int:
        """The process id of the server, 0 if it is not ours to watch; its children, if any, have others."""
        return self.child.pid if self.child else 0

    @property
    def roots(self) -> list[int]:
        """The process that all of the server's descend from, where it can be watched."""
        return [] if self.unwatched else [self.pid]

    def hear(self, event: Event) -> None:
        """Take note of a status line. Raises ProtocolError where it is not understood."""
        if event.fields is None:
            self.ended = True
            return
        try:
            said = msgspec.convert(event.fields, _SAID.get(str(event.fields.get("event")), _Other))
        except msgspec.ValidationError as error:
            raise ProtocolError(f"the server is not understood: {error}") from None
        if isinstance(said, _Ready):
            self.implementation, self.version = said.implementation, said.version
            self.gil, self.jit = said.gil, said.jit
        elif isinstance(said, _Refused):
            if len(self.refused) < MOST_REASONS:
                self.refused.setdefault(said.reason, 1)
        elif isinstance(said, _Stopped):
            self.refused = dict(list(said.refused.items())[:MOST_REASONS])
            self.refused_are_all = len(said.refused) <= MOST_REASONS
            self.gil = self.gil if said.gil is None else said.gil


def start_server(
    strategy: StrategyInfo,
    transport: str,
    cpus: Sequence[int],
    guard: Guard,
    command: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
) -> RunningServer:
    """Start one server on a fresh address of `host`, or of this machine alone, and wait until it says that it is ready.

    `command` stands in for `python -m servers`, and is run in the environment `env`. Raises ServerFailedError, and
    Interrupted after the server has ended.
    """
    began = time.monotonic()
    try:
        listener = listen(_fresh_address(transport, host))
    except OSError as error:
        raise ServerFailedError(f"no listener can be opened: {error.strerror}") from None
    reading, writing = os.pipe()
    argv = [
        *(command or [sys.executable, "-m", "servers"]),
        *[strategy.name, transport, "--module", strategy.module],
        *["--listen-fd", str(listener.fileno()), "--status-fd", str(writing)],
    ]
    try:
        child = processes.start(argv, guard, cpus, pass_fds=[listener.fileno(), writing], env=env)
    except OSError as error:
        os.close(reading)
        raise ServerFailedError(f"{argv[0]} can't be started: {error.strerror}") from None
    finally:
        address = str(bound_address(listener, transport))
        # Our copies would keep the queue of connections open after the server's death, and its status pipe too.
        listener.close()
        os.close(writing)
    server = RunningServer(child, address, list(cpus), Stream(reading, "the server"), 0.0)
    try:
        server.hear(wait([server.status], READY_PATIENCE_S))
    except (TimeoutError, ProtocolError) as error:
        ending = stop_server(server)
        raise ServerFailedError(f"the server never said that it was ready: {error}", ending) from None
    except Interrupted:
        stop_server(server)
        raise
    if server.ended:
        ending = stop_server(server)
        raise ServerFailedError(f"the server ended at its start, {processes.how_it_ended(ending)}", ending)
    _visit(parse(server.address))
    server.spawn_s = time.monotonic() - began
    return server


def _visit(address: Address) -> None:
    """Connect and leave, before any load: every server that has run for a while has seen a client go.

    It matters to those that offer a read a large buffer. What comes back with a message is cut to its size; what comes
    back empty, at the end of a connection, is freed as large as it was. Only then does glibc's malloc keep memory of
    that size instead of mapping it anew for each read (M_MMAP_THRESHOLD in mallopt(3)), which makes asyncio's echo
    three times as dear. What is wrong with the server is told by those who come to stay.
    """
    with suppress(OSError):
        channel = dial(address, VISIT_PATIENCE_S)
        try:
            if channel.wfd == channel.rfd:
                with socket.socket(fileno=os.dup(channel.wfd)) as sock:
                    sock.shutdown(socket.SHUT_WR)
            else:
                os.close(channel.wfd)
            # It has seen the end when it closes, too; then it has the descriptor back for the load.
            readable(channel.rfd, VISIT_PATIENCE_S)
        finally:
            os.close(channel.rfd)


def stop_patience_s(connections: int) -> float:
    """How long a server that had so many connections may take to stop."""
    return STOP_PATIENCE_S + STOP_PATIENCE_MORE_S * max(0, connections - 1000)


def stop_server(server: RunningServer, connections: int = 0) -> processes.Ending:
    """End the server by SIGTERM, or SIGKILL where it takes too long, and read its last words.

    It had so many `connections`. One that was running before goes on, and what is returned of its ending means nothing.
    """
    if server.child is None:
        server.status.close()
        server.clean_up()
        return processes.Ending(0, killed=False, stderr_tail="")
    ending = processes.end(server.child, terminate=not server.ended, patience_s=stop_patience_s(connections))
    deadline = time.monotonic() + LAST_WORDS_PATIENCE_S
    try:
        while not server.ended and time.monotonic() < deadline:
            server.hear(wait([server.status], LAST_WORDS_PATIENCE_S))
    except (TimeoutError, ProtocolError, Interrupted):
        pass  # it was killed in the middle of a line; what came before has been noted
    server.status.close()
    server.clean_up()
    return ending


def _fresh_address(transport: str, host: str) -> Address:
    """The host, port chosen by the kernel; otherwise a name in the abstract namespace (unix(7)): no file to remove."""
    if transport == "tcp":
        return Address("tcp", host, 0)
    return Address(transport, f"@iobench-{os.getpid()}-{next(_numbers)}")
