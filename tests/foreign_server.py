"""Echo servers that know nothing of iobench, and what may be wrong with one; run as scripts by the tests.

foreign_server.py KIND PORT|PATH [FILE]

KIND says how it misbehaves: see FAULTS for echoes, and `main` for processes. Nothing is asserted here.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

MESSAGE_BYTES = int(os.environ.get("BYTES", "64"))
EVERY = 3  # of the messages of a connection, this one is echoed wrongly
DYING = threading.Lock()  # never let go: of several connections one is the last
EARLY = 2  # connections that come before it can serve any

FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "good": lambda message: message,
    "drops": lambda message: b"",
    "truncates": lambda message: message[:-5],
    "duplicates": lambda message: message + message,
    "pads": lambda message: message + b"!?",
    "flips": lambda message: bytes([message[0] ^ 1]) + message[1:],
}


def listen(where: str) -> socket.socket:
    if where.isdigit():
        return socket.create_server(("127.0.0.1", int(where)), backlog=256)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(where)
    sock.listen(256)
    return sock


def receive(conn: socket.socket) -> bytes:
    message = b""
    while len(message) < MESSAGE_BYTES:
        part = conn.recv(MESSAGE_BYTES - len(message))
        if not part:
            return b""
        message += part
    return message


def talk(conn: socket.socket, kind: str) -> None:
    number = 0
    try:
        while message := receive(conn):
            number += 1
            if kind == "dies" and number == EVERY:
                DYING.acquire()
                print("foreign server: out of luck", file=sys.stderr, flush=True)
                os._exit(7)
            wrong = FAULTS.get(kind, FAULTS["good"]) if number == EVERY else FAULTS["good"]
            conn.sendall(wrong(message))
    except OSError:
        pass  # the client has gone
    finally:
        conn.close()


def leave_the_family() -> None:
    """Go on as a process that descends from none of those that were started; the first of them stays, and sleeps."""
    child = os.fork()
    if child > 0:
        os.waitpid(child, 0)
        time.sleep(3600)
    os.setsid()
    middle = os.getpid()
    if os.fork() > 0:
        os._exit(0)
    while os.getppid() == middle:
        time.sleep(0.001)


def main() -> None:
    kind, where = sys.argv[1], sys.argv[2]
    note = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    if kind == "dies_at_start":
        sys.exit("foreign server: no such option")
    if kind == "goes_to_the_background" and os.fork() > 0:
        sys.exit(0)
    if kind == "never_listens":
        time.sleep(3600)
    if kind == "ignores_sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "exits_with_3":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    if kind == "address_in_use" and note is not None:
        notes = note.read_text().split() if note.exists() else []
        note.write_text(" ".join([*notes, where]))
        if len(notes) < int(os.environ["TIMES"]):
            sys.exit("foreign server: bind: Address already in use")
    if kind == "starts_a_session" and os.fork() == 0:
        os.setsid()
        time.sleep(3600)
    if kind == "slow_to_start":
        for _ in range(3):
            os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ), 0)
    if kind == "goes_elsewhere":
        leave_the_family()
    sock = listen(where)
    if kind == "works_elsewhere":
        leave_the_family()
    early = [sock.accept()[0] for _ in range(EARLY)] if kind in ("turns_away", "keeps_waiting") else []
    while kind == "turns_away" and early:
        early.pop().close()
    if kind == "never_echoes":
        time.sleep(3600)
    if kind == "forks":
        serve_by_children(sock)
    while True:
        conn, _ = sock.accept()
        threading.Thread(target=talk, args=(conn, kind), daemon=True).start()


def serve_by_children(sock: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are reaped by the kernel
    while True:
        conn, _ = sock.accept()
        if os.fork() == 0:
            sock.close()
            talk(conn, "good")
            os._exit(0)
        conn.close()


if __name__ == "__main__":
    main()
