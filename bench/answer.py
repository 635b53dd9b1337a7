"""The answer, for terminal, page and Markdown: what to use for what, by how much, what is equal, what isn't decided.

Every function takes comparisons and returns plain text, with names between backticks. Nothing that is equal or not
decided is called the winner. Nothing is measured, drawn or marked up.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from bench.comparisons import Comparison, Pair, Standing
from bench.metrics import CPU, P99, RATE, Metric
from bench.say import NO_BREAK, WIDTH, plain
from bench.stats import Interval
from bench.words import counted, digits, exact_percent, joined, named, quoted, title, value_text

MOST_SPELLED = 8  # settings of a metric that are told one by one; of more it is counted who is ahead in how many
MOST_SETTINGS = 4  # that the opening tells apart
ASKED = {RATE.name: "For throughput", CPU.name: "For little server CPU", P99.name: "For a low p99 latency"}
HEADLINES = {
    RATE.name: "Most messages per second",
    CPU.name: "Least server CPU per message",
    P99.name: "Lowest p99 latency",
}


# --- pairs, in words


def seen_from(pair: Pair, name: str) -> tuple[Interval, str]:
    """Give by what factor `name` is better than the other of a pair, and its outcome: "worse" where the other is."""
    if pair.ahead == name:
        return pair.ratio, pair.outcome
    estimate, low, high, level = pair.ratio
    turned = Interval(_inverse(estimate), _inverse(high), _inverse(low), level)
    return turned, "worse" if pair.outcome == "better" else pair.outcome


def _inverse(factor: float) -> float:
    return math.inf if factor == 0 else 1 / factor


def times(ratio: Interval) -> str:
    """Write by what factor one is better, with its limits; only a bound where one limit is not known."""
    if math.isinf(ratio.high):
        return f"at least {digits(ratio.low)} times" if ratio.low > 0 else f"{digits(ratio.estimate)} times"
    if ratio.low == 0:
        return f"at most {digits(ratio.high)} times"
    return f"{digits(ratio.estimate)} times ({digits(ratio.low)} to {digits(ratio.high)})"


def within_text(comparisons: Iterable[Comparison]) -> str:
    """Write what counts as equal: "equal within 5 %"."""
    return f"equal within {exact_percent(max((it.within for it in comparisons), default=0.0))}"


def value_of(metric: Metric, standing: Standing) -> str:
    """Write a value with its unit, as a bound where it is one.

    Where the client was the limit the true throughput is no less, and the true latency no more; where messages were
    unfinished the true latency is no less.
    """
    text = value_text(metric, standing.value)
    at_least = standing.lower_bound or (metric.name == RATE.name and standing.client_bound > 0)
    at_most = metric.quantile is not None and standing.client_bound > 0
    return text if at_least == at_most else f"at least {text}" if at_least else f"at most {text}"


def _apart(pairs: Sequence[Pair]) -> str:
    """Say how large the difference of pairs that aren't decided could still be, and how many rounds it would take."""
    furthest = max(max(pair.ratio.high, _inverse(pair.ratio.low)) for pair in pairs)
    if math.isinf(furthest):
        apart = "how far apart they are is not known"
    elif furthest < 2:
        apart = f"at most {_percents(furthest)} apart"
    else:
        apart = f"at most {digits(furthest)} times apart"
    rounds = [pair.more_rounds for pair in pairs if pair.more_rounds is not None]
    if len(rounds) == len(pairs):
        return f"{apart}, and about {_rounds(max(rounds))} would tell"
    return apart


def _rounds(number: int) -> str:
    """Write a number of rounds that is a guess: to two digits."""
    return counted(float(f"{number:.1e}"), "more round")


def _percents(factor: float) -> str:
    share = 100 * (factor - 1)
    return f"{share:.0f} %" if share >= 9.95 else f"{share:.1f} %"


def _where(comparison: Comparison, among: Sequence[Comparison]) -> str:
    """Say which setting of the run it is."""
    return title(comparison.group, [other.group for other in among], otherwise=("connections",))


def _by_metric(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    names = dict.fromkeys(it.metric.name for it in comparisons)
    return [[it for it in comparisons if it.metric.name == name] for name in names]


def _by_setting(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    def key(comparison: Comparison) -> tuple[Any, ...]:
        return tuple(comparison.group.values())

    return [list(same) for _, same in groupby(sorted(comparisons, key=key), key=key)]  # the metrics keep their order


# --- what to use in one setting


def leaders(comparison: Comparison) -> str:
    """Say who was shown better than all others, or who are equal, or between whom it is not decided."""
    if len(comparison.ranking) == 1:
        return f"{quoted(comparison.best.name)}, the only one"
    if comparison.winner:
        return quoted(comparison.winner)
    names = [it.name for it in comparison.tiers[0]]
    outcome = within_text([comparison]) if _all_equal(comparison, names) else "not decided"
    return f"{named(names, 'or')}, {outcome}"


def _all_equal(comparison: Comparison, names: Sequence[str]) -> bool:
    """Whether these are several, and each two of them were shown to be equal."""
    return len(names) > 1 and all(pair.outcome == "equal" for pair in _among(comparison, names))


def _among(comparison: Comparison, names: Iterable[str]) -> list[Pair]:
    these = set(names)
    return [pair for pair in comparison.pairs if {pair.ahead, pair.behind} <= these]


def clause(comparison: Comparison) -> str:
    """Say what to use in one setting: the values of the first tier, and by how much it is ahead of the next one."""
    first = comparison.tiers[0]
    parts = [f"{leaders(comparison)} ({_values(comparison.metric, first)})"]
    open_pairs = [pair for pair in _among(comparison, (it.name for it in first)) if pair.outcome == "undecided"]
    if open_pairs:
        parts.append(_apart(open_pairs))
    if len(comparison.tiers) > 1:
        parts += _lead(comparison, comparison.tiers[1][0])
    return "; ".join(parts)


def _values(metric: Metric, standings: Sequence[Standing]) -> str:
    """Write the values, the first and the last of more than two, and why they are bounds where one is."""
    told = [value_of(metric, it) for it in standings]
    ends = told if len(told) < 3 else [told[0], told[-1]]
    if all(text.startswith(digits(it.value)) for text, it in zip(told, standings, strict=True)):
        ends = [text.removesuffix(f" {metric.unit}") for text in ends[:-1]] + ends[-1:]
    text = joined(list(dict.fromkeys(ends)), "and" if len(told) < 3 else "to")
    return f"{text}: {why}" if (why := why_bound(metric, standings)) else text


def why_bound(metric: Metric, standings: Sequence[Standing]) -> str:
    """Say why some of these values are bounds; nothing where none is."""
    client = metric.name != CPU.name and any(it.client_bound for it in standings)
    reasons = ["the client was the limit"] if client else []
    reasons += ["messages were unfinished"] if any(it.lower_bound for it in standings) else []
    return joined(reasons)


def _lead(comparison: Comparison, other: Standing) -> list[str]:
    ratio, outcome = seen_from(comparison.pair(comparison.best.name, other.name), comparison.best.name)
    whose = f"{quoted(comparison.best.name)} is " if len(comparison.tiers[0]) > 1 else ""
    return [f"{whose}{times(ratio)} as good as {quoted(other.name)}, the next"] if outcome == "better" else []


def advice(comparisons: Sequence[Comparison]) -> list[tuple[str, list[str]]]:
    """Answer for each metric: what it is for, and for each setting what to use and by how much it is ahead."""
    return [(ASKED[same[0].metric.name], _clauses(same, comparisons)) for same in _by_metric(comparisons)]


def _clauses(same: Sequence[Comparison], among: Sequence[Comparison]) -> list[str]:
    if len(same) > MOST_SPELLED:
        return _counted_up(same)
    return [f"{_where(comparison, among)}: {clause(comparison)}" for comparison in same]


def _counted_up(comparisons: Sequence[Comparison]) -> list[str]:
    """Say of many settings who was shown better than all others in how many, and in how many nobody was."""
    contested = [it for it in comparisons if len(it.ranking) > 1]
    best = Counter(name for it in contested for name in shown_best([it]))
    of = f"of {counted(len(comparisons), 'setting')}"
    clauses = [f"{quoted(name)} in {count:,} {of}" for name, count in _most(best)]
    if len(best) > len(clauses):
        clauses.append(f"{len(best) - len(clauses)} more are best or equal to the best somewhere")
    nobody = sum(not shown_best([it]) for it in contested)
    clauses += [f"not decided in {nobody:,} {of}"] if nobody else []
    alone = len(comparisons) - len(contested)
    return clauses + ([f"only one strategy was measured in {alone:,} {of}"] if alone else [])


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda it: (-it[1], it[0]))[:MOST_SETTINGS]


def headlines(comparisons: Sequence[Comparison]) -> list[tuple[str, list[str]]]:
    """Answer in a few words for each metric: what was asked, and who leads in which settings."""
    return [(HEADLINES[same[0].metric.name], _leaders_by_place(same)) for same in _by_metric(comparisons)]


def _leaders_by_place(comparisons: Sequence[Comparison]) -> list[str]:
    if len(comparisons) > MOST_SPELLED:
        return _counted_up(comparisons)
    places: dict[str, list[str]] = {}
    for comparison in comparisons:
        places.setdefault(leaders(comparison), []).append(_where(comparison, comparisons))
    return [f"{_places(wheres)}: {who}" for who, wheres in places.items()]


def _places(places: Sequence[str]) -> str:
    """Say "1 and 16 connections", not "1 connection and 16 connections"."""
    parts = [place.partition(" ") for place in places]
    what = {rest.removesuffix("s") for _, _, rest in parts}
    if len(places) > 1 and len(what) == 1 and all(first[0].isdigit() for first, _, _ in parts):
        return f"{joined([first for first, _, _ in parts])} {parts[-1][2]}"
    return "; ".join(places) if any("," in place for place in places) else joined(places)


# --- what the report opens with


def opening(comparisons: Sequence[Comparison]) -> list[str]:
    """Say in one short paragraph what to take for everything, or for what, how it came out, and how much it matters.

    Nothing where nothing was measured that strategies can be compared by.
    """
    contested = [it for it in comparisons if len(it.ranking) > 1]
    if not contested:
        return _no_rivals(comparisons)
    if all(pair.ratio.low == 0 and math.isinf(pair.ratio.high) for it in contested for pair in it.pairs):
        rounds = counted(max(it.rounds for it in contested), "round")
        return [f"No two strategies can be told apart yet: {rounds} give{'s' * (rounds == '1 round')} no interval."]
    return [*_for_everything(contested), *never_worse(contested), *stakes(contested), tally(contested)]


def _no_rivals(comparisons: Sequence[Comparison]) -> list[str]:
    names = sorted({it.name for comparison in comparisons for it in comparison.ranking})
    if len(names) > 1:
        return ["No two strategies were measured under the same load: there is nothing to choose by."]
    return [f"Only {quoted(name)} was measured: there is nothing to choose from." for name in names]


def shown_best(comparisons: Sequence[Comparison]) -> list[str]:
    """Name those that in each of these comparisons were shown better than, or equal to, every other one; by name."""
    there = (_best_in(comparison) for comparison in comparisons)
    return sorted(set.intersection(*there)) if comparisons else []


def _best_in(comparison: Comparison) -> set[str]:
    found = {it.name for it in comparison.ranking}
    for pair in comparison.pairs:
        if pair.outcome != "equal":
            found.discard(pair.behind)
        if pair.outcome == "undecided":
            found.discard(pair.ahead)
    return found


def _for_everything(contested: Sequence[Comparison]) -> list[str]:
    """Name what is for everything, or say that nothing is and what is for what.

    A point is a setting and a metric: a comparison.
    """
    equal, points = within_text(contested), _at_points(len(contested))
    if names := shown_best(contested):
        return [
            f"For everything measured here: {named(names, 'or')}, shown better than all others or {equal} {points}."
        ]
    return [f"No strategy is shown better than all others or {equal} {points}.", *_by_places(contested)]


def _at_points(number: int) -> str:
    return "at the one point measured" if number == 1 else f"at all {number:,} points (setting by metric)"


def _by_places(contested: Sequence[Comparison]) -> list[str]:
    """Say what is for which setting by all its metrics; else what is for the most connections, by each of them.

    Of many settings, at how many points who was shown best.
    """
    settings = _by_setting(contested)
    best = [shown_best(same) for same in settings]
    if 1 < len(settings) <= MOST_SETTINGS and any(best):
        told = [
            f"{_where(same[0], contested)}: {named(names, 'or') if names else 'none'}"
            for same, names in zip(settings, best, strict=True)
        ]
        return [f"By every metric, {'; '.join(told)}."]
    most = max(same[0].group["connections"] for same in settings)
    crowded = [same for same in settings if same[0].group["connections"] == most]
    if len(crowded) == 1:
        return [f"With {_where(crowded[0][0], contested)}, {_by_leaders(crowded[0])}."]
    points = Counter(name for comparison in contested for name in shown_best([comparison]))
    told = [f"{quoted(name)} at {count:,}" for name, count in _most(points)]
    return [f"Shown best or equal to the best at the most points: {joined(told)}."] if told else []


def _by_leaders(same: Sequence[Comparison]) -> str:
    """Say who leads by which metrics of one setting."""
    metrics: dict[str, list[str]] = {}
    for comparison in same:
        metrics.setdefault(leaders(comparison), []).append(comparison.metric.title)
    return "; ".join(f"{joined(titles)}: {who}" for who, titles in metrics.items())


def never_worse(contested: Sequence[Comparison]) -> list[str]:
    """Name those that were measured at every point and shown worse than another at none; nothing where that is all.

    Of them a difference may not be decided: it is less than to be for everything, and is said where nothing is that.
    """
    if shown_best(contested):
        return []
    everywhere = set.intersection(*({it.name for it in comparison.ranking} for comparison in contested))
    worse = {pair.behind for comparison in contested for pair in comparison.pairs if pair.outcome == "better"}
    names = sorted(everywhere - worse)
    if not worse:
        return ["No strategy was shown better than another."]
    return [f"Never shown worse than another: {named(names)}."] if names else []


def tally(contested: Sequence[Comparison]) -> str:
    """Count how the comparisons with the best came out."""
    outcomes = Counter[str](pair.outcome for comparison in contested for pair in comparison.with_best)
    told = {
        "better": ("shows a difference", "show a difference"),
        "equal": (f"is {within_text(contested)}", f"are {within_text(contested)}"),
        "undecided": ("is not decided", "are not decided"),
    }
    parts = [counted(outcomes[outcome], *text) for outcome, text in told.items() if outcomes[outcome]]
    return f"Of {counted(outcomes.total(), 'comparison')} with the best {joined(parts)}."


def stakes(contested: Sequence[Comparison]) -> list[str]:
    """Say how much the choice matters: the widest difference in throughput that was shown, by its lower limit.

    Nothing where none was shown; where all are equal, that.
    """
    rates = [it for it in contested if it.metric.name == RATE.name]
    shown = [(it, pair) for it in rates for pair in it.pairs if pair.outcome == "better"]
    if shown:
        widest, pair = max(shown, key=lambda it: it[1].ratio.low)
        return [
            f"How much the choice matters: with {_where(widest, contested)}, {quoted(pair.ahead)} serves "
            f"{times(pair.ratio)} as many messages/s as {quoted(pair.behind)}."
        ]
    if rates and all(pair.outcome == "equal" for it in rates for pair in it.pairs):
        return [f"For throughput the choice hardly matters: all strategies are {within_text(rates)}."]
    return []


# --- one strategy


def outcome(comparison: Comparison, name: str) -> str:
    """Say how one came out against the best: "best" (shown so), "equal", "behind", "undecided", or "alone"."""
    if len(comparison.ranking) == 1:
        return "alone"
    best = comparison.best.name
    if name != best:
        found = comparison.pair(best, name).outcome
        return "behind" if found == "better" else found
    outcomes = {pair.outcome for pair in comparison.with_best}
    return "undecided" if "undecided" in outcomes else "equal" if "equal" in outcomes else "best"


def standing(comparison: Comparison, name: str) -> str:
    """Say in words how one came out against the best, or the best against those that it is not shown better than."""
    best = comparison.best.name
    found = outcome(comparison, name)
    if found == "alone":
        return "the only one measured"
    if found == "best":
        return f"shown better than {'the other' if len(comparison.ranking) == 2 else 'all others'}"
    if found == "behind":
        ratio, _ = seen_from(comparison.pair(best, name), best)
        return f"{quoted(best)} is {times(ratio)} as good"
    against = comparison.with_best if name == best else (comparison.pair(best, name),)
    parts = []
    for how, words in (("equal", f"{within_text([comparison])} with"), ("undecided", "not decided against")):
        if those := [pair for pair in against if pair.outcome == how]:
            others = named([pair.behind if pair.ahead == name else pair.ahead for pair in those])
            parts.append(f"{words} {others}{f': {_apart(those)}' if how == 'undecided' else ''}")
    return "; ".join(parts)


# --- the whole ranking


def rankings(comparisons: Sequence[Comparison]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Give for each setting, in order, what it is called, and for each metric its tiers, a text each.

    Comparisons of a single strategy are left out.
    """
    return [
        (_where(same[0], comparisons), [(it.metric.title, _tiers(it)) for it in same])
        for same in _by_setting([it for it in comparisons if len(it.ranking) > 1])
    ]


def _tiers(comparison: Comparison) -> list[str]:
    def told(one: Standing) -> str:
        text, best = f"{quoted(one.name)} {value_of(comparison.metric, one)}", comparison.best.name
        return text if one.name == best else f"{text}: {in_words(comparison, comparison.pair(best, one.name), best)}"

    return ["; ".join(map(told, tier)) for tier in comparison.tiers]


def in_words(comparison: Comparison, pair: Pair, name: str) -> str:
    """Say how a pair came out, and by how many times `name`, one of the two, is better."""
    ratio, found = seen_from(pair, name)
    if found == "undecided":
        return f"not decided, {_apart([pair])}"
    return f"{within_text([comparison])}, {times(ratio)}" if found == "equal" else times(ratio)


class Cell(NamedTuple):
    """A cell of a table: what was shown, and below or beside it the limits."""

    text: str
    limits: str = ""


class Table(NamedTuple):
    """The strategies side by side: a column for each comparison, a row for each strategy, its name in front.

    A cell says how many times the best one of its column is better ("1.72×", with the limits), "=" where the two are
    equal, "?" where that isn't decided, and the value of the best one itself. "–" where it was not measured. `metrics`
    are the headings above the columns, each with how many of them it is of.
    """

    metrics: list[tuple[str, int]]
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def table(comparisons: Sequence[Comparison]) -> Table:
    """Give the table of these comparisons, metric by metric; on top is who is nearest to the best on the whole.

    Comparisons of a single strategy have no column.
    """
    contested = [it for it in comparisons if len(it.ranking) > 1]
    by_metric = _by_metric(contested)
    ordered = [it for same in by_metric for it in same]
    cells = [{it.name: _cell(comparison, it) for it in comparison.ranking} for comparison in ordered]
    return Table(
        [(_heading(same[0].metric), len(same)) for same in by_metric],
        [_where(comparison, contested) for comparison in ordered],
        [(name, [of_column.get(name, Cell("–")) for of_column in cells]) for name in _ranked(ordered)],
    )


def _heading(metric: Metric) -> str:
    return metric.title if metric.unit == "us" else f"{metric.title}, {metric.unit}"  # a time has its unit with it


def _ranked(comparisons: Sequence[Comparison]) -> list[str]:
    """By the mean logarithm of how many times the best is better, over the comparisons that each is in."""
    behind: dict[str, list[float]] = {}
    for comparison in comparisons:
        for it in comparison.ranking:
            behind.setdefault(it.name, []).append(abs(math.log(comparison.best.value / it.value)))
    return sorted(behind, key=lambda name: (sum(behind[name]) / len(behind[name]), name))


def _cell(comparison: Comparison, standing: Standing) -> Cell:
    best = comparison.best.name
    if standing.name == best:
        value = value_of(comparison.metric, standing).removesuffix(f" {comparison.metric.unit}")
        return Cell(value.replace("at least", "≥").replace("at most", "≤"))
    ratio, outcome = seen_from(comparison.pair(best, standing.name), best)
    low, high = digits(ratio.low), digits(ratio.high)
    limits = "" if ratio.low == 0 or math.isinf(ratio.high) else f"{low}–{high}"
    if outcome == "equal":
        return Cell("=", limits)
    if outcome == "undecided":
        return Cell("?", limits)
    return Cell(f"{digits(ratio.estimate)}×", limits) if limits else Cell(f"> {low}×")


# --- the terminal

MOST_COLUMNS = 3  # of a table in 80 columns
MOST_ROWS = 12
COLUMN = 17  # characters: "1.72x (1.61-1.84)"
NAME = WIDTH - MOST_COLUMNS * (COLUMN + 2)
ASCII = str.maketrans({"×": "x", "–": "-", "≥": ">", "≤": "<", "µ": "u"})


def terminal(comparisons: Sequence[Comparison]) -> list[str]:
    """Write the answer for a terminal, in lines of at most 80 columns without markup: the opening, then the ranking."""
    said = plain(" ".join(opening(comparisons)).replace("`", "").replace(" %", f"{NO_BREAK}%"))
    lines = [line.replace(NO_BREAK, " ") for line in textwrap.wrap(said, WIDTH, break_on_hyphens=False)]
    ranked = ranking(comparisons)
    return [*lines, "", *ranked] if ranked else lines


def ranking(comparisons: Sequence[Comparison]) -> list[str]:
    """Write the ranking in lines of at most 80 columns: the first metric as a table, each setting of the others in one.

    Where there are more settings than a table has room for, all metrics are in lines. Nothing without two strategies.
    """
    contested = [it for it in comparisons if len(it.ranking) > 1]
    if not contested:
        return []
    first, *others = _by_metric(contested)
    lines = _as_table(table(first)) or [_heading(first[0].metric), *_as_lines(first, contested)]
    for same in others:
        lines += [_heading(same[0].metric), *_as_lines(same, contested)]
    lines.append(f"1.72x (limits): so much better is the best; = {within_text(contested)}; ? not decided")
    return [_cut(plain(line).translate(ASCII).rstrip(), WIDTH) for line in lines]


def _as_table(shown: Table) -> list[str]:
    """Write a table; nothing where it does not fit."""
    if len(shown.columns) > MOST_COLUMNS or any(len(text) > COLUMN for text in shown.columns):
        return []
    rows = [
        (name, [f"{it.text} ({it.limits})" if it.limits else it.text for it in cells]) for name, cells in shown.rows
    ]
    told = [(shown.metrics[0][0], shown.columns), *rows[:MOST_ROWS]]
    lines = [_cut(name, NAME).ljust(NAME) + "".join(f" {cell:<{COLUMN + 1}}" for cell in cells) for name, cells in told]
    return lines + ([f"{len(rows) - MOST_ROWS:,} more are in the report."] if len(rows) > MOST_ROWS else [])


def _as_lines(same: Sequence[Comparison], among: Sequence[Comparison]) -> list[str]:
    if len(same) > MOST_SPELLED:
        return [f"  {clause.replace('`', '')}" for clause in _counted_up(same)]
    found = [(f"  {_where(comparison, among)}: ", comparison) for comparison in same]
    return [where + _in_short(comparison, WIDTH - len(where)) for where, comparison in found]


def _in_short(comparison: Comparison, room: int) -> str:
    """Write the first tier, and the first of the second one: "a 7.90 us = b ? c; next d 1.16x (1.14-1.18)".

    Where there is no room for all of that: without limits, then without the next, then with fewer names.
    """
    best, *others = comparison.tiers[0]
    first = f"{best.name} {value_of(comparison.metric, best)}"
    names = [f" {_cell(comparison, it).text} {it.name}" for it in others]
    texts = [f"{first}{''.join(names)}{after}" for after in _after(comparison)]
    texts += [f"{first}{''.join(names[:at])} and {len(names) - at} more" for at in reversed(range(len(names)))]
    return next((text for text in texts if len(text) <= room), texts[-1])


def _after(comparison: Comparison) -> list[str]:
    """Write the first of the second tier with limits, without them, and not at all."""
    if len(comparison.tiers) == 1:
        return [""]
    after = comparison.tiers[1][0]
    cell = _cell(comparison, after)
    text = f"; next {after.name} {cell.text}"
    return [*([f"{text} ({cell.limits})"] if cell.limits else []), text, ""]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
