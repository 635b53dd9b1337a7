"""HdrHistogram's log: a line for each interval of each trial, tagged with the trial's id.

Values are nanoseconds, response times where sends were planned, else service times; the column of maxima is in
milliseconds, as other writers have it. Start times are seconds since the log's StartTime. What reads such a log can add
up any range of intervals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from bench.export import with_times
from bench.histograms import decode_any
from bench.record import Load, Record, Run

summary = "HdrHistogram log: every interval of every trial"
default = "latency.hlog"

NS_PER_MS = 1e6
NO_TAG = r"[^\w.-]+"  # a comma or the end of a line would end it


class Interval(NamedTuple):
    """One line. `start_s` is seconds since the epoch."""

    tag: str
    start_s: float
    length_s: float
    histogram: str


def render(run: Run) -> bytes:
    """Give the file. Raises BadInputError."""
    intervals = sorted(
        (interval for record in with_times(run) for interval in _intervals(record)), key=lambda it: it.start_s
    )
    began_s = intervals[0].start_s
    lines = [
        f"#[Logged by iobench, from {run.folder.resolve().name}: a tag is a trial's id]",
        "#[Histogram log format version 1.3]",
        f"#[StartTime: {began_s:.3f} (seconds since epoch), {_date(began_s)}]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        *filter(None, (_line(interval, began_s) for interval in intervals)),
    ]
    return ("\n".join(lines) + "\n").encode("ascii", errors="replace")


def _intervals(record: Record) -> Iterator[Interval]:
    """The intervals of a trial that saw messages, or its whole window where only that was recorded."""
    load = record.load
    assert load is not None
    opened_s = _opened_s(record)
    if not load.interval_hdrs:
        window_s = (load.closed_ns - load.opened_ns) / 1e9
        yield Interval(record.id, opened_s, window_s, load.response_hdr or load.service_hdr)
        return
    for number, histogram in enumerate(load.interval_hdrs):
        start_s = number * load.interval_ns / 1e9
        yield Interval(record.id, opened_s + start_s, _length_s(load, start_s), histogram)


def _length_s(load: Load, start_s: float) -> float:
    """The last interval may be a shorter one."""
    return max(0.0, min(load.interval_ns / 1e9, (load.closed_ns - load.opened_ns) / 1e9 - start_s))


def _opened_s(record: Record) -> float:
    """When the window opened: after all that came before it in the trial."""
    try:
        started_s = datetime.fromisoformat(record.started).timestamp()
    except (ValueError, OverflowError, OSError):  # no date, or one beyond what the system's clock can tell
        started_s = 0.0
    timing = record.timing
    return started_s + (timing.spawn_s + timing.connect_s + timing.warmup_s if timing else 0.0)


def _line(interval: Interval, began_s: float) -> str:
    """A line; nothing where the histogram is damaged, for readers stop at a line that they can't decode."""
    hist = decode_any(interval.histogram)
    if hist is None:
        return ""
    most_ms = hist.get_max_value() / NS_PER_MS
    times = f"{interval.start_s - began_s:.3f},{interval.length_s:.3f},{most_ms:.3f}"
    return f"Tag={re.sub(NO_TAG, '_', interval.tag)},{times},{interval.histogram}"


def _date(since_epoch_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(since_epoch_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "at a time beyond all dates"
