"""Latency objectives such as "p99<5ms", and the search for the highest rate that holds one. Pure: nothing is run here.

The rate is doubled until the objective is missed, or quartered until it holds, and then bisected on a logarithmic
scale. Every step is a trial of its own and follows from those before it: a search that was cut short goes on where it
was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench.record import Load, Record, Search, Trial

MAX_STEPS = 12
USUAL_STEPS = 7  # for the time that a sweep is expected to take
PRECISION = 1.05  # the search ends when the bracket is no wider
FIRST = 0.5  # of the closed loop's throughput
UP, DOWN = 2.0, 0.25
SLOWEST_HZ = 1.0
LONGEST_S = 30.0  # of a window that is made longer for the sake of its percentile
NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


class BadObjectiveError(ValueError):
    """The text is no objective; the message says what one looks like."""


class Objective(NamedTuple):
    """At least `quantile` of all planned messages are answered within `limit_ns` of their planned times."""

    quantile: float
    limit_ns: float
    text: str


def read_objective(text: object) -> Objective:
    """Read "p99<5ms". Raises BadObjectiveError."""
    match = re.fullmatch(
        r"p(\d{1,2}(?:\.\d+)?)<=?(\d+(?:\.\d+)?)(ns|us|ms|s)", str(text).replace(" ", "").replace("µ", "u").lower()
    )
    if not match or not 0 < float(match[1]) < 100 or not float(match[2]) > 0:
        raise BadObjectiveError('an objective is a percentile and its limit in ns, us, ms or s, such as "p99<5ms"')
    percentile, limit, unit = float(match[1]), float(match[2]), match[3]
    return Objective(percentile / 100, limit * NS[unit], f"p{percentile:g}<{limit:g}{unit}")


def holds(objective: Objective, load: Load) -> bool:
    """Whether enough of the planned messages were answered in time.

    Messages without an echo, whatever the reason, count as too late. So does everything where there are too few
    messages to tell the percentile: a rate is only said to hold where that was shown.
    """
    from bench.histograms import decode, quantiles_us  # noqa: PLC0415 - numpy is slow to import
    from bench.stats import samples_needed  # noqa: PLC0415

    times = decode(load.response_hdr)
    rank = math.ceil(objective.quantile * load.planned - 1e-9)
    if times is None or load.planned < samples_needed(objective.quantile) or rank > times.total_count:
        return False
    return float(quantiles_us(times, [rank / times.total_count])[0]) * 1e3 <= objective.limit_ns * 1.001


def next_step(objective: Objective, start: Trial, records: Mapping[str, Record]) -> Trial | None:
    """The trial that the search goes on with, by the records there are; None where it is over or can't begin.

    `start` is the closed loop that the case begins with.
    """
    steps = _walk(objective, start, records)
    return steps.next


def answer(objective: Objective, start: Trial, records: Mapping[str, Record]) -> Search:
    """What the search has come to."""
    steps = _walk(objective, start, records)
    first = records.get(start.id)
    missed = next((record for rate, record in steps.tried if rate == steps.missed_hz), None)
    reason = ""
    if first is not None and first.status != "ok":
        reason = f"the closed loop that it starts from is {first.status}: {first.reason}"
    elif steps.next is None and not steps.held_hz:
        reason = f"it was missed even at {steps.missed_hz:,.4g} messages/s"
    return Search(
        slo=objective.text,
        start=start,
        steps=[record.id for _, record in steps.tried],
        held_hz=steps.held_hz,
        missed_hz=steps.missed_hz,
        finished=first is not None and steps.next is None,
        limit=missed.bottleneck if missed else "",
        reason=reason,
    )


class _Steps(NamedTuple):
    tried: list[tuple[float, Record]]
    held_hz: float
    missed_hz: float
    next: Trial | None


def _walk(objective: Objective, start: Trial, records: Mapping[str, Record]) -> _Steps:
    """Go through the steps that have records."""
    tried: list[tuple[float, Record]] = []
    first = FIRST * capacity_hz(records.get(start.id))
    while True:
        held, missed = bracket([(hz, record.held is True) for hz, record in tried])
        rate = rounded(next_rate(first, held, missed))
        over = len(tried) == MAX_STEPS or rate < SLOWEST_HZ or (held and missed and missed <= held * PRECISION)
        if over:
            return _Steps(tried, held, missed, None)
        trial = _step(objective, start, rate)
        record = records.get(trial.id)
        if record is None:
            return _Steps(tried, held, missed, trial)
        tried.append((rate, record))


def capacity_hz(record: Record | None) -> float:
    """The throughput of a trial; 0 where it has none."""
    if record is None or record.status != "ok" or record.load is None:
        return 0.0
    return record.load.completed * 1e9 / max(1, record.load.closed_ns - record.load.opened_ns)


def bracket(tried: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """The highest rate that held and the lowest one that did not; 0 where there is none."""
    held = max((rate for rate, did in tried if did), default=0.0)
    missed = min((rate for rate, did in tried if not did), default=0.0)
    return held, missed


def next_rate(first: float, held: float, missed: float) -> float:
    """Where to look next: further up or down until there is a bracket, then in its geometric middle."""
    if held and missed:
        return math.sqrt(held * missed)
    return held * UP or missed * DOWN or first


def rounded(rate_hz: float) -> float:
    """Three digits: enough for any bracket, and easier to read."""
    return float(f"{rate_hz:.3g}")


def _step(objective: Objective, start: Trial, rate_hz: float) -> Trial:
    """A trial of the search. Its window is long enough to tell the percentile, if that takes half a minute at most."""
    from bench.stats import samples_needed  # noqa: PLC0415

    wanted_s = math.ceil(12 * samples_needed(objective.quantile) / rate_hz) / 10
    return msgspec.structs.replace(
        start,
        workload="open",
        arrivals="poisson",
        planned_hz=rate_hz,
        duration_s=max(start.duration_s, min(LONGEST_S, wanted_s)),
        slo=objective.text,
    )
