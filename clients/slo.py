"""The highest rate that holds a latency objective: `p99<5ms` read, and searched for. The loads are run elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from clients.job import Job, JobError, Load
from clients.summary import NEEDED, client_bound, failed, percentiles, time_in_words

ENOUGH = 0.99  # of what is planned must be completed
PRECISION = 1.05  # the search ends when the bracket is no wider
MOST_STEPS = 40
HIGHEST_HZ = 1e7
_UNITS_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}

Verdict = Literal["held", "missed", "unknown"]


class Objective(NamedTuple):
    """A percentile of the response times that is to stay below a limit."""

    level: str
    limit_ns: float

    def __str__(self) -> str:
        return f"{self.level} < {time_in_words(round(self.limit_ns))}"


class Step(NamedTuple):
    """One window at one rate: the percentile, if there were samples enough, and what came of it, in words."""

    rate_hz: float
    value_ns: int | None
    verdict: Verdict
    reason: str = ""


class Answer(NamedTuple):
    """The highest rate that held, and the lowest above it that did not; None where there was none."""

    holds_hz: float | None
    fails_hz: float | None
    steps: list[Step]


def read_objective(text: str) -> Objective:
    """Read `p99<5ms`. Raises JobError where it is no such thing."""
    found = re.fullmatch(r"\s*(p[\d.]+)\s*<=?\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*", text)
    levels = [f"p{level:g}" for level in NEEDED]
    if not found or found[1] not in levels or float(found[2]) == 0:
        raise JobError(f"{text!r} is no objective: expected one like p99<5ms, with one of {', '.join(levels)}")
    return Objective(found[1], float(found[2]) * _UNITS_NS[found[3]])


def judge(job: Job, load: Load, objective: Objective) -> Step:
    """Tell whether a window held the objective."""
    value_ns = percentiles(load.response_hdr)[objective.level]
    share = load.completed / max(1, load.planned)
    by_client = ", the client was the limit" if client_bound(load) else ""
    if failed(load):
        return Step(job.rate_hz, value_ns, "missed", f"{failed(load):,} failed")
    if value_ns is not None and value_ns >= objective.limit_ns:
        return Step(job.rate_hz, value_ns, "missed", "too slow" + by_client)
    if share < ENOUGH:
        return Step(job.rate_hz, value_ns, "missed", f"{share:.1%} done in time" + by_client)
    if value_ns is None:
        return Step(job.rate_hz, None, "unknown", "too few samples")
    return Step(job.rate_hz, value_ns, "held")


def search(measure: Callable[[float], Step], start_hz: float) -> Answer:
    """Double the rate until it fails, or halve it until it holds; then bisect, by the geometric mean.

    A rate with too few samples to tell is a lower end of the bracket too, but no answer. Whether a rate holds is taken
    for a monotonic matter, which noise may belie: the bracket is one of single windows.
    """
    steps: list[Step] = []
    low_hz = high_hz = holds_hz = None
    rate_hz: float | None = start_hz
    while rate_hz is not None and len(steps) < MOST_STEPS:
        step = measure(rate_hz)
        steps.append(step)
        if step.verdict == "missed":
            high_hz = rate_hz
        else:
            low_hz = rate_hz
            holds_hz = rate_hz if step.verdict == "held" else holds_hz
        rate_hz = _next(low_hz, high_hz)
    return Answer(holds_hz, high_hz, steps)


def _next(low_hz: float | None, high_hz: float | None) -> float | None:
    """Return the rate to try next, or None when there is nothing more to learn."""
    if high_hz is None:
        assert low_hz is not None
        return low_hz * 2 if low_hz * 2 <= HIGHEST_HZ else None
    if low_hz is None:
        return high_hz / 2 if high_hz / 2 >= 1 else None
    return math.sqrt(low_hz * high_hz) if high_hz / low_hz > PRECISION else None


def line(step: Step) -> str:
    """Return one step as a line of the table that `head` heads."""
    value = "-" if step.value_ns is None else time_in_words(step.value_ns)
    reason = f": {step.reason}" if step.reason else ""
    return f"  {step.rate_hz:>12,.0f} {value:>10}   {step.verdict}{reason}"


def head(objective: Objective) -> str:
    """Return the head of the table of steps."""
    return f"  {'messages/s':>12} {objective.level:>10}"


def conclusion(answer: Answer, objective: Objective) -> str:
    """Return the answer in a sentence."""
    if answer.holds_hz is None:
        few = any(step.verdict == "unknown" for step in answer.steps)
        return f"No rate was found that holds {objective}." + (" Longer windows, -d, would show lower ones." * few)
    if answer.fails_hz is None:
        return f"{objective} holds at {answer.holds_hz:,.0f} messages/s; no higher rate was tried."
    return f"{objective} holds at {answer.holds_hz:,.0f} messages/s, and no longer at {answer.fails_hz:,.0f}."
