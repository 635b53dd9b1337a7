"""The search for the highest rate that holds a latency objective, and what is printed of it. No load is run here.

How a window is judged, and where the search looks next, is in clients/objective.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from clients.job import Job, JobError, Load
from clients.objective import FIRST, BadObjectiveError, Judgement, Objective, Verdict, bracket, judge, next_rate
from clients.objective import read_objective as read_any_objective
from clients.summary import NEEDED, time_in_words

MOST_STEPS = 40
HIGHEST_HZ = 1e7
TRIES = 2  # a rate that was not held is tried again: on a shared machine one window may meet with a spike


class Step(NamedTuple):
    """One window at one rate, and what came of it."""

    rate_hz: float
    judgement: Judgement


class Answer(NamedTuple):
    """The highest rate that held, and the lowest above it that was missed; None where there was none.

    `unknown_hz`: the search ended below a rate at which the load generator, not the server, was too slow.
    """

    holds_hz: float | None
    fails_hz: float | None
    steps: list[Step]
    unknown_hz: float | None = None


def read_objective(text: str) -> Objective:
    """Read `p99<5ms`. Raises JobError where it is no such thing, or of a percentile that is not looked at."""
    levels = [f"p{level:g}" for level in NEEDED]
    try:
        objective = read_any_objective(text)
    except BadObjectiveError as error:
        raise JobError(f"{text!r} is no objective: {error}") from None
    if round(objective.quantile * 100, 6) not in NEEDED:
        raise JobError(f"{text!r}: the percentile must be one of {', '.join(levels)}, as in p99<5ms")
    return objective


def without_plan(job: Job) -> Job:
    """Return the closed loop whose throughput a search begins with."""
    return replace(job, rate_hz=0.0, cap=0, workload="closed" if job.workload == "open" else job.workload)


def first_rate(load: Load) -> float:
    """Return where a search begins by what a closed loop came to. Raises JobError where that is nothing."""
    if not load.completed:
        raise JobError("the closed loop that the search begins with came to nothing: no message was completed")
    return next_rate(FIRST * load.completed * 1e9 / (load.closed_ns - load.opened_ns), 0.0, 0.0)


def judged(job: Job, load: Load, objective: Objective) -> Step:
    """Tell whether the window of a job held the objective."""
    needed = NEEDED[round(objective.quantile * 100, 6)]
    return Step(job.rate_hz, judge(objective, load, needed, capped=job.cap > 0))


def search(measure: Callable[[float], Step], start_hz: float) -> Answer:
    """Try rates until the highest that holds and the lowest that does not are close together.

    A rate counts as held by one window, and as missed by TRIES. A rate with too few messages to tell is a lower end of
    the bracket too, but no answer; one at which the load generator was too slow is an upper end, but nothing that the
    server missed. Whether a rate holds is taken for a monotonic matter.
    """
    steps: list[Step] = []
    rate_hz = start_hz
    while 0 < rate_hz <= HIGHEST_HZ and len(steps) < MOST_STEPS:
        step = measure(rate_hz)
        steps.append(step)
        at_rate = [each.judgement for each in steps if each.rate_hz == rate_hz]
        if _upwards(at_rate) or len(at_rate) >= TRIES:
            rate_hz = next_rate(start_hz, *_bracket(steps))
    return _answer(steps)


def _upwards(at_rate: Sequence[Judgement]) -> bool:
    """Whether there is nothing to be tried below a rate."""
    return any(each.verdict == "held" or each.few for each in at_rate)


def _by_rate(steps: Sequence[Step]) -> dict[float, list[Judgement]]:
    found: dict[float, list[Judgement]] = {}
    for step in steps:
        found.setdefault(step.rate_hz, []).append(step.judgement)
    return found


def _bracket(steps: Sequence[Step]) -> tuple[float, float]:
    return bracket([(rate_hz, _upwards(at_rate)) for rate_hz, at_rate in _by_rate(steps).items()])


def _answer(steps: list[Step]) -> Answer:
    verdicts = {rate_hz: _verdict(at_rate) for rate_hz, at_rate in _by_rate(steps).items()}
    holds_hz = max((rate_hz for rate_hz, verdict in verdicts.items() if verdict == "held"), default=None)
    end_hz = _bracket(steps)[1]
    missed = verdicts.get(end_hz) == "missed"
    return Answer(holds_hz, end_hz if missed else None, steps, None if missed else end_hz or None)


def _verdict(at_rate: Sequence[Judgement]) -> Verdict:
    """What windows at one rate come to: held by one of them; missed by all, none of which was the client's."""
    verdicts = {each.verdict for each in at_rate}
    if "held" in verdicts:
        return "held"
    return "missed" if verdicts == {"missed"} else "unknown"


def level(objective: Objective) -> str:
    """Return the percentile by its name, `p99`."""
    return objective.text.partition("<")[0]


def in_words(objective: Objective) -> str:
    """Return `p99 < 5 ms`."""
    return f"{level(objective)} < {time_in_words(round(objective.limit_ns))}"


def line(step: Step) -> str:
    """Return one step as a line of the table that `head` heads."""
    verdict, value_ns, reason, _ = step.judgement
    value = "-" if value_ns is None else time_in_words(value_ns)
    return f"  {step.rate_hz:>12,.0f} {value:>10}   {verdict}{f': {reason}' if reason else ''}"


def head(objective: Objective) -> str:
    """Return the head of the table of steps."""
    return f"  {'messages/s':>12} {level(objective):>10}"


def conclusion(answer: Answer, objective: Objective) -> str:
    """Return the answer in a sentence or two."""
    what = in_words(objective)
    unknown = f"At {answer.unknown_hz:,.0f} the client was too slow: try --threads." if answer.unknown_hz else ""
    if answer.holds_hz is None:
        few = "Longer windows, -d, would show lower ones." * any(step.judgement.few for step in answer.steps)
        return " ".join(filter(None, [f"No rate was found that holds {what}.", few, unknown]))
    holds = f"{what} holds at {answer.holds_hz:,.0f} messages/s"
    if answer.fails_hz is not None:
        return f"{holds}, and no longer at {answer.fails_hz:,.0f}."
    return f"{holds}. {unknown or 'No higher rate was tried.'}"
