"""From the runs of a history to trends: the values of each case and metric on like machines, with their changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from bench.history.change import FEWEST, Change, changes
from bench.history.store import Entry, Estimate
from bench.metrics import METRICS, Metric
from bench.words import counted

BY_NAME = {metric.name: metric for metric in METRICS}
RECENT = 5  # runs: a change for the worse no older than that fails `--fail-on-change`


class Point(NamedTuple):
    """One run's estimate."""

    entry: Entry
    estimate: Estimate


class Trend(NamedTuple):
    """A case and metric on like machines, in order of time. A change is before the point it has the number of."""

    machine: str
    case: str
    metric: Metric
    points: tuple[Point, ...]
    changes: tuple[Change, ...]


def trends(entries: Sequence[Entry], metrics: Collection[str] = (), strategies: Collection[str] = ()) -> list[Trend]:
    """All trends, by machine, case and metric; of these metrics and strategies only, where some are named."""
    found: dict[tuple[str, str, str], list[Point]] = {}
    for entry in entries:
        for estimate in entry.estimates:
            if (not metrics or estimate.metric in metrics) and (not strategies or estimate.strategy in strategies):
                key = (entry.machine, estimate.case, estimate.metric)
                found.setdefault(key, []).append(Point(entry, estimate))
    order = {name: number for number, name in enumerate(BY_NAME)}
    keys = sorted(found, key=lambda key: (key[0], key[1], order.get(key[2], 99)))
    return [
        Trend(
            machine,
            case,
            BY_NAME[metric],
            tuple(found[machine, case, metric]),
            tuple(changes([point.estimate.value for point in found[machine, case, metric]])),
        )
        for machine, case, metric in keys
        if metric in BY_NAME
    ]


def is_worse(trend: Trend, change: Change) -> bool:
    """Whether a change is one for the worse."""
    return (change.ratio < 1) == trend.metric.higher_is_better


def newly_worse(trend: Trend) -> bool:
    """Whether the newest change is for the worse and not older than RECENT runs."""
    return bool(
        trend.changes and is_worse(trend, trend.changes[-1]) and len(trend.points) - trend.changes[-1].at <= RECENT
    )


def sentence(trend: Trend, change: Change) -> str:
    """Say what changed, by how much, and between which commits."""
    before, after = trend.points[change.at - 1].entry, trend.points[change.at].entry
    way = "worse" if is_worse(trend, change) else "better"
    return (
        f"{trend.case}: {trend.metric.title} {100 * (change.ratio - 1):+.1f} % ({way}), between {commit(before)} "
        f"({before.created[:10]}) and {commit(after)} ({after.created[:10]}), p = {change.p:.2g}"
    )


def commit(entry: Entry) -> str:
    """A commit as it is shown."""
    return f"{entry.commit[:10]}{'+' if entry.dirty else ''}"


def machines(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each kind of machine, with the facts in which they differ."""
    kinds = {entry.machine: entry.facts for entry in entries}
    differ = [
        name for name in next(iter(kinds.values()), {}) if len({str(facts.get(name)) for facts in kinds.values()}) > 1
    ]
    told = []
    for machine, facts in kinds.items():
        runs = counted(sum(entry.machine == machine for entry in entries), "run")
        about = ", ".join(f"{name} {facts.get(name)}" for name in differ)
        told.append(f"Machine {machine}: {runs}{f', {about}' if about else ''}.")
    return told


def too_short(found: Sequence[Trend]) -> str:
    """A remark where no trend is long enough for a change to be found in it."""
    if found and max(len(trend.points) for trend in found) < 2 * FEWEST:
        return f"A change is looked for from {2 * FEWEST} runs of a case on."
    return ""
