"""What the kernel dropped while the connections of a trial were opened: counters of the network namespace.

/proc/net/netstat has a line of names and a line of numbers for each group (proc(5); the names of TcpExt are told in
Documentation/networking/snmp_counter.rst of the kernel). They count for all sockets of the namespace together, so what
another server drops meanwhile is in them too.
"""

from __future__ import annotations

from pathlib import Path

from bench.record import Network

NETSTAT = Path("/proc/net/netstat")


class NetworkProbe:
    """Watches the counters from the first connection to the last."""

    def __init__(self) -> None:
        self._before = read()

    def stop(self) -> Network | None:
        """Take the second reading; None where the counters can't be read."""
        before, after = self._before, read()
        if before is None or after is None:
            return None
        grown = {name: after.get(name, 0) - before.get(name, 0) for name in after}
        return Network(
            listen_overflows=grown.get("ListenOverflows", 0),
            listen_drops=grown.get("ListenDrops", 0),
            request_queue_drops=grown.get("TCPReqQFullDrop", 0),
        )


def read() -> dict[str, int] | None:
    """All counters of TcpExt by name; None where this system has none."""
    try:
        lines = NETSTAT.read_text().splitlines()
        names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
        return dict(zip(names, map(int, values), strict=True))
    except (OSError, ValueError):
        return None
