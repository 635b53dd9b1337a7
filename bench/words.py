"""The report's sentences: who won what, by how much, where it is a tie, and what stands in the way of trusting it.

Every function here takes results and returns plain text, with names between backticks. Nothing is measured, drawn or
marked up.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from bench.analyse import CASE, CPU, GROUP, P99, RATE, Contest, Metric, Standing
from bench.record import Manifest, Record, StrategyInfo
from bench.stats import Interval

MOST_NAMED = 4  # strategies of a tie; the others are counted
MOST_SPELLED = 8  # contests of a headline; more are counted by winner

# --- names, numbers, units


def quoted(name: str) -> str:
    """Put a name between backticks, on one line."""
    return f"`{' '.join(name.split()).replace('`', chr(39))}`"


def joined(parts: Sequence[str], last: str = "and") -> str:
    """Write a list in a sentence: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def named(names: Sequence[str], last: str = "and") -> str:
    """Quote and join names, and count those beyond MOST_NAMED."""
    if len(names) <= MOST_NAMED + 1:
        return joined([quoted(name) for name in names], last)
    return joined([*(quoted(name) for name in names[:MOST_NAMED]), f"{len(names) - MOST_NAMED} more"], last)


def counted(number: float, noun: str, nouns: str = "") -> str:
    """Write a whole number with its noun in the singular or the plural."""
    return f"1 {noun}" if number == 1 else f"{number:,.0f} {nouns or noun + 's'}"


def digits(value: float) -> str:
    """Write a number to three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}")
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def duration_text(us: float, number: Callable[[float], str] = digits) -> str:
    """Write microseconds in the unit that suits them."""
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1.0)):
        if us >= size:
            return f"{number(us / size)} {unit}"
    return f"{number(us * 1e3)} ns"


def value_text(metric: Metric, value: float) -> str:
    """Write a value of a metric with its unit."""
    if metric.unit == "us":
        return duration_text(value)
    if metric.unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    return f"{digits(value)} {metric.unit}".strip()


def values_text(metric: Metric, values: Sequence[float]) -> str:
    """Write several values of a metric, with the unit after each where it may differ, otherwise after the last."""
    if metric.unit in ("us", "bytes"):
        return joined([value_text(metric, value) for value in values])
    return f"{joined([digits(value) for value in values])} {metric.unit}".strip()


# --- settings: what of a trial's definition differs within the run

_COLUMN_TEXT: dict[str, Callable[[Any], str]] = {
    "connections": lambda value: counted(value, "connection"),
    "message_bytes": lambda value: counted(value, "byte"),
    "transport": str,
    "workload": lambda value: f"{value} workload",
    "warmup_s": lambda value: f"{value:g} s of warm-up",
    "duration_s": lambda value: f"{value:g} s measured",
}


def column_text(name: str, value: Any) -> str:
    """Say the value of one column of a definition."""
    return _COLUMN_TEXT.get(name, lambda value: f"{name} {value}")(value)


def varying(table: pd.DataFrame, columns: Iterable[str] = GROUP) -> list[str]:
    """Name the columns with more than one value."""
    return [name for name in columns if table[name].nunique() > 1]


def split(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Split a table by the values of some columns, in their order."""
    return [(dict(zip(columns, key, strict=True)), rows) for key, rows in table.groupby(list(columns), sort=True)]


def title(one: Mapping[str, Any], among: Iterable[Mapping[str, Any]], always: Sequence[str] = ()) -> str:
    """Say how one setting differs from the others; columns in `always` are said even where they don't differ."""
    others = list(among)
    differing = [name for name in one if name in always or any(other[name] != one[name] for other in others)]
    return ", ".join(column_text(name, one[name]) for name in differing)


# --- who won what

_LEADS = {
    RATE.name: ("serves the most", "serve the most"),
    CPU.name: ("costs the server the least CPU per message", "cost the server the least CPU per message"),
    P99.name: ("has the lowest p99 service time", "have the lowest p99 service times"),
}
_HEADLINES = {
    RATE.name: "Most messages per second",
    CPU.name: "Least server CPU per message",
    P99.name: "Lowest p99 service time",
}


def client_was_the_limit(contest: Contest) -> bool:
    """Say whether throughput names no winner here: the client limited the best or one that can't be told from it."""
    leaders = {contest.ranking[0].strategy, *contest.level}
    return contest.metric.name == RATE.name and any(
        it.client_bound > 0 for it in contest.ranking if it.strategy in leaders
    )


def verdict(contest: Contest, cpu: Contest | None = None) -> str:
    """Say who won one contest. `cpu` is the group's contest by CPU, which ranks where the client was the limit."""
    best = contest.ranking[0]
    if client_was_the_limit(contest):
        return _client_limited(contest, cpu)
    if len(contest.ranking) == 1:
        value = value_text(contest.metric, best.value)
        text = f"{quoted(best.strategy)} is the only one measured; its {contest.metric.title}: {value}."
    else:
        text = f"{_tied(contest) if contest.level else _won(contest)}."
    return text + _reservation(contest)


def _reservation(contest: Contest) -> str:
    """Say what a saturated client does to figures that it does not make worthless."""
    bound = [it.strategy for it in contest.ranking if it.client_bound > 0]
    if bound and contest.metric.name == RATE.name:
        return f" The client limited {named(bound)}, which may be faster than measured."
    if {contest.ranking[0].strategy, *contest.level} & set(bound) and contest.metric.quantile is not None:
        return f" With {named(bound)} the client was saturated, and its own delay is part of these times."
    return ""


def _won(contest: Contest) -> str:
    best, second = contest.ranking[:2]
    lead = f", ahead of {quoted(second.strategy)} by a factor of {_ratio_text(contest.ratio)}" if contest.ratio else ""
    return f"{quoted(best.strategy)} {_LEADS[contest.metric.name][0]}: {value_text(contest.metric, best.value)}{lead}"


def _tied(contest: Contest) -> str:
    best = contest.ranking[0]
    if contest.ratio is None or too_few(contest):
        few = counted(min(it.trials for it in contest.ranking[:2]), "repeat")
        return (
            f"{quoted(best.strategy)} comes first by {contest.metric.title}, with "
            f"{value_text(contest.metric, best.value)}, but {few} can't tell a lead from noise (4 or more can)"
        )
    names = [best.strategy, *contest.level]
    named_here = names[: MOST_NAMED if len(names) > MOST_NAMED + 1 else None]
    values = [it.value for it in contest.ranking if it.strategy in named_here]
    return (
        f"{named(names)} {_LEADS[contest.metric.name][1]}, and the difference is within the noise: "
        f"{values_text(contest.metric, values)}; "
        f"between the first two lies a factor of {_ratio_text(contest.ratio)}"
    )


def too_few(contest: Contest) -> bool:
    """Say whether there are too few repeats for any interval of the best's lead."""
    return contest.ratio is None or contest.ratio.low == 0


def _ratio_text(ratio: Interval) -> str:
    return f"{digits(ratio.estimate)} (95 % interval {digits(ratio.low)} to {digits(ratio.high)})"


def _client_limited(contest: Contest, cpu: Contest | None) -> str:
    leaders = {contest.ranking[0].strategy, *contest.level}
    bound = [it for it in contest.ranking if it.strategy in leaders and it.client_bound > 0]
    trials = f"{sum(it.client_bound for it in bound)} of {sum(it.trials for it in bound)} trials"
    text = (
        f"Throughput names no winner: in {trials} the client, not the server, was the limit of "
        f"{named([it.strategy for it in bound])} (at least {value_text(RATE, bound[0].value)})."
    )
    return text + (_ranked_by_cpu(cpu) if cpu else "")


def _ranked_by_cpu(cpu: Contest) -> str:
    def efficiency(it: Standing) -> str:
        return f"{digits(1e6 / it.value)}"

    names = [cpu.ranking[0].strategy, *cpu.level]
    if len(names) == 1:
        return f" By messages per server CPU-second {quoted(names[0])} comes first with {efficiency(cpu.ranking[0])}."
    return (
        f" By messages per server CPU-second {named(names)} come first, within the noise, "
        f"the first of them with {efficiency(cpu.ranking[0])}."
    )


def verdicts(contests: Sequence[Contest]) -> list[tuple[str, list[str]]]:
    """Give for each group, in order, what it is called and a sentence for each metric."""
    found: list[tuple[str, list[str]]] = []
    for where, of_group in _by_group(contests):
        cpu = next((contest for contest in of_group if contest.metric.name == CPU.name), None)
        found.append((where, [verdict(contest, cpu) for contest in of_group]))
    return found


def _by_group(contests: Sequence[Contest]) -> list[tuple[str, list[Contest]]]:
    def key(contest: Contest) -> tuple[Any, ...]:
        return tuple(contest.group.values())

    all_groups = [contest.group for contest in contests]
    ordered = sorted(contests, key=key)  # stable: the metrics keep their order
    by_key = [list(same) for _, same in groupby(ordered, key=key)]
    return [(title(same[0].group, all_groups, always=("connections",)), same) for same in by_key]


def headlines(contests: Sequence[Contest]) -> list[tuple[str, list[str]]]:
    """Answer briefly for each metric: what was asked, and who leads where."""
    return [
        (_HEADLINES[name], _leaders_by_place(list(same)))
        for name, same in groupby(contests, key=lambda contest: contest.metric.name)
    ]


def _leaders_by_place(contests: Sequence[Contest]) -> list[str]:
    if len(contests) > MOST_SPELLED:
        return _leaders_counted(contests)
    places: dict[str, list[str]] = {}
    for where, of_group in _by_group(contests):
        places.setdefault(_leaders(of_group[0]), []).append(where)
    return [f"{_places(wheres)}: {who}" for who, wheres in places.items()]


def _leaders_counted(contests: Sequence[Contest]) -> list[str]:
    """Count how often a strategy is ahead of all others, and how often level with the best."""
    ahead: Counter[str] = Counter()
    level: Counter[str] = Counter()
    limited = [contest for contest in contests if client_was_the_limit(contest)]
    unsure = [contest for contest in contests if contest.level and too_few(contest) and contest not in limited]
    decided = [contest for contest in contests if contest not in limited and contest not in unsure]
    for contest in decided:
        names = [contest.ranking[0].strategy, *contest.level]
        (level if contest.level else ahead).update(names)
    first = sorted({*ahead, *level}, key=lambda name: (-ahead[name] - level[name], -ahead[name], name))
    clauses = [
        f"{ahead[name] + level[name]} of {len(contests)} cases: {quoted(name)}"
        + (f", in {level[name]} within the noise" if level[name] else "")
        for name in first[:MOST_NAMED]
    ]
    for left, why in ((limited, "no winner, the client was the limit"), (unsure, "too few repeats to tell")):
        clauses += [f"{len(left)} of {len(contests)} cases: {why}"] if left else []
    return clauses


def _places(places: Sequence[str]) -> str:
    """Say "1 and 16 connections", not "1 connection and 16 connections"."""
    counts = [re.fullmatch(r"([\d,]+) connections?", place) for place in places]
    if len(places) > 1 and all(counts):
        return f"{joined([count[1] for count in counts if count])} connections"
    return joined(places)


def _leaders(contest: Contest) -> str:
    best = contest.ranking[0].strategy
    if client_was_the_limit(contest):
        return "no winner, the client was the limit"
    if len(contest.ranking) == 1:
        return f"{quoted(best)}, the only one"
    if contest.level and too_few(contest):
        return f"{quoted(best)}, but too few repeats to tell"
    if contest.level:
        return f"{named([best, *contest.level], 'or')}, within the noise"
    return quoted(best)


# --- what stands in the way of trusting it


def why_lines_stop(strategies: Iterable[StrategyInfo], cases: pd.DataFrame) -> list[str]:
    """Say of each strategy that serves one connection at a time why it has no figures at more."""
    measured = cases[cases["ok"] > 0]
    most = measured["connections"].max()
    sentences = []
    for info in strategies:
        own = measured[measured["strategy"] == info.name]["connections"]
        if not info.concurrent and len(own) and own.max() < most:
            sentences.append(
                f"{quoted(info.name)} serves one connection at a time: it was measured at "
                f"{counted(own.max(), 'connection')} only, and its line stops there."
            )
    return sentences


def left_out(trials: pd.DataFrame) -> list[str]:
    """Say which trials failed or were unavailable, and why, a sentence for each strategy and reason."""
    bad = trials[trials["status"] != "ok"]
    sentences = []
    for (strategy, status, reason), rows in bad.groupby(["strategy", "status", "reason"], sort=True):
        counts = sorted(rows["connections"].unique())
        where = f"{joined([f'{count:,}' for count in counts])} connection{'s' if counts != [1] else ''}"
        what = "failed" if status == "failed" else "unavailable"
        why = str(reason).rstrip(".") or "no reason was recorded"
        sentences.append(f"{quoted(str(strategy))}: {counted(len(rows), 'trial')} {what} at {where}: {why}.")
    return sentences


def client_bound(cases: pd.DataFrame) -> list[str]:
    """Say in which cases the client was the limit, a sentence for each strategy."""
    differing = varying(cases)
    sentences = []
    for strategy, rows in cases[cases["client_bound"] > 0].groupby("strategy", sort=True):
        places = [
            f"{', '.join(column_text(name, row[name]) for name in differing) or 'all that was run'} "
            f"({row['client_bound']} of {row['ok']} trials)"
            for row in rows.to_dict("records")
        ]
        sentences.append(f"{quoted(str(strategy))}: {joined(places)}.")
    return sentences


def missing(records: Iterable[Record]) -> list[str]:
    """Say which figures of the servers could not be read, and why."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        for metric, why in (record.server.missing if record.server else {}).items():
            found.setdefault((metric, why), set()).add(record.trial.strategy)
    return [
        f"{metric} could not be read of {named(sorted(strategies))}: {why.rstrip('.')}."
        for (metric, why), strategies in sorted(found.items())
    ]


def unfinished(manifest: Manifest, recorded: int, folder: str) -> str:
    """Say how much of the sweep is missing; nothing where it is complete or its size is unknown."""
    planned = manifest.sweep.get("trials_planned")
    if not isinstance(planned, int) or recorded >= planned:
        return ""
    return (
        f"This run is unfinished: {recorded:,} of {counted(planned, 'trial')} are recorded. "
        f"`iobench sweep --resume {folder}` runs the others."
    )


def overhead(trials: pd.DataFrame) -> str:
    """Say which share of the wall time was not measuring; nothing where no time was recorded."""
    spent = {name: float(trials[name].sum()) for name in ("window_s", "warmed_s", "spawn_s", "connect_s", "teardown_s")}
    total = sum(spent.values())
    if total <= 0:
        return ""
    share = {name: f"{seconds / total:.0%}" for name, seconds in spent.items()}
    rest = f"{1 - (spent['window_s'] + spent['warmed_s']) / total:.0%}"
    return (
        f"Of {total:,.1f} s of trials, {share['window_s']} was measured, {share['warmed_s']} was warm-up and "
        f"{rest} was neither: spawning {spent['spawn_s']:.1f} s, connecting "
        f"{spent['connect_s']:.1f} s, tear-down {spent['teardown_s']:.1f} s."
    )


def nothing_to_compare(trials: pd.DataFrame) -> str:
    """Say why a run names no winner; nothing where a trial succeeded."""
    if trials.empty:
        return "No trial of this run was recorded, so there is nothing to compare."
    if (trials["status"] == "ok").any():
        return ""
    return "No trial of this run succeeded, so there is nothing to compare."


def conditions(trials: pd.DataFrame) -> str:
    """Say what all trials have in common, and how often each was repeated; nothing where there is none."""
    if trials.empty:
        return ""
    common = [column_text(name, trials[name].iloc[0]) for name in GROUP if trials[name].nunique() == 1]
    repeats = Counter(trials.groupby(list(CASE)).size()).most_common(1)[0][0]
    return f"All trials: {', '.join([*common, counted(repeats, 'repeat')])}."
