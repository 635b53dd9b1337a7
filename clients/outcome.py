"""What the load threads of a job saw, put together into one Load. Counts and histograms add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np

from clients import histogram
from clients.connections import CONNECT, LAG, RESPONSE, SERVICE
from clients.job import Job, Load
from clients.load_thread import Window


def load_of(job: Job, unopened: Counter[str], interval_ns: int, pacing: str, windows: Sequence[Window]) -> Load:
    """Return the Load; `unopened` are the connections that could not be opened, by kind: each would have sent one."""
    first = windows[0]
    window_ns = max(1, first.closed.at_ns - first.opened.at_ns)
    planned = job.rate_hz > 0
    errors = sum((window.failed for window in windows), unopened.copy())
    unsent = _total(window.closed.due - window.closed.begun for window in windows)
    counts = np.sum([window.counts for window in windows], axis=0)
    return Load(
        opened_ns=first.opened.at_ns,
        closed_ns=first.closed.at_ns,
        connections=_total(window.connections for window in windows),
        planned=unopened.total() + _total(map(_begun, windows)) + unsent,
        completed=_total(window.closed.completed - window.opened.completed for window in windows),
        timed_out=errors.pop("timed_out", 0),
        errors=dict(errors),
        unsent=unsent,
        in_flight=_total(window.closed.outstanding for window in windows),
        bytes_echoed=_total(window.closed.echoed_bytes - window.opened.echoed_bytes for window in windows),
        interval_ns=interval_ns,
        intervals=[sum(each) for each in zip_longest(*(window.intervals for window in windows), fillvalue=0)],
        service_hdr=histogram.encode(counts[SERVICE]),
        cpu_user_ns=first.closed.cpu_user_ns - first.opened.cpu_user_ns,
        cpu_system_ns=first.closed.cpu_system_ns - first.opened.cpu_system_ns,
        worker_busy=[_busy(window) for window in windows],
        response_hdr=histogram.encode(counts[RESPONSE]) if planned else "",
        lag_hdr=histogram.encode(counts[LAG]) if planned else "",
        connect_hdr=histogram.encode(counts[CONNECT]) if job.workload == "churn" else "",
        interval_hdrs=_interval_hdrs(windows),
        offered_hz=planned * _total(window.closed.due - window.opened.due for window in windows) / window_ns * 1e9,
        pacing=pacing,
        rounds=_total(window.closed.rounds - window.opened.rounds for window in windows),
        connects=_total(window.closed.connects - window.opened.connects for window in windows),
        threads=len(windows),
    )


def _total(figures: Iterable[int]) -> int:
    return sum(figures)


def _begun(window: Window) -> int:
    """Messages to be accounted for that were begun, or would have been on connections that failed."""
    opened, closed = window.opened, window.closed
    return window.failed_before + opened.outstanding + closed.begun - opened.begun + closed.unbegun - opened.unbegun


def _busy(window: Window) -> float:
    opened, closed = window.opened, window.closed
    return min(1.0, max(0.0, (closed.thread_ns - opened.thread_ns) / max(1, closed.at_ns - opened.at_ns)))


def _interval_hdrs(windows: Sequence[Window]) -> list[str]:
    encoded = []
    for parts in zip_longest(*(window.interval_counts for window in windows)):
        counts = histogram.empty()
        for part in parts:
            if part is not None:
                part.add_to(counts)
        encoded.append(histogram.encode(counts))
    return encoded
