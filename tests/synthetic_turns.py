"""Made-up trials in turns, and what was seen of one window of theirs."""

from __future__ import annotations

import os
from typing import Any

from bench.observation import Seen
from bench.record import Machine, Trial

WINDOW_NS = 25_000_000


def trial(connections: int = 16, duration_s: float = 1.0, **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "strategy": "epoll_lt",
        "transport": "tcp",
        "message_bytes": 64,
        "workload": "closed",
        "warmup_s": 0.0,
        "repeat": 1,
        "seed": 1,
    }
    return Trial(connections=connections, duration_s=duration_s, **(fields | changes))


def seen(cpu_ns: float = 10e6, **about: Any) -> Seen:
    at_ns = int.from_bytes(os.urandom(4), "little")
    metrics = {"cpu_ns": cpu_ns, "thread_demand_ns": cpu_ns + 5}
    return Seen(at_ns, at_ns + WINDOW_NS, metrics, {}, machine())._replace(**about)


def machine(**changes: Any) -> Machine:
    fields: dict[str, Any] = {
        "server_idle_ns": 2e6,
        "server_steal_ns": 1e3,
        "load_cpus": [0],
        "load_idle_ns": 3e6,
        "load_steal_ns": 0,
        "load_wait_ns": 1e6,
        "harness_ns": 1e5,
    }
    return Machine(**(fields | changes))
