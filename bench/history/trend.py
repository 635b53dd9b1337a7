"""From the runs of a history to trends: the values of each case and metric on like machines, with their changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from bench.history.change import Change, changes, fewest_values, first_found
from bench.history.store import EXAMPLE, FACTS, Entry, Estimate, made
from bench.metrics import METRICS, Metric
from bench.words import counted, joined

BY_NAME = {metric.name: metric for metric in METRICS}


class Point(NamedTuple):
    """One run's estimate."""

    entry: Entry
    estimate: Estimate


class Trend(NamedTuple):
    """A case and metric on like machines, in order of runs. A change is before the point that it has the number of."""

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


def newly_worse(trend: Trend, newest: tuple[str, str]) -> list[Change]:
    """Give the changes for the worse that are found for the first time with the run that was `made` then.

    None where the trend has no such run: what was found in it was found before.
    """
    worse = [change for change in trend.changes if is_worse(trend, change)]
    when = [made(point.entry) for point in trend.points]
    if not worse or newest not in when:
        return []
    came = sorted(range(len(when)), key=lambda place: (when[place] == newest, when[place]))
    return first_found(worse, [point.estimate.value for point in trend.points], came)


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


def machines(entries: Sequence[Entry], like: Sequence[str] = ()) -> list[str]:
    """A sentence for each kind of machine, with the facts in which they differ, and how the kinds were chosen."""
    kinds = {entry.machine: entry.facts for entry in entries}
    differ = [name for name, fact in FACTS.items() if len({str(facts.get(fact)) for facts in kinds.values()}) > 1]
    told = []
    for machine, facts in kinds.items():
        runs = counted(sum(entry.machine == machine for entry in entries), "run")
        about = ", ".join(f"{name} {facts.get(FACTS[name])}" for name in differ)
        told.append(f"Machine {machine}: {runs}{f', {about}' if about else ''}.")
    if like:
        others = [name for name in FACTS if name not in like]
        whatever = f", whatever their {joined(others, 'or')}" if others else ""
        told.append(f"Machines of the same {joined(list(dict.fromkeys(like)))} count as alike{whatever}.")
    elif len(kinds) > 1:
        told.append(
            f"They are not compared with each other; --like {EXAMPLE} compares those that have these in common."
        )
    return told


def too_short(found: Sequence[Trend]) -> str:
    """A remark where trends are not long enough for a change to be found in them."""
    fewest = fewest_values()
    short = sum(len(trend.points) < fewest for trend in found)
    if not short:
        return ""
    which = "Each series here" if short == len(found) else f"{short} of {counted(len(found), 'series', 'series')} here"
    verb = "is" if short in (1, len(found)) else "are"
    return f"{which} {verb} too short for a change to be found: it takes {fewest} runs of a case on like machines."
