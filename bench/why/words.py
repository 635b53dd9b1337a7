"""What the counts of a strategy say, in sentences: plain text, with names between backticks. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.why.counts import Counts, Point, agrees, apart, calls, counted, errors, total
from bench.words import joined, percent, quoted

TOLD = 0.005  # calls per message; fewer are of no account
MOST_NAMED = 7


def number(value: float) -> str:
    """Write a figure per message in five characters or so."""
    if not math.isfinite(value):
        return "∞"
    if abs(value) < 0.005:
        return "0"
    value += 1e-9  # 2.125 is 2.13, whatever the last bit
    for limit, text in ((10, f"{value:.2f}"), (100, f"{value:.1f}"), (10_000, f"{value:,.0f}")):
        if abs(value) < limit:
            return text
    return f"{value / 1000:,.0f}k" if abs(value) < 1e7 else f"{value:.0e}"


def who(counts: Counts) -> str:
    """The strategy's name, with transport and interpreter where these are not the usual ones."""
    return " ".join(filter(None, [counts.strategy, where(counts)]))


def where(counts: Counts) -> str:
    """Transport and interpreter; empty where they are the usual ones."""
    places = [counts.transport] if counts.transport != "tcp" else []
    if counts.python:
        places.append(f"{counts.implementation} {counts.version}".strip() or counts.python)
    return f"on {', '.join(places)}" if places else ""


def sentence(counts: Counts) -> str:
    """Say how many system calls a message takes, at most and at fewest messages a wake-up, and which."""
    points = [point for point in counts.points if counted(point)]
    name = quoted(who(counts))
    if not points:
        return f"{name}: its system calls were not counted: {why_not(counts)}."
    few, many = points[0], points[-1]
    what = f"{name} makes {number(total(many) or 0)} system calls for a message"
    if many is not few:
        what += f" {_at(many)}, {number(total(few) or 0)} {'at one' if few.burst == 1 else _at(few)}"
    which = joined([f"{call} {number(value)}" for call, value in main_calls(few)])
    failed = joined([f"{number(value)} end in {error}" for error, value in failures(few) if value >= TOLD])
    return f"{what}: {which}{'; ' if failed else ''}{failed}."


def remarks(counts: Counts) -> list[str]:
    """Say what is to be known beyond that: passes that differ, what was not counted, and why."""
    name = quoted(who(counts))
    told = []
    for point in counts.points:
        share = apart(point)
        if counted(point) and share is not None and not agrees(point):
            told.append(f"{name} {_at(point)}: two passes differ by {percent(share)} of the calls: {_passes(point)}.")
    if any(counted(point) for point in counts.points):
        disturbed = [point for point in counts.points if _by_strace(counts, point)]
        if disturbed:
            told.append(
                f"{name}: strace stops threads while they hold locks, so that some of the futex calls "
                f"{joined([_at(point) for point in disturbed])} are its doing."
            )
    reasons = {
        point.reason: [other for other in counts.points if other.reason == point.reason] for point in counts.points
    }
    told += [
        f"{name} was not counted {joined([_at(point) for point in points])}: {reason.rstrip('.')}."
        for reason, points in reasons.items()
        if reason
    ]
    missing = {what: why for point in counts.points for one in point.passes for what, why in one.missing.items()}
    told += [f"{name}: {what} could not be read: {why.rstrip('.')}." for what, why in sorted(missing.items())]
    return told


def agreement(all_counts: Sequence[Counts]) -> str:
    """Say of how many points the passes agree; nothing where none were counted twice."""
    points = [point for counts in all_counts for point in counts.points if apart(point) is not None]
    good = sum(agrees(point) for point in points)
    if not points:
        return ""
    if good == len(points):
        return "System calls were counted twice, in two server processes, which agree within 1 % at every point."
    return (
        f"System calls were counted twice, in two server processes, which agree within 1 % at {good:,} of "
        f"{len(points):,} points."
    )


def sources(all_counts: Sequence[Counts]) -> list[str]:
    """Say where the system calls were counted with, and why not with what comes before that."""
    told = []
    used = sorted({counts.providers["system calls"] for counts in all_counts if "system calls" in counts.providers})
    if used:
        told.append(f"System calls were counted with {joined(used)}.")
    reasons = {name: why for counts in all_counts for name, why in counts.unavailable.items()}
    told += [f"{name} is not available: {why.rstrip('.')}." for name, why in reasons.items()]
    return told


def why_not(counts: Counts) -> str:
    """Say why no system calls were counted."""
    points = [point.reason for point in counts.points if point.reason]
    if "system calls" in counts.providers and points:
        return points[0].rstrip(".")
    reasons = [f"{name}: {why.rstrip('.')}" for name, why in counts.unavailable.items()]
    return f"not available: {'; '.join(reasons) or 'no provider was tried'}"


def main_calls(point: Point) -> list[tuple[str, float]]:
    """The calls of some account, the most frequent first; those beyond MOST_NAMED as "other"."""
    found = [(name, value) for name, value in calls(point).items() if abs(value) >= TOLD]
    named = [(name, value) for name, value in found if name != "other"]
    rest = sum(value for name, value in found if name == "other") + sum(value for _, value in named[MOST_NAMED:])
    return named[:MOST_NAMED] + ([("other", rest)] if abs(rest) >= TOLD else [])


def failures(point: Point) -> list[tuple[str, float]]:
    """Calls that ended in an error, summed by error, such as EAGAIN."""
    by_error: dict[str, float] = {}
    for name, value in errors(point).items():
        error = name.rpartition(" ")[2]
        by_error[error] = by_error.get(error, 0.0) + value
    return sorted(by_error.items(), key=lambda item: -item[1])


def _at(point: Point) -> str:
    return "at one a wake-up" if point.burst == 1 else f"at {point.burst:,} messages a wake-up"


def _passes(point: Point) -> str:
    """The calls that the passes differ in."""
    each = [{name: value / one.counted_messages for name, value in one.calls.items()} for one in point.passes]
    names = {name for one in each for name in one}
    spread = {name: max(found) - min(found) for name in names if (found := [one.get(name, 0.0) for one in each])}
    worst = [name for name in sorted(spread, key=lambda name: (-spread[name], name)) if spread[name] >= TOLD][:3]
    return "; ".join(f"{name} {joined([number(one.get(name, 0.0)) for one in each])}" for name in worst)


def _by_strace(counts: Counts, point: Point) -> bool:
    threads = max((one.held.get("threads", 1) for one in point.passes), default=1)
    return counts.providers.get("system calls") == "strace" and threads > 1 and calls(point).get("futex", 0) >= TOLD
