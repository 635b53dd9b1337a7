"""How much memory a server's processes have of their own: before the first connection, and at the end of the window.

Pss_Anon of /proc/PID/smaps_rollup: anonymous memory, which is the heap and the stacks, a page that several processes
share divided among them. So the pages that a fork has not copied yet count once, and those of programs and libraries,
which are mapped files, do not count. Not in it is what the kernel holds: socket buffers, page tables, kernel stacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.probes.process import with_children

PROC = Path("/proc")


class MemoryProbe:
    """Adds up the anonymous memory of processes and their children, once at its start and once at its end."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._roots: list[int] = []
        self._started_bytes: int | None = None

    def unavailable(self) -> str | None:
        """Say why there is nothing to read."""
        try:
            anonymous_bytes("self")
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def start(self, pids: Sequence[int]) -> None:
        """Take the first reading: no connection is open yet. Without a process there is nothing to read."""
        self._roots = list(pids)
        self._started_bytes = self._read("anon_start_bytes")

    def stop(self) -> dict[str, float]:
        """Take the second reading, while the connections are still open."""
        found = {"anon_start_bytes": self._started_bytes, "anon_bytes": self._read("anon_bytes")}
        return {name: float(value) for name, value in found.items() if value is not None}

    def _read(self, metric: str) -> int | None:
        if not self._roots:
            return None
        total = 0
        for pid in with_children(self._roots):
            try:
                total += anonymous_bytes(pid)
            except (OSError, ValueError) as error:
                if pid not in self._roots and isinstance(error, (FileNotFoundError, ProcessLookupError)):
                    continue  # a child that ended just now
                self.missing[metric] = str(error)
                return None
        return total


def anonymous_bytes(pid: int | str) -> int:
    """The process's share of anonymous memory. Raises OSError, and ValueError where the kernel does not tell."""
    for line in (PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
        if line.startswith(b"Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise ValueError("the kernel tells no Pss_Anon in /proc/PID/smaps_rollup")
