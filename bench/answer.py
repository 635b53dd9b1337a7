"""The answer that the report opens with: what to use for what, by how much, where it is a tie, and how far to trust it.

Every function takes contests and returns plain text, with names between backticks. Each case with its interval is in
verdicts.py; nothing is measured, drawn or marked up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from statistics import median

from bench.contests import Contest
from bench.metrics import CPU, P99, RATE, Metric
from bench.verdicts import no_winner, too_few
from bench.words import MOST_NAMED, digits, joined, named, quoted, title, value_text, values_text

MOST_SPELLED = 8  # cases of a question; more are counted by winner
MANY = 8  # connections: fewer are not many
ASKED = {RATE.name: "For throughput", CPU.name: "For little server CPU", P99.name: "For a low p99 latency"}
HARDLY = 1.1  # a factor below which a choice hardly matters
NOTED = 1.005  # one below which being behind is not worth a word


def advice(contests: Sequence[Contest]) -> list[tuple[str, list[str]]]:
    """Answer for each metric: what it is for, and for each place what to use and by how much it is ahead."""
    found = []
    for name, same in groupby(contests, key=lambda contest: contest.metric.name):
        of_metric = list(same)
        spelled = len(of_metric) <= MOST_SPELLED
        clauses = (
            [f"{where(contest, contests)}: {clause(contest)}" for contest in of_metric]
            if spelled
            else counted_up(of_metric)
        )
        found.append((ASKED[name], clauses))
    return found


def where(contest: Contest, among: Sequence[Contest]) -> str:
    """Say which case of the run it is."""
    return title(contest.group, [other.group for other in among], otherwise=("connections",))


def clause(contest: Contest) -> str:
    """Say what to use in one case, and by how much it is ahead of the next one."""
    metric, best = contest.metric, contest.ranking[0]
    value = value_text(metric, best.value)
    if why := no_winner(contest):
        return f"{why} ({quoted(best.strategy)}: at least {value})"
    if len(contest.ranking) == 1:
        return f"{quoted(best.strategy)}, the only one: {value}"
    if _unsure(contest):
        return f"{quoted(best.strategy)} with {value}, but too few repeats to tell"
    if contest.level:
        return _tie(contest)
    second = contest.ranking[1]
    lead = contest.ratio
    if lead is None:
        return f"{quoted(best.strategy)} with {value}"
    surely = f"95 % interval {_shares(metric, lead.low, lead.high)}"
    return (
        f"{quoted(best.strategy)} with {value}, {more(metric, lead.estimate)} than {quoted(second.strategy)} ({surely})"
    )


def _tie(contest: Contest) -> str:
    metric, names = contest.metric, [contest.ranking[0].strategy, *contest.level]
    values = [it.value for it in contest.ranking if it.strategy in names]
    ends = values_text(metric, [values[0], values[-1]]) if len(values) == 2 else _between(metric, values)
    text = f"{named(names, 'or')}, a tie: {ends}"
    others = [it for it in contest.ranking if it.strategy not in names]
    if not others:
        return text
    lead = more(metric, _factor(contest, values[0], others[0].value))
    return f"{text}; about {lead} than {quoted(others[0].strategy)}, the next"


def _between(metric: Metric, values: Sequence[float]) -> str:
    least, most = value_text(metric, min(values)), value_text(metric, max(values))
    return f"all {least}" if least == most else f"{least} to {most}"


def more(metric: Metric, factor: float) -> str:
    """Say by how much the better of two is better: a factor of 1 or more."""
    if metric.higher_is_better and factor >= 2:
        return f"{digits(factor)} times more"
    return f"{_share(metric, factor)} {'more' if metric.higher_is_better else 'less'}"


def _share(metric: Metric, factor: float) -> str:
    """By how many percent a value is above that of the second, or below it where less is better."""
    share = 100 * (factor - 1 if metric.higher_is_better else 1 - 1 / factor)
    return f"{share:,.0f} %" if abs(share) >= 9.95 else f"{share:.1f} %"


def _shares(metric: Metric, low: float, high: float) -> str:
    if metric.higher_is_better and high >= 2:
        return f"{digits(low)} to {digits(high)} times"
    return f"{_share(metric, low).removesuffix(' %')} to {_share(metric, high)}"


def _factor(contest: Contest, best: float, other: float) -> float:
    """By what factor the better of two values is better."""
    return best / other if contest.metric.higher_is_better else other / best


def counted_up(contests: Sequence[Contest]) -> list[str]:
    """Say of many cases who comes first in how many, and by how much those that are ahead are."""
    reasons = [_undecided(contest) for contest in contests]
    decided = [contest for contest, why in zip(contests, reasons, strict=True) if not why]
    ahead = Counter(contest.ranking[0].strategy for contest in decided if not contest.level)
    level = Counter(
        name for contest in decided if contest.level for name in (contest.ranking[0].strategy, *contest.level)
    )
    first = sorted({*ahead, *level}, key=lambda name: (-ahead[name] - level[name], -ahead[name], name))
    clauses = []
    for name in first[:MOST_NAMED]:
        leads = [it.ratio.estimate for it in decided if it.ratio and not it.level and it.ranking[0].strategy == name]
        text = f"{quoted(name)} in {ahead[name] + level[name]} of {len(contests)} cases"
        text += f", in {level[name]} a tie" if level[name] else ""
        metric = contests[0].metric
        clauses.append(text + (f"; where ahead, {more(metric, median(leads))} than the next (median)" if leads else ""))
    if len(first) > MOST_NAMED:
        clauses.append(f"{len(first) - MOST_NAMED} more come first somewhere")
    left = Counter(filter(None, reasons))
    return clauses + [f"{why} in {count} of {len(contests)} cases" for why, count in left.items()]


def _undecided(contest: Contest) -> str:
    """Say briefly why nobody comes first in a case; nothing where somebody does."""
    if len(contest.ranking) == 1:
        return "only one strategy was measured"
    return no_winner(contest) or ("too few repeats to tell" if _unsure(contest) else "")


# --- one for all


def opening(contests: Sequence[Contest]) -> list[str]:
    """Say which one to take for everything, which one for many connections, how it came out, how much it matters.

    Nothing where nothing was measured that strategies can be compared by.
    """
    rivalries = [contest for contest in contests if len(contest.ranking) > 1]
    if not rivalries:
        return _no_rivals(contests)
    if all(_unsure(contest) for contest in rivalries):
        return ["There are too few repeats to tell any two strategies apart: it takes 4.", *stakes(rivalries)]
    most = max((contest.group["connections"] for contest in contests), default=0)
    at_most = [contest for contest in rivalries if contest.group["connections"] == most]
    found = one_for_all(rivalries, "One for everything measured here")
    if most >= MANY and len(at_most) < len(rivalries):
        found += one_for_all(at_most, f"For many connections ({most:,}, the most here)")
    return [*found, *tally(rivalries), *stakes(rivalries)]


def _no_rivals(contests: Sequence[Contest]) -> list[str]:
    names = sorted({it.strategy for contest in contests for it in contest.ranking})
    if len(names) > 1:
        return ["No two strategies were measured under the same load: there is nothing to choose by."]
    return [f"Only {quoted(name)} was measured: there is nothing to choose from." for name in names]


def tally(contests: Sequence[Contest]) -> list[str]:
    """Count the comparisons with a winner, the ties, and those that name none, with the reason."""
    if len(contests) < 2:
        return []
    reasons = [no_winner(it) or ("there are too few repeats to tell" if _unsure(it) else "") for it in contests]
    ties = sum(bool(it.level) and not why for it, why in zip(contests, reasons, strict=True))
    none = Counter(why.removeprefix("no winner, ") for why in reasons if why)
    won = len(contests) - ties - none.total()
    parts = [f"{won} {'has' if won == 1 else 'have'} a winner"] if won else []
    parts += [f"{ties} {'is a tie' if ties == 1 else 'are ties'}"] if ties else []
    parts += [f"{count} {'names' if count == 1 else 'name'} none, since {why}" for why, count in none.items()]
    return [f"Of {len(contests)} comparisons {joined(parts)}."]


def one_for_all(contests: Sequence[Contest], what_for: str) -> list[str]:
    """Name the strategy whose worst place is the best (minimax): how often it is first, and how far behind at worst.

    Only those that were measured in every decided case are looked at. Nothing where there are not two, or one case.
    """
    decided = [contest for contest in contests if not no_winner(contest) and not _unsure(contest)]
    entered = [{it.strategy for it in contest.ranking} for contest in decided]
    everywhere = sorted(set.intersection(*entered)) if entered else []
    if len(decided) < 2 or len(everywhere) < 2:
        return []
    name = min(everywhere, key=lambda name: max(_behind(contest, name) for contest in decided))
    worst = max(decided, key=lambda contest: _behind(contest, name))
    factor = _behind(worst, name)
    first = sum(name in (contest.ranking[0].strategy, *contest.level) for contest in decided)
    what = "comparisons" if len(decided) == len(contests) else "decided comparisons"
    text = f"{what_for}: {quoted(name)}, first or level with the first in {_often(first, len(decided))} {what}"
    if factor >= NOTED:
        place = f"{worst.metric.title}, {where(worst, contests)}"
        noise = ", which is within the noise" if first == len(decided) else ""
        text += f"; at worst a factor of {digits(factor)} behind the best ({place}){noise}"
    return [f"{text}."]


def _often(times: int, of: int) -> str:
    if times == of:
        return "both" if of == 2 else f"all {of}"
    return f"{times or 'none'} of {of}"


def _unsure(contest: Contest) -> bool:
    return bool(contest.level) and too_few(contest)


def _behind(contest: Contest, name: str) -> float:
    """By what factor the best value is better than this strategy's."""
    own = next(it.value for it in contest.ranking if it.strategy == name)
    return _factor(contest, contest.ranking[0].value, own)


def stakes(contests: Sequence[Contest]) -> list[str]:
    """Say how much the choice matters: the case in which first and last by throughput are furthest apart."""
    rates = [contest for contest in contests if contest.metric is RATE and len(contest.ranking) > 1]
    if not rates:
        return []
    widest = max(rates, key=lambda contest: contest.ranking[0].value / contest.ranking[-1].value)
    first, last = widest.ranking[0], widest.ranking[-1]
    factor = first.value / last.value
    bound = "at least " if first.client_bound else ""
    if factor < HARDLY and not bound:
        apart = _share(RATE, factor)
        return [f"For throughput the choice hardly matters: first and last are nowhere more than {apart} apart."]
    return [
        f"How much the choice matters: with {where(widest, contests)}, throughput goes from "
        f"{value_text(RATE, last.value)} ({quoted(last.strategy)}) to {bound}{value_text(RATE, first.value)} "
        f"({quoted(first.strategy)}), a factor of {digits(factor)}{' or more' if bound else ''}."
    ]
