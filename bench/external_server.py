"""Start servers that are not ours (bench.external), and end them with all that they started.

They know nothing of an inherited listener, so a free port is found for them and handed over as a number, and they are
ready when a connection to it is accepted. Nothing is measured in this file.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import psutil

from bench import processes
from bench.events import Interrupted, Stream, wait
from bench.external import External, command_for, environment_of, folder_of, why_silent
from bench.processes import Guard
from bench.server import RunningServer, ServerFailedError, stop_server
from servers.transport import Address, dial, parse

READY_PATIENCE_S = 30.0
CONNECT_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05  # between two attempts to connect
HOST = "127.0.0.1"
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


def start_external(external: External, cpus: Sequence[int], guard: Guard) -> RunningServer:
    """Start a server and wait until it accepts connections; one that is already running is only tried.

    Between the choice of a free port and the server's bind, another process may take it: then there is one more
    attempt, with another port. Raises ServerFailedError, and Interrupted after the server has ended.
    """
    if external.address:
        return _join(external)
    try:
        return _start(external, cpus, guard)
    except ServerFailedError as error:
        if error.ending is None or not IN_USE.search(error.ending.stderr_tail):
            raise
    return _start(external, cpus, guard)


def _join(external: External) -> RunningServer:
    """A server that was running before and goes on."""
    why = why_silent(external)
    if why:
        raise ServerFailedError(why)
    silent, kept_open = os.pipe()  # a status pipe that never says anything
    return RunningServer(
        child=None,
        address=str(parse(external.address)),
        cpus=[],
        status=Stream(silent, "the server"),
        spawn_s=0.0,
        foreign=True,
        clean_up=lambda: os.close(kept_open),
    )


def _start(external: External, cpus: Sequence[int], guard: Guard) -> RunningServer:
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
    _wait_until_it_accepts(server, address)
    server.spawn_s = time.monotonic() - began
    return server


def _wait_until_it_accepts(server: RunningServer, address: Address) -> None:
    """Connect until that succeeds. Raises ServerFailedError where it never does, or the server ends; Interrupted."""
    deadline = time.monotonic() + READY_PATIENCE_S
    pause_s = FIRST_PAUSE_S
    while not server.ended:
        if accepts(address):
            return
        if time.monotonic() > deadline:
            reason = f"the server accepts no connection at {server.address} within {READY_PATIENCE_S:g} s"
            raise ServerFailedError(reason, stop_server(server))
        try:
            server.hear(wait([server.status], pause_s))
        except TimeoutError:
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except Interrupted:
            stop_server(server)
            raise
    ending = stop_server(server)
    reason = f"the server ended at its start, {processes.how_it_ended(ending)}"
    if ending.exit_code == 0:
        reason += " (it must stay in the foreground)"
    raise ServerFailedError(reason, ending)


def accepts(address: Address) -> bool:
    """Whether somebody accepts connections there.

    A connect to a port of loopback that nobody listens on may be given that very port as its own and so meet itself
    (TCP's simultaneous open): that is nobody.
    """
    try:
        if address.transport != "tcp":
            dial(address, CONNECT_S).close()
            return True
        with socket.create_connection((address.place, address.port), CONNECT_S) as sock:
            return bool(sock.getsockname() != sock.getpeername())
    except OSError:
        return False


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
