"""Start servers that are not ours (bench.external), and end them with all that they started.

They know nothing of an inherited listener, so a free port is found for them and handed over as a number. They are ready
when a message comes back: one that accepts may have nobody behind it yet, as a proxy whose backend is still starting.
Nothing is measured in this file.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal

import psutil

from bench import processes
from bench.events import Interrupted, Stream, wait
from bench.external import External, command_for, environment_of, folder_of, why_silent
from bench.probes.listener import why_elsewhere
from bench.probes.process import with_children
from bench.probes.unwatched import ALREADY_RUNNING
from bench.processes import Guard
from bench.server import RunningServer, ServerFailedError, stop_server
from servers.transport import Address, dial, parse

READY_PATIENCE_S = 30.0
ECHO_S = 1.0  # that the first try waits for an echo; each later one waits twice as long as the one before
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05  # between two attempts to connect
HOST = "127.0.0.1"
MESSAGE_BYTES = 64
MARK = "IOBENCH_SERVER"  # in the environment of a server, and so of all that it starts
IN_USE = re.compile(r"EADDRINUSE|address.{0,20}in use", re.IGNORECASE)

_numbers = count()


class ProcessEnd(Stream):
    """In place of a status pipe: it has nothing to tell but that a process has ended (pidfd_open(2))."""

    def __init__(self, pid: int) -> None:
        super().__init__(os.pidfd_open(pid), "the server")

    def receive(self) -> None:
        """The descriptor is readable from the moment on at which the process ends, and there is nothing to read."""
        self.ended = True


class Echo(Stream):
    """What comes back on a connection: it ends when all of a message has come, or the server has closed."""

    def __init__(self, fd: int, message_bytes: int) -> None:
        super().__init__(fd, "the server")
        self.came = 0
        self._message_bytes = message_bytes

    def receive(self) -> None:
        """Count what there is. Raises OSError where the server has reset the connection."""
        data = os.read(self.fd, 65536)
        self.came += len(data)
        self.ended = not data or self.came >= self._message_bytes


def start_external(
    external: External, cpus: Sequence[int], guard: Guard, message_bytes: int = MESSAGE_BYTES
) -> RunningServer:
    """Start a server and wait until it has echoed a message of this size; one that is already running is only tried.

    Between the choice of a free port and the server's bind, another process may take it: then there is one more
    attempt, with another port. Raises ServerFailedError, and Interrupted after the server has ended.
    """
    if external.address:
        return _join(external, message_bytes)
    try:
        return _start(external, cpus, guard, message_bytes)
    except ServerFailedError as error:
        if error.ending is None or not IN_USE.search(error.ending.stderr_tail):
            raise
    return _start(external, cpus, guard, message_bytes)


def _join(external: External, message_bytes: int) -> RunningServer:
    """A server that was running before and goes on."""
    why = why_silent(external)
    if why:
        raise ServerFailedError(why)
    silent, kept_open = os.pipe()  # a status pipe that never says anything
    server = RunningServer(
        child=None,
        address=str(parse(external.address)),
        cpus=[],
        status=Stream(silent, "the server"),
        spawn_s=0.0,
        foreign=True,
        unwatched=ALREADY_RUNNING,
        clean_up=lambda: os.close(kept_open),
    )
    _wait_until_it_echoes(server, message_bytes)
    return server


def _start(external: External, cpus: Sequence[int], guard: Guard, message_bytes: int) -> RunningServer:
    began = time.monotonic()
    folder = guard.make_folder() if external.transport == "unix" else None
    address = Address("unix", str(folder / "echo.sock")) if folder else Address("tcp", HOST, free_port())
    mark = f"{os.getpid()}-{next(_numbers)}"

    def clean_up() -> None:
        end_marked(mark)
        if folder:
            guard.remove_folder(folder)

    argv = command_for(external, address)
    env = environment_of(external, address) | {MARK: mark}
    try:
        child = processes.start(argv, guard, cpus, cwd=folder_of(external), env=env)
    except OSError as error:
        clean_up()
        raise ServerFailedError(f"{argv[0]} can't be started: {error.strerror}") from None
    server = RunningServer(
        child=child,
        address=str(address),
        cpus=list(cpus),
        status=ProcessEnd(child.pid),
        spawn_s=0.0,
        implementation=Path(argv[0]).name,
        foreign=True,
        clean_up=clean_up,
    )
    _wait_until_it_echoes(server, message_bytes)
    server.unwatched = why_elsewhere(address, with_children([child.pid]))
    server.spawn_s = time.monotonic() - began
    return server


def _wait_until_it_echoes(server: RunningServer, message_bytes: int) -> None:
    """Try until a byte comes back. Raises ServerFailedError where none does, or the server ends; Interrupted."""
    deadline = time.monotonic() + READY_PATIENCE_S
    pause_s, echo_s = FIRST_PAUSE_S, ECHO_S
    accepted = False
    try:
        while not server.ended:
            until_s = min(time.monotonic() + echo_s, deadline)
            outcome = attempt(server, message_bytes, until_s)
            if outcome == "echoed":
                return
            accepted = accepted or outcome == "accepted"
            if time.monotonic() > until_s:
                echo_s *= 2
            if time.monotonic() > deadline:
                what = "accepts connections and echoes nothing" if accepted else "accepts no connection"
                reason = f"the server {what} at {server.address} within {READY_PATIENCE_S:g} s"
                raise ServerFailedError(reason, stop_server(server))
            with suppress(TimeoutError):
                server.hear(wait([server.status], pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    except Interrupted:
        stop_server(server)
        raise
    ending = stop_server(server)
    reason = f"the server ended at its start, {processes.how_it_ended(ending)}"
    if ending.exit_code == 0:
        reason += " (it must stay in the foreground)"
    raise ServerFailedError(reason, ending)


def attempt(server: RunningServer, message_bytes: int, until_s: float) -> Literal["refused", "accepted", "echoed"]:
    """Connect, send a message and wait for the whole of it, but no longer than until then (time.monotonic).

    A single byte that comes back is an echo. All of it is read where it comes: to close a connection with something
    unread is to reset it (RFC 2525, 2.17), and a server need not be prepared for that. Raises Interrupted.
    """
    address = parse(server.address)
    try:
        channel = dial(address, ECHO_S)
    except OSError:
        return "refused"
    echo, left = Echo(channel.rfd, message_bytes), memoryview(bytes(message_bytes))
    try:
        if address.transport == "tcp" and _meets_itself(channel.rfd):
            return "refused"
        os.set_blocking(channel.wfd, False)
        while not server.ended and time.monotonic() < until_s:
            with suppress(BlockingIOError):
                while left:
                    left = left[os.write(channel.wfd, left) :]
            try:
                event = wait([echo, server.status], LONGEST_PAUSE_S)
            except TimeoutError:
                continue
            if event.sender is echo:
                break
            server.hear(event)
    except OSError:
        pass  # it has reset the connection
    finally:
        channel.close()
    return "echoed" if echo.came else "accepted"


def _meets_itself(fd: int) -> bool:
    """Whether a connection leads back to its own socket.

    A connect to a port of loopback that nobody listens on may be given that very port as its own (TCP's simultaneous
    open). Raises OSError where the other end has closed it already.
    """
    with socket.socket(fileno=os.dup(fd)) as sock:
        return bool(sock.getsockname() == sock.getpeername())


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def end_marked(mark: str) -> None:
    """Kill what a server has started and left behind, even where it is in a session of its own."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                process.kill()
        except (psutil.Error, OSError):
            continue  # it has ended, or belongs to somebody else
