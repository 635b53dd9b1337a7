"""Servers that fail in mid-trial; a script that is run in place of `python -m servers`.

    faulty_server.py FAULT tcp --module FAULT --listen-fd FD --status-fd FD

`good` and those in LIMITS are the strategy named there, under a limit of the kernel's. All others echo ECHOES messages
as they should, and then do what FAULTS has for them.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from random import Random
from typing import NoReturn

ECHOES = 100
# strategy, its module, the limit and how much of it
LIMITS = {
    "good": ("epoll_lt", "readiness", resource.RLIMIT_CORE, 0),
    "few_descriptors": ("epoll_lt", "readiness", resource.RLIMIT_NOFILE, 24),
    "little_memory": ("thread_per_connection", "threads", resource.RLIMIT_AS, 256 << 20),
}


def be_killed(conn: socket.socket) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_stopped(conn: socket.socket) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def deadlock(conn: socket.socket) -> None:
    """Wait for what nobody but ourselves could release, deaf to signals, as library code in C would."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    lock = threading.Lock()
    for _ in range(2):
        lock.acquire()


def crash(conn: socket.socket) -> None:
    raise ValueError("a bug in mid-trial")


def close_some(conn: socket.socket) -> None:
    if RANDOM.random() < 0.02:
        conn.close()


RANDOM = Random(1)
FAULTS: dict[str, Callable[[socket.socket], None]] = {
    "killed": be_killed,
    "stopped": be_stopped,
    "deadlocked": deadlock,
    "crashes": crash,
    "closes_at_random": close_some,
}


def serve(listener: socket.socket, fault: Callable[[socket.socket], None]) -> NoReturn:
    echoes = 0
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                conn = key.fileobj
                assert isinstance(conn, socket.socket)
                if conn is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                data = conn.recv(65536)
                echoes += bool(data)
                if data and echoes > ECHOES:
                    fault(conn)
                if data and conn.fileno() >= 0:
                    conn.sendall(data)
                else:
                    selector.unregister(conn)
                    conn.close()


def become(strategy: str, module: str, limit: int, most: int, rest: list[str]) -> NoReturn:
    """Become that strategy, with so much of what is limited."""
    resource.setrlimit(limit, (most, most))
    argv = [sys.executable, "-m", "servers", strategy, "tcp", "--module", module, *rest]
    os.execv(sys.executable, argv)


def stop(signum: int, frame: object) -> NoReturn:
    os._exit(0)


def main() -> None:
    name, rest = sys.argv[1], sys.argv[5:]
    if name == "exits_at_start":
        sys.exit("no configuration was found")
    if name in LIMITS:
        become(*LIMITS[name], rest)
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    signal.signal(signal.SIGTERM, stop)
    about = {"event": "ready", "pid": os.getpid(), "implementation": "Faulty", "version": "1", "gil": True}
    os.write(int(options["--status-fd"]), json.dumps(about).encode() + b"\n")
    serve(socket.socket(fileno=int(options["--listen-fd"])), FAULTS[name])


if __name__ == "__main__":
    main()
