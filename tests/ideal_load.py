"""What a load generator would report of times that are known: an ideal one, and ones that are wrong in a known way.

For the tests of the calibration. Times are seconds from the opening of the window; nothing is asserted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.record import Load
from clients import histogram

Times = NDArray[np.float64]


def encode(seconds: Times | Sequence[float]) -> str:
    """Record times as the load generator does."""
    counts = histogram.empty()
    histogram.count_all(counts, np.asarray(np.asarray(seconds) * 1e9, np.int64))
    return histogram.encode(counts)


def load_of(planned: Times, sent: Times, done: Times, window_s: float, **changes: Any) -> Load:
    """The load of messages with these times; what is done after the window is in flight at its end."""
    inside = done <= window_s
    intervals = np.histogram(done[inside], np.arange(0, window_s + 0.05, 0.1))[0]
    values: dict[str, Any] = {
        "opened_ns": 10**9,
        "closed_ns": 10**9 + int(window_s * 1e9),
        "connections": 16,
        "planned": len(planned),
        "completed": int(inside.sum()),
        "errors": {},
        "timed_out": 0,
        "unsent": int((sent > window_s).sum()),
        "in_flight": int((~inside & (sent <= window_s)).sum()),
        "bytes_echoed": 64 * int(inside.sum()),
        "interval_ns": 10**8,
        "intervals": intervals.tolist(),
        "service_hdr": encode((done - sent)[inside]),
        "response_hdr": encode((done - planned)[inside]),
        "lag_hdr": encode((sent - planned)[sent <= window_s]),
        "cpu_user_ns": 1,
        "cpu_system_ns": 1,
        "worker_busy": [0.2],
        "offered_hz": len(planned) / window_s,
    }
    return Load(**values | changes)


def every(rate_hz: float, window_s: float) -> Times:
    """Constant arrivals."""
    return np.arange(1, round(rate_hz * window_s) + 1) / rate_hz


def serve(arrivals: Times, service_s: float, stall: tuple[float, float] = (0.0, 0.0)) -> Times:
    """When a single server in order of arrival is done with each; it does nothing from stall[0] on, for stall[1]."""
    free, done = 0.0, []
    for at in arrivals:
        begins = max(at, free)
        if stall[0] <= begins < stall[0] + stall[1]:
            begins = stall[0] + stall[1]
        free = begins + service_s
        done.append(free)
    return np.array(done)


def capped(planned: Times, service_s: float, stall: tuple[float, float], cap: int) -> tuple[Times, Times]:
    """When each is sent and done, if no more than `cap` may be outstanding."""
    sent, done = np.array(planned), np.zeros(len(planned))
    free = 0.0
    for number, at in enumerate(planned):
        sent[number] = max(at, done[number - cap]) if number >= cap else at
        begins = max(sent[number], free)
        if stall[0] <= begins < stall[0] + stall[1]:
            begins = stall[0] + stall[1]
        free = done[number] = begins + service_s
    return sent, done
