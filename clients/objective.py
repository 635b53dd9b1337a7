"""Latency objectives such as "p99<5ms": read, judged in a window, and where a search for the highest rate looks next.

The load generator and the sweeps go by the same rules, which are here and nowhere else. Pure, and light to import:
nothing is run here, and no load, trial or record is known but by the figures of a window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}

BUSY = 0.8  # a load thread on a CPU for this share of the window or more is itself the limit
LATE_NS = 100_000  # sends are late at p99 beyond this, and beyond this share of the response times' p99
LATE_SHARE = 0.1
_BUCKET = 1.001  # a histogram of three digits tells the highest value of a bucket, which is so much wider at most

FIRST = 0.5  # of the closed loop's throughput: where a search begins
UP, DOWN = 2.0, 0.25
PRECISION = 1.05  # it ends when the bracket is no wider
SLOWEST_HZ = 1.0

Verdict = Literal["held", "missed", "unknown"]


class BadObjectiveError(ValueError):
    """The text is no objective; the message says what one looks like."""


class Objective(NamedTuple):
    """At least `quantile` of all planned messages are answered within `limit_ns` of their planned times."""

    quantile: float
    limit_ns: float
    text: str


class Window(Protocol):
    """What is asked of a window: a load generator's result, or a record's `load`."""

    @property
    def planned(self) -> int:
        """Messages to be accounted for."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Messages that failed, by kind."""

    @property
    def timed_out(self) -> int:
        """Messages that waited too long."""

    @property
    def mute(self) -> int:
        """Connections that were never answered."""

    @property
    def response_hdr(self) -> str:
        """Times from the planned sends, in ns."""

    @property
    def lag_hdr(self) -> str:
        """How late sends were, in ns."""

    @property
    def worker_busy(self) -> Sequence[float]:
        """For each load thread, the share of the window that it was at work."""


class Judgement(NamedTuple):
    """Whether a window held an objective, the time at its quantile where that is known, and why, in words.

    `few`: it is unknown for want of messages, so that a higher rate, or a longer window, would tell.
    """

    verdict: Verdict
    value_ns: int | None
    reason: str = ""
    few: bool = False


def read_objective(text: object) -> Objective:
    """Read "p99<5ms". Raises BadObjectiveError."""
    match = re.fullmatch(
        r"p(\d{1,2}(?:\.\d+)?)<=?(\d+(?:\.\d+)?)(ns|us|ms|s)", str(text).replace(" ", "").replace("µ", "u").lower()
    )
    if not match or not 0 < float(match[1]) < 100 or not float(match[2]) > 0:
        raise BadObjectiveError('an objective is a percentile and its limit in ns, us, ms or s, such as "p99<5ms"')
    percentile, limit, unit = float(match[1]), float(match[2]), match[3]
    return Objective(percentile / 100, limit * NS[unit], f"p{percentile:g}<{limit:g}{unit}")


def judge(objective: Objective, window: Window, needed: int, capped: bool = False) -> Judgement:
    """Tell whether enough of the planned messages were answered in time; `needed` are those that it takes to tell.

    The percentile is one of all planned messages: what was not answered within the window, whatever the reason, was too
    late. A window with messages that failed holds nothing. One that was missed while the load generator had no CPU time
    left, or sent late (unless it was to wait, where messages are `capped`), tells nothing of the server. Response times
    contain the lateness, so that what is held is held all the same.
    """
    times = _decoded(window.response_hdr)
    rank = math.ceil(objective.quantile * window.planned - 1e-9)
    answered = times.total_count if times is not None else 0
    value_ns = _ranked_ns(times, rank) if times is not None and 0 < rank <= answered else None
    if failed := sum(window.errors.values()) + window.timed_out:
        return Judgement("missed", value_ns, f"{failed:,} failed")
    if window.mute:
        return Judgement("missed", value_ns, f"{window.mute:,} connections without an echo")
    if window.planned < needed:
        return Judgement("unknown", None, "too few messages", few=True)
    if value_ns is not None and value_ns <= objective.limit_ns * _BUCKET:
        return Judgement("held", value_ns)
    if excuse := _excuse(window, capped):
        return Judgement("unknown", value_ns, excuse)
    reason = "too slow" if value_ns is not None else f"{answered / window.planned:.1%} answered"
    return Judgement("missed", value_ns, reason)


def _excuse(window: Window, capped: bool) -> str:
    """Why a miss may be the load generator's and not the server's; "" where it is not."""
    if client_bound(window):
        return "the client was the limit"
    return "the client sent late" if not capped and late_ns(window) is not None else ""


def client_bound(window: Window) -> bool:
    """Whether a load thread had no time left, so that the figures are the client's rather than the server's."""
    return max(window.worker_busy, default=0.0) >= BUSY


def late_ns(window: Window) -> int | None:
    """By how much sends were late at p99, where that is a good part of the response times; else None."""
    lag, response = _decoded(window.lag_hdr), _decoded(window.response_hdr)
    if lag is None or response is None or not lag.total_count or not response.total_count:
        return None
    lag_ns, response_ns = (_ranked_ns(times, math.ceil(0.99 * times.total_count - 1e-9)) for times in (lag, response))
    return lag_ns if lag_ns > max(LATE_NS, LATE_SHARE * response_ns) else None


def _decoded(text: str) -> HdrHistogram | None:
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - slow to import

    return HdrHistogram.decode(text) if text else None


def _ranked_ns(times: HdrHistogram, rank: int) -> int:
    """The time of a rank, from 1: the highest that its bucket holds."""
    import numpy as np  # noqa: PLC0415 - slow to import

    index = int(np.searchsorted(np.cumsum(np.ctypeslib.as_array(times.counts)), rank))
    return int(times.get_highest_equivalent_value(times.get_value_from_index(index)))


def bracket(tried: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """The highest rate that held and the lowest one that did not; 0 where there is none."""
    held = max((rate for rate, did in tried if did), default=0.0)
    missed = min((rate for rate, did in tried if not did), default=0.0)
    return held, missed


def next_rate(first_hz: float, held_hz: float, missed_hz: float) -> float:
    """Where to look next: further up or down until there is a bracket, then in its geometric middle; 0 if it is over.

    Rates have three digits: enough for any bracket, and easier to read.
    """
    if held_hz and missed_hz:
        rate_hz = math.sqrt(held_hz * missed_hz) if missed_hz > held_hz * PRECISION else 0.0
    else:
        rate_hz = held_hz * UP or missed_hz * DOWN or first_hz
    rounded = float(f"{rate_hz:.3g}")
    return rounded if rounded >= SLOWEST_HZ else 0.0
