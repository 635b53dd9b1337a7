"""In place of the probes of a server whose processes aren't known: nothing is read of it, and why is said.

That is one that was running before, and one whose work is done outside of the processes that were started for it: a
daemon, a container, a unit of systemd. What is read of those would be a figure that is wrong and looks right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

METRICS = (
    *("cpu_ns", "cpu_user_ns", "cpu_system_ns", "switches_voluntary", "switches_involuntary", "runqueue_wait_ns"),
    *("thread_demand_ns", "rss_bytes", "rss_peak_bytes", "threads", "descriptors", "processes"),
    *("anon_start_bytes", "anon_bytes"),
)
ALREADY_RUNNING = "the server was already running, so only the client's side is measured"
IDLE = "the processes that were started used no CPU time while messages were echoed: the work was done elsewhere"
SHORT_NS = 50_000_000  # readings that are closer together may have missed all that there was of a window


class Unwatched:
    """Reads nothing."""

    def __init__(self, why: str) -> None:
        self.missing = dict.fromkeys(METRICS, why)
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


def credible(
    metrics: Mapping[str, float], missing: Mapping[str, str], echoed: int, window_ns: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of a server and the reasons of those that are missing, once it is known how many messages were echoed.

    An echo takes at least two system calls: processes that used no CPU time at all did not make it, and none of their
    figures is the server's.
    """
    if echoed and window_ns >= SHORT_NS and metrics.get("cpu_ns") == 0:
        return {}, {**missing, **dict.fromkeys(METRICS, IDLE)}
    return dict(metrics), dict(missing)
