"""The answer in sentences: who won what, by how much, and where it is a tie.

Every function takes contests and returns plain text, with names between backticks. Nothing is measured, drawn or marked
up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from bench.contests import Contest, Standing
from bench.metrics import CPU, P99, RATE
from bench.stats import Interval
from bench.words import MOST_NAMED, counted, digits, joined, named, quoted, title, value_text, values_text

MOST_SPELLED = 8  # contests of a headline; more are counted by winner

_LEADS = {
    RATE.name: ("serves the most", "serve the most"),
    CPU.name: ("costs the server the least CPU per message", "cost the server the least CPU per message"),
    P99.name: ("has the lowest p99 latency", "have the lowest p99 latencies"),
}
_HEADLINES = {
    RATE.name: "Most messages per second",
    CPU.name: "Least server CPU per message",
    P99.name: "Lowest p99 latency",
}


def client_was_the_limit(contest: Contest) -> bool:
    """Say whether throughput names no winner here: the client limited the best or one that can't be told from it."""
    leaders = {contest.ranking[0].strategy, *contest.level}
    return contest.metric.name == RATE.name and any(
        it.client_bound > 0 for it in contest.ranking if it.strategy in leaders
    )


def lower_bound_leads(contest: Contest) -> bool:
    """Say whether a percentile names no winner here: of the best, or one level with it, only a lower bound is known."""
    leaders = {contest.ranking[0].strategy, *contest.level}
    return contest.metric.quantile is not None and any(
        it.lower_bound for it in contest.ranking if it.strategy in leaders
    )


def no_winner(contest: Contest) -> str:
    """Say briefly why a contest can't be decided whatever the figures; nothing where it can."""
    if client_was_the_limit(contest):
        return "no winner, the client was the limit"
    if lower_bound_leads(contest):
        return "no winner, messages were unfinished when the window closed"
    return ""


def verdict(contest: Contest, cpu: Contest | None = None) -> str:
    """Say who won one contest. `cpu` is the group's contest by CPU, which ranks where the client was the limit."""
    best = contest.ranking[0]
    if client_was_the_limit(contest):
        return _client_limited(contest, cpu)
    if lower_bound_leads(contest):
        return _unfinished(contest)
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


def _unfinished(contest: Contest) -> str:
    leaders = {contest.ranking[0].strategy, *contest.level}
    bounds = [it for it in contest.ranking if it.strategy in leaders and it.lower_bound]
    values = values_text(contest.metric, [it.value for it in bounds])
    return (
        f"{contest.metric.title} names no winner: messages of {named([it.strategy for it in bounds])} were unfinished "
        f"when the window closed, so that only a lower bound is known ({values})."
    )


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
    return [(title(same[0].group, all_groups, otherwise=("connections",)), same) for same in by_key]


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
    open_ones = [contest for contest in contests if no_winner(contest)]
    unsure = [contest for contest in contests if contest.level and too_few(contest) and contest not in open_ones]
    decided = [contest for contest in contests if contest not in open_ones and contest not in unsure]
    for contest in decided:
        names = [contest.ranking[0].strategy, *contest.level]
        (level if contest.level else ahead).update(names)
    first = sorted({*ahead, *level}, key=lambda name: (-ahead[name] - level[name], -ahead[name], name))
    clauses = [
        f"{ahead[name] + level[name]} of {len(contests)} cases: {quoted(name)}"
        + (f", in {level[name]} within the noise" if level[name] else "")
        for name in first[:MOST_NAMED]
    ]
    left = Counter(no_winner(contest) for contest in open_ones) + Counter({"too few repeats to tell": len(unsure)})
    clauses += [f"{count} of {len(contests)} cases: {why}" for why, count in left.items()]
    return clauses


def _places(places: Sequence[str]) -> str:
    """Say "1 and 16 connections", not "1 connection and 16 connections"."""
    parts = [place.partition(" ") for place in places]
    what = {rest.removesuffix("s") for _, _, rest in parts}
    if len(places) > 1 and len(what) == 1 and all(first[0].isdigit() for first, _, _ in parts):
        return f"{joined([first for first, _, _ in parts])} {parts[-1][2]}"
    return "; ".join(places) if any("," in place for place in places) else joined(places)


def _leaders(contest: Contest) -> str:
    best = contest.ranking[0].strategy
    if why := no_winner(contest):
        return why
    if len(contest.ranking) == 1:
        return f"{quoted(best)}, the only one"
    if contest.level and too_few(contest):
        return f"{quoted(best)}, but too few repeats to tell"
    if contest.level:
        return f"{named([best, *contest.level], 'or')}, within the noise"
    return quoted(best)
