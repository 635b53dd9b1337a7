"""The search of a sweep for the highest rate that holds a latency objective. Pure: nothing is run here.

How a window is judged, and where the search looks next, is in clients/objective.py: `iobench load --slo` does the same.
Every step is a trial of its own and follows from those before it: a search that was cut short goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.record import Load, Record, Search, Trial
from clients.objective import FIRST, Objective, bracket, judge, next_rate

if TYPE_CHECKING:
    from bench.validity import Bottleneck

MAX_STEPS = 12
USUAL_STEPS = 7  # for the time that a sweep is expected to take
LONGEST_S = 30.0  # of a window that is made longer for the sake of its percentile


def holds(objective: Objective, load: Load) -> bool | None:
    """Whether a window held an objective; None where the load generator was too slow to tell: see `judge`.

    A rate is only said to hold where that was shown: not with too few messages.
    """
    from bench.stats import samples_needed  # noqa: PLC0415 - numpy is slow to import

    found = judge(objective, load, samples_needed(objective.quantile))
    return None if found.verdict == "unknown" and not found.few else found.verdict == "held"


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
        limit=_limit(missed) if missed else "",
        reason=reason,
    )


def _limit(missed: Record) -> Bottleneck:
    """What kept a step from holding; where it can't be told whether it held, that was the load generator."""
    return "client" if missed.status == "ok" and missed.held is None else missed.bottleneck


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
        rate = next_rate(first, held, missed)
        if not rate or len(tried) == MAX_STEPS:
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
