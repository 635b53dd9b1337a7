"""A stand-in for `python -m servers`; run as a script by the tests of the runner.

fake_server.py NAME tcp --module NAME --listen-fd FD --status-fd FD

NAME says how it misbehaves; see `serve` and `main`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

REASON = "beyond FD_SETSIZE"


def main() -> None:
    name = sys.argv[1]
    options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))
    listener, status = socket.socket(fileno=int(options["--listen-fd"])), int(options["--status-fd"])

    def say(event: str, **facts: object) -> None:
        os.write(status, json.dumps({"event": event, **facts}).encode() + b"\n")

    to_miss = [name == "misses_a_signal"]

    def stop(signum: int, frame: object) -> None:
        if any(to_miss):
            to_miss.clear()
            return
        say("stopped", refused={REASON: 2} if name == "refuses" else {})
        os._exit(3 if name == "ends_badly" else 0)

    if name == "dies_at_start":
        sys.exit("fake server: no memory")
    if name == "never_ready":
        time.sleep(3600)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else stop)
    if name == "has_a_child" and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    say("ready", pid=os.getpid(), implementation="Fake", version="1.0", gil=False)
    if name == "refuses":
        say("refused", reason=REASON)
    serve(name, listener)


def serve(name: str, listener: socket.socket) -> None:
    while True:
        conn, _ = listener.accept()
        if name == "dies":
            print("fake server: segmentation fault", file=sys.stderr, flush=True)
            os._exit(7)
        if name == "tells_of_clients":
            while conn.recv(100):
                pass
            print("fake server: a client came and went", file=sys.stderr, flush=True)
        conn.close()


if __name__ == "__main__":
    main()
