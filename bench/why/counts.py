"""What was counted of a strategy, as it is written down, and the figures that follow from it.

A point is a number of messages that come at one go; its passes are server processes of their own. All counts of a pass
are differences between two loads that differ in the number of rounds alone: what opening connections costs, starting
threads and attaching a probe, is in both and cancels out. Times are those of the loads themselves, from the moment when
the connections are open. Nothing is measured here.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import msgspec

from bench.record import Amount, Count

SCHEMA = 1
WHY_FILE = "why.json"
AGREEMENT = 0.01  # two passes agree where no figure is further apart than this share of all calls

SWITCHES_VOLUNTARY, SWITCHES_INVOLUNTARY, FAULTS = "switches_voluntary", "switches_involuntary", "minor_faults"
CPU, USER, SYSTEM, WAIT = "cpu_ns", "cpu_user_ns", "cpu_system_ns", "runqueue_wait_ns"


class Pass(msgspec.Struct, kw_only=True):
    """One server process. The counts of system calls have a load of their own: counting them costs time."""

    messages: Count  # that `metrics` are over
    metrics: dict[str, Amount]  # switches and minor faults
    timed_messages: Count  # that `times` are over
    times: dict[str, Amount]  # CPU time, its split by clock ticks, run-queue wait; all in ns
    held: dict[str, Amount]  # rss_bytes, threads, processes, descriptors at the end, with all connections open
    counted_messages: Count = 0  # that `calls` and `errors` are over; 0 where they were not counted
    calls: dict[str, Count] = {}  # system calls by name
    errors: dict[str, Count] = {}  # those that ended in an error, such as "read EAGAIN"
    missing: dict[str, str] = {}  # metric -> why it could not be read


class Point(msgspec.Struct, kw_only=True):
    """So many messages at one go, one on each connection."""

    burst: Count
    passes: list[Pass] = []
    reason: str = ""  # why there are no passes


class Counts(msgspec.Struct, kw_only=True):
    """One strategy on one transport."""

    strategy: str
    transport: str
    message_bytes: int
    created: str  # UTC, ISO 8601
    implementation: str = ""
    version: str = ""
    python: str = ""  # as the user named it; "" is the one that runs iobench
    kernel: str = ""
    providers: dict[str, str] = {}  # what was counted -> where it comes from
    unavailable: dict[str, str] = {}  # provider -> why it was not used
    points: list[Point] = []


class Why(msgspec.Struct, kw_only=True):
    """Everything that was counted last: why.json."""

    counts: list[Counts]
    host: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    schema: int = SCHEMA


def calls(point: Point) -> dict[str, float]:
    """System calls per message by name, the most frequent first; the mean of the passes."""
    return _per_message([(one.calls, one.counted_messages) for one in point.passes])


def errors(point: Point) -> dict[str, float]:
    """Calls per message that ended in an error, by name and error."""
    return _per_message([(one.errors, one.counted_messages) for one in point.passes])


def total(point: Point) -> float | None:
    """System calls per message; None where they were not counted."""
    return sum(calls(point).values()) if counted(point) else None


def counted(point: Point) -> bool:
    """Whether system calls were counted."""
    return bool(point.passes) and all(one.counted_messages > 0 for one in point.passes)


def metric(point: Point, name: str) -> float | None:
    """A metric per message, the mean of the passes; None where it could not be read."""
    found = [one.metrics[name] / one.messages for one in point.passes if name in one.metrics]
    return max(0.0, fmean(found)) if found else None


def time_ns(point: Point, name: str) -> float | None:
    """A time per message, over all passes; None where it could not be read."""
    known = [one for one in point.passes if name in one.times]
    return sum(one.times[name] for one in known) / sum(one.timed_messages for one in known) if known else None


def cpu_parts_ns(point: Point) -> tuple[float, float] | None:
    """User and system CPU time per message: the exact sum, shared out as the clock ticks say."""
    whole, user, system = (time_ns(point, name) for name in (CPU, USER, SYSTEM))
    if whole is None or user is None or system is None or user + system <= 0:
        return None
    return whole * user / (user + system), whole * system / (user + system)


def switches(point: Point) -> float | None:
    """Context switches per message, of both kinds."""
    both = metric(point, SWITCHES_VOLUNTARY), metric(point, SWITCHES_INVOLUNTARY)
    return None if both[0] is None or both[1] is None else both[0] + both[1]


def messages_a_wakeup(point: Point) -> float | None:
    """Messages for each time that the server slept; None where that was not read, infinite where it never slept."""
    wakeups = metric(point, SWITCHES_VOLUNTARY)
    if wakeups is None:
        return None
    return 1 / wakeups if wakeups > 0 else float("inf")


def apart(point: Point) -> float | None:
    """How far two passes are apart, at most, as a share of the calls of a message; None where there is no second one.

    Of the calls by name and of their sum, so that calls that trade places don't count as agreement.
    """
    each = [_per_message([(one.calls, one.counted_messages)]) for one in point.passes if one.counted_messages]
    if len(each) < 2:
        return None
    names = {name for one in each for name in one}
    gaps = [_gap([one.get(name, 0.0) for one in each]) for name in names] + [_gap([sum(one.values()) for one in each])]
    return max(gaps) / max(1e-9, fmean(sum(one.values()) for one in each))


def agrees(point: Point) -> bool:
    """Whether the passes agree; False where that isn't known."""
    share = apart(point)
    return share is not None and share <= AGREEMENT


def per_connection(counts: Counts, name: str) -> float | None:
    """How much of a thing one more connection takes: its growth from the fewest connections to the most."""
    held = {
        point.burst: fmean(found)
        for point in counts.points
        if (found := [one.held[name] for one in point.passes if name in one.held])
    }
    few, many = min(held, default=0), max(held, default=0)
    return (held[many] - held[few]) / (many - few) if many > few else None


def _per_message(counted: list[tuple[dict[str, int], int]]) -> dict[str, float]:
    """The mean over passes of counts per message."""
    known = [(counts, messages) for counts, messages in counted if messages]
    names = {name for counts, _ in known for name in counts}
    means = {name: fmean(counts.get(name, 0) / messages for counts, messages in known) for name in names}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _gap(values: list[float]) -> float:
    return max(values) - min(values)
