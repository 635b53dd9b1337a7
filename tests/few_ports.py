"""Churn in a network that has few local ports, none of which is used again while it is in TIME_WAIT.

    unshare --map-root-user --net python few_ports.py tcp:[::1]:0

Prints {"ports": n, "completed": n, "errors": {...}}. It changes settings of the network namespace that it runs in.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from driving import drive  # noqa: E402
from peers import Peer  # noqa: E402

from servers.transport import listen, listener, parse  # noqa: E402

PORTS = range(40_000, 40_064)
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40  # netdevice(7)
ENOUGH = 11 * len(PORTS)


def raise_loopback() -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING))


def limit() -> None:
    settings = Path("/proc/sys/net/ipv4")
    (settings / "ip_local_port_range").write_text(f"{PORTS[0]} {PORTS[-1]}")
    (settings / "tcp_tw_reuse").write_text("0")
    (settings / "tcp_max_tw_buckets").write_text("100000")


def main(place: str) -> None:
    raise_loopback()
    limit()
    with listen(parse(place)) as sock:
        source = listener(sock, "tcp")
        server = Peer(source.address, sock, 64)
        accepting = threading.Thread(target=server.serve, args=(source,))
        accepting.start()
        load = drive(server, "churn", connections=2, duration_s=1.0, ended=lambda: server.accepted > ENOUGH)
        sock.shutdown(socket.SHUT_RDWR)
        accepting.join()
        os.close(source._reserve)
    print(json.dumps({"ports": len(PORTS), "completed": load.completed, "errors": load.errors}))


if __name__ == "__main__":
    main(sys.argv[1])
