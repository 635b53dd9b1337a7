"""What the load threads of a job saw, put together into one Load. Counts and histograms add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from clients import histogram
from clients.connections import CONNECT, LAG, RESPONSE, SERVICE
from clients.job import Job, Load
from clients.load_thread import Window


def load_of(
    job: Job,
    unopened: Counter[str],
    turns: Sequence[Sequence[Window]],
    outside: Counter[str],
    *,
    interval_ns: int,
    pacing: str = "",
    mute: int = 0,
) -> Load:
    """Return the Load of some turns, one after the other, each of which has a window of each thread; one is as good.

    `unopened` are the connections that could not be opened, by kind: each would have sent one. `outside` are messages
    that failed before, between and after those of the turns. `mute` are the connections that were never answered in
    them. The window is as long as all of the turns' together.
    """
    windows = [window for turn in turns for window in turn]
    first = turns[0][0]
    window_ns = max(1, sum(turn[0].closed.at_ns - turn[0].opened.at_ns for turn in turns))
    planned = job.rate_hz > 0
    within = sum((window.failed for window in windows), Counter[str]())
    errors = unopened + within + outside
    unsent = _total(window.closed.due - window.closed.begun for window in turns[-1])
    return Load(
        opened_ns=first.opened.at_ns,
        closed_ns=first.opened.at_ns + window_ns,
        connections=_total(window.connections for window in turns[0]),
        planned=unopened.total() + outside.total() + _total(map(_begun, windows)) + unsent,
        completed=_grown(windows, "completed"),
        timed_out=errors.pop("timed_out", 0),
        errors=dict(errors),
        unsent=unsent,
        in_flight=_total(window.closed.outstanding for window in windows),
        bytes_echoed=_grown(windows, "echoed_bytes"),
        interval_ns=interval_ns,
        intervals=[number for turn in turns for number in _intervals(turn)],
        service_hdr=_encoded(windows, SERVICE),
        cpu_user_ns=_grown([turn[0] for turn in turns], "cpu_user_ns"),
        cpu_system_ns=_grown([turn[0] for turn in turns], "cpu_system_ns"),
        worker_busy=[_busy(windows) for windows in zip(*turns, strict=True)],
        response_hdr=_encoded(windows, RESPONSE) if planned else "",
        lag_hdr=_encoded(windows, LAG) if planned else "",
        connect_hdr=_encoded(windows, CONNECT) if job.workload == "churn" else "",
        interval_hdrs=[text for turn in turns for text in _interval_hdrs(turn)],
        offered_hz=planned * _grown(windows, "due") / window_ns * 1e9,
        pacing=pacing,
        rounds=_grown(windows, "rounds"),
        connects=_grown(windows, "connects"),
        threads=len(turns[0]),
        mute=mute,
    )


def _total(figures: Iterable[int]) -> int:
    return sum(figures)


def _grown(windows: Iterable[Window], name: str) -> int:
    """By how much a figure of the snapshots has grown within the windows, in all."""
    return sum(getattr(window.closed, name) - getattr(window.opened, name) for window in windows)


def _begun(window: Window) -> int:
    """Messages to be accounted for that were begun, or would have been on connections that failed."""
    opened, closed = window.opened, window.closed
    return opened.outstanding + closed.begun - opened.begun + closed.unbegun - opened.unbegun


def _intervals(turn: Sequence[Window]) -> list[int]:
    return [sum(each) for each in zip_longest(*(window.intervals for window in turn), fillvalue=0)]


def _busy(windows: Sequence[Window]) -> float:
    """The share of its windows for which a thread was at work."""
    length_ns = sum(window.closed.at_ns - window.opened.at_ns for window in windows)
    return min(1.0, max(0.0, _grown(windows, "thread_ns") / max(1, length_ns)))


def _encoded(windows: Iterable[Window], kind: int) -> str:
    return histogram.encode(histogram.added(window.counts[kind] for window in windows))


def _interval_hdrs(windows: Sequence[Window]) -> list[str]:
    return [
        histogram.encode(histogram.added(part for part in parts if part is not None))
        for parts in zip_longest(*(window.interval_counts for window in windows))
    ]
