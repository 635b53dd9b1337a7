"""Very many connections in a network of their own, whose counters, ports and queues nobody else touches.

    unshare --map-root-user --net python crowd.py trial 2000      a trial of so many connections with epoll_lt
    unshare --map-root-user --net python crowd.py overflow 5      so many connections to a queue of two
    unshare --map-root-user --net python crowd.py ports 200       so many connections where an address has 64 ports

Prints what came of it as a JSON object.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from few_ports import limit, raise_loopback  # noqa: E402

from bench.catalogue import list_strategies  # noqa: E402
from bench.descriptors import raise_limit  # noqa: E402
from bench.host import choose_cpus  # noqa: E402
from bench.load import end_worker, start_worker  # noqa: E402
from bench.probes.network import NetworkProbe  # noqa: E402
from bench.processes import Guard  # noqa: E402
from bench.record import Trial  # noqa: E402
from bench.server import start_server  # noqa: E402
from bench.trial import run_trial  # noqa: E402
from clients.job import Job  # noqa: E402
from clients.opening import connect  # noqa: E402
from servers.transport import listen, parse  # noqa: E402


def trial(connections: int) -> dict[str, Any]:
    """A tenth of the connections are active, the others silent."""
    active = connections // 10
    wanted = Trial(
        strategy="epoll_lt",
        transport="tcp",
        connections=active,
        silent=connections - active,
        message_bytes=64,
        workload="idle",
        warmup_s=0.1,
        duration_s=0.3,
        repeat=1,
        seed=1,
    )
    raise_limit([wanted])
    info = next(one for one in list_strategies()[0] if one.name == wanted.strategy)
    guard, cpus = Guard(), choose_cpus()
    worker = start_worker(cpus.load, guard)
    try:
        record = run_trial(wanted, lambda _: start_server(info, "tcp", cpus.server, guard), worker)
    finally:
        end_worker(worker)
        guard.close()
    return dict(msgspec.to_builtins(record))


def overflow(connections: int) -> dict[str, Any]:
    """listen(2) with a backlog of 1 makes a queue of two: it is full when it holds more than its backlog."""
    probe = NetworkProbe()
    clients = []
    with listen(parse("tcp:127.0.0.1:0")) as sock:
        sock.listen(1)
        for _ in range(connections):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            clients.append(client)
        poll = select.poll()
        for client in clients:
            poll.register(client, select.POLLOUT)
        connected = sum(bool(events & select.POLLOUT) for _, events in poll.poll(100))
        found = probe.stop()
        for client in clients:
            client.close()
    return {"connected": connected, "network": msgspec.to_builtins(found)}


def ports(connections: int) -> dict[str, Any]:
    limit()
    with listen(parse("tcp:127.0.0.1:0")) as sock:
        address = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
        connected = connect(Job(address=address, connections=connections, message_bytes=1, duration_s=1.0))
        sources = Counter(socket.socket(fileno=channel.rfd).getsockname()[0] for channel in connected.channels)
    return {"failed": dict(connected.failed), "sources": dict(sources)}


WHAT = {"trial": trial, "overflow": overflow, "ports": ports}


def main(what: str, number: str) -> None:
    raise_loopback()
    print(json.dumps(WHAT[what](int(number))))


if __name__ == "__main__":
    main(*sys.argv[1:])
