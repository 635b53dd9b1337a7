"""In place of the probes of a server that was running before: nothing is read of it, and that is said."""

from __future__ import annotations

import time
from collections.abc import Sequence

METRICS = (
    *("cpu_ns", "cpu_user_ns", "cpu_system_ns", "switches_voluntary", "switches_involuntary", "runqueue_wait_ns"),
    *("rss_bytes", "rss_peak_bytes", "threads", "descriptors", "processes", "anon_start_bytes", "anon_bytes"),
)
WHY = "the server was already running, so only the client's side is measured"


class Unwatched:
    """Reads nothing."""

    def __init__(self) -> None:
        self.missing = dict.fromkeys(METRICS, WHY)
        self.family: list[int] = []
        self.opened_ns = 0
        self.closed_ns = 0

    def unavailable(self) -> str | None:
        """It runs everywhere."""
        return None

    def start(self, pids: Sequence[int]) -> None:
        """Note the time."""
        self.opened_ns = time.monotonic_ns()

    def stop(self) -> dict[str, float]:
        """Note the time."""
        self.closed_ns = time.monotonic_ns()
        return {}
