"""What differs between runs that were put together: ratios of each case that they share, and what they don't share.

Everything is derived from the tables of the merged run and its manifest. Only cases of one definition are compared; the
first run is what the others are compared with. Plain text, with names between backticks; nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from bench.analyse import Analysis
from bench.compare_runs import unlabelled
from bench.comparisons import WITHIN
from bench.history.store import LIKE
from bench.metrics import CASE, CONTESTED, GROUP, RATE, Metric
from bench.record import Compared
from bench.rows import dicts
from bench.stats import Interval, blocked_p, blocked_ratio, holm
from bench.tables import Cell
from bench.words import counted, digits, exact_percent, joined, quoted, title, value_text

BETTER, WORSE, EQUAL, UNDECIDED = "better", "worse", f"equal within {exact_percent(WITHIN)}", "not decided"
SIGNIFICANT = 0.05
VOLATILE = ("load_average", "memory_available_bytes")  # facts that differ at any two moments
MOST_ALONE = 12  # cases named one by one; more are counted
NOT_PAIRED = (
    "These runs were not measured side by side: what the machine did differently in between looks like a difference of "
    "the servers. `iobench gate` measures two versions in pairs."
)


@dataclass(frozen=True)
class Effect:
    """One case and metric in two runs. `ratio` is that of the other run by the first one; None where there is none.

    Its limits are 0 or infinite where there is none, or a bound leaves it open. `p` is Welch's on the logarithms,
    adjusted (Holm) for all comparisons by this metric. `bound` says why one of the values is a bound; "" where none is.
    """

    case: dict[str, Any]  # the definition; its strategy without a label
    metric: Metric
    other: str  # label
    before: float
    after: float
    ratio: Interval | None
    p: float
    bound: str = ""

    @property
    def verdict(self) -> str:
        """What became of it, seen from the first run: equal where the interval lies within WITHIN either way."""
        if self.ratio is None:
            return UNDECIDED
        if self.ratio.low >= 1 / (1 + WITHIN) and self.ratio.high <= 1 + WITHIN:
            return EQUAL
        if self.ratio.contains(1.0) or self.p > SIGNIFICANT:
            return UNDECIDED
        return BETTER if (self.ratio.low > 1) == self.metric.higher_is_better else WORSE

    @property
    def why_undecided(self) -> str:
        """Why it is not decided where more trials of this kind would not help, or there are too few; else ""."""
        if self.verdict != UNDECIDED:
            return ""
        few = self.ratio is None or (self.ratio.low == 0 and math.isinf(self.ratio.high))
        return self.bound or ("too few repeats" if few else "")


Key = tuple[Any, ...]


class Cases(NamedTuple):
    """By definition of a case: the labels of the runs that recorded it, and of those where a trial of it succeeded."""

    recorded: dict[Key, list[str]]
    measured: dict[Key, list[str]]


def labels_of(analysis: Analysis) -> list[str]:
    """The labels of the runs, the first one first."""
    return [one.label for one in analysis.run.manifest.compared]


def _key(row: Mapping[Any, Any], labels: Sequence[str]) -> tuple[Key, str]:
    strategy, label = unlabelled(row["strategy"], labels)
    return tuple(strategy if name == "strategy" else row[name] for name in CASE), label


def cases(analysis: Analysis) -> Cases:
    """Give which case is in which runs; steps of searches, which are others in every run, are left out."""
    labels = labels_of(analysis)
    found = Cases({}, {})
    for row in dicts(analysis.cases[analysis.cases["slo"] == ""]):
        key, label = _key(row, labels)
        found.recorded.setdefault(key, []).append(label)
        if row["ok"]:
            found.measured.setdefault(key, []).append(label)
    return found


def effects(analysis: Analysis) -> list[Effect]:
    """Compare every case that the first run shares with another, by each of CONTESTED; in order of the cases."""
    labels = labels_of(analysis)
    values = _values(analysis, labels)
    told: dict[tuple[Key, str, str], dict[Any, Any]] = {}
    # At a fraction of what each can do, the rates differ, and so what is measured does.
    wanted = analysis.estimates[(analysis.estimates["slo"] == "") & (analysis.estimates["load_fraction"] == 0)]
    for row in dicts(wanted):
        key, label = _key(row, labels)
        told[key, label, row["metric"]] = row
    keys = dict.fromkeys(key for key, _, _ in told)
    found: list[Effect] = []
    for metric in CONTESTED:
        pairs = [
            (key, label, told[key, labels[0], metric.name], told[key, label, metric.name])
            for key in keys
            for label in labels[1:]
            if (key, labels[0], metric.name) in told and (key, label, metric.name) in told
        ]
        # What was planned is what was asked for, and no merit.
        pairs = [pair for pair in pairs if not (metric is RATE and pair[2]["planned"])]
        samples = [
            _blocks(values.get((key, label, metric.name), {}), values.get((key, labels[0], metric.name), {}))
            for key, label, _, _ in pairs
        ]
        adjusted = holm([blocked_p(blocks) if blocks else 1.0 for blocks in samples])
        for (key, label, before, after), blocks, p in zip(pairs, samples, adjusted, strict=True):
            ratio = _opened(blocked_ratio(blocks), before, after) if blocks else None
            case = dict(zip(CASE, key, strict=True))
            bound = _bound(metric, before, after)
            found.append(Effect(case, metric, label, before["value"], after["value"], ratio, p, bound))
    place = {key: index for index, key in enumerate(keys)}
    return sorted(found, key=lambda it: (labels.index(it.other), place[tuple(it.case.values())]))


def _blocks(own: Mapping[str, list[float]], base: Mapping[str, list[float]]) -> list[tuple[list[float], list[float]]]:
    """Compare within each machine that both runs have; where they have none in common, all with all."""
    shared = sorted(own.keys() & base.keys())
    if shared or not own or not base:
        return [(own[host], base[host]) for host in shared]
    return [([it for values in own.values() for it in values], [it for values in base.values() for it in values])]


def _values(analysis: Analysis, labels: Sequence[str]) -> dict[tuple[Key, str, str], dict[str, list[float]]]:
    """What each trial measured, above 0, by case, run and metric, and by the machine of the server."""
    found: dict[tuple[Key, str, str], dict[str, list[float]]] = {}
    for row in dicts(analysis.trials[analysis.trials["status"] == "ok"]):
        key, label = _key(row, labels)
        for metric in CONTESTED:
            if row[metric.name] > 0:
                own = found.setdefault((key, label, metric.name), {})
                own.setdefault(row["host"], []).append(row[metric.name])
    return found


def _opened(ratio: Interval, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Interval:
    """Leave a limit open where a value is only known to be no less: a throughput by the client, a time unfinished."""
    low = 0.0 if before["lower_bound"] else ratio.low
    return ratio._replace(low=low, high=math.inf if after["lower_bound"] else ratio.high)


def _bound(metric: Metric, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> str:
    if not (before["lower_bound"] or after["lower_bound"]):
        return ""
    return "the client was the limit" if metric is RATE else "messages were unfinished"


# --- in words


def headline(analysis: Analysis) -> str:
    """Say what is compared with what."""
    labels = labels_of(analysis)
    return f"{joined([quoted(label) for label in labels[1:]])} compared with {quoted(labels[0])}"


def summaries(found: Sequence[Effect]) -> list[str]:
    """Say for each run and metric in how many cases it is better or worse, and by how much."""
    sentences = []
    for (label, name), same in groupby(
        sorted(found, key=lambda it: (it.other, [metric.name for metric in CONTESTED].index(it.metric.name))),
        key=lambda it: (it.other, it.metric.title),
    ):
        of_one = list(same)
        parts = []
        for outcome in (BETTER, WORSE):
            ratios = sorted(it.ratio.estimate for it in of_one if it.verdict == outcome and it.ratio)
            if ratios:
                parts.append(f"{outcome} in {len(ratios)} ({_by(ratios)})")
        for outcome in (EQUAL, UNDECIDED):
            if same_outcome := [it for it in of_one if it.verdict == outcome]:
                parts.append(f"{outcome} in {len(same_outcome)}{_why(same_outcome)}")
        sentences.append(f"{quoted(label)}, {name}: of {counted(len(of_one), 'case')}, {joined(parts)}.")
    return sentences


def _why(undecided: Sequence[Effect]) -> str:
    """Say why some are not decided, where that is known."""
    reasons = dict.fromkeys(why for it in undecided if (why := it.why_undecided))
    return f" ({', '.join(reasons)})" if reasons else ""


def _by(ratios: Sequence[float]) -> str:
    ends = [change(ratios[0]), change(ratios[-1])]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def change(ratio: float) -> str:
    """Write a ratio as what it changes: +4.2 %, −12 %; from twice on as a factor."""
    if ratio >= 2:
        return f"× {digits(ratio)}"
    share = 100 * abs(ratio - 1)
    return f"{'+' if ratio >= 1 else '−'}{f'{share:.1f}' if share < 9.95 else f'{share:.0f}'} %"


def interval(effect: Effect) -> str:
    """Write the interval of the ratio, one limit where the other is open; "–" where there are too few repeats."""
    ratio = effect.ratio
    if ratio is None or (ratio.low == 0 and math.isinf(ratio.high)):
        return "–"
    if math.isinf(ratio.high):
        return f"≥ {digits(ratio.low)}"
    return f"{digits(ratio.low)}–{digits(ratio.high)}" if ratio.low > 0 else f"≤ {digits(ratio.high)}"


def case_titles(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name cases by strategy and what differs among them."""
    groups = [{name: case[name] for name in GROUP} for case in found]
    return [
        f"{quoted(case['strategy'])}, {title(group, groups, otherwise=('connections',))}"
        for case, group in zip(found, groups, strict=True)
    ]


COLUMNS = ("case", "metric", "first", "other", "ratio", "95 % interval", "verdict")


def rows(found: Sequence[Effect], analysis: Analysis) -> list[list[Cell]]:
    """Give a row of cells for each effect, as COLUMNS; where there are several others, the case says which."""
    several = len(labels_of(analysis)) > 2
    titles = case_titles([effect.case for effect in found])
    table = []
    for name, effect in zip(titles, found, strict=True):
        case, ratio = f"{name} ({effect.other})" if several else name, effect.ratio
        table.append(
            [
                Cell(case, case.replace("`", "")),
                Cell(effect.metric.title, f"{effect.metric.title} ({effect.metric.unit})"),
                *(Cell(value_text(effect.metric, value), value) for value in (effect.before, effect.after)),
                Cell(digits(ratio.estimate), ratio.estimate) if ratio else Cell("–"),
                Cell(interval(effect), ratio.low if ratio and interval(effect) != "–" else ""),
                Cell(": ".join(filter(None, (effect.verdict, effect.why_undecided))), effect.verdict),
            ]
        )
    return table


def alone(analysis: Analysis) -> list[str]:
    """Say which cases some runs have and others don't, and in which runs no trial of a shared one succeeded."""
    labels, found = labels_of(analysis), cases(analysis)
    names = dict(
        zip(found.recorded, case_titles([dict(zip(CASE, key, strict=True)) for key in found.recorded]), strict=True)
    )
    sentences = []
    by_runs: dict[tuple[str, ...], list[str]] = {}
    unmeasured: dict[tuple[str, ...], list[str]] = {}
    for key, having in found.recorded.items():
        if len(having) < len(labels):
            by_runs.setdefault(tuple(label for label in labels if label in having), []).append(names[key])
        lost = tuple(label for label in labels if label in having and label not in found.measured.get(key, []))
        if lost and len(having) > 1:
            unmeasured.setdefault(lost, []).append(names[key])
    for having_it, titles in by_runs.items():
        has = "has" if len(having_it) == 1 else "have"
        sentences.append(f"Only {joined([quoted(label) for label in having_it])} {has} {_listed(titles)}.")
    for losing, titles in unmeasured.items():
        sentences.append(f"No trial succeeded in {joined([quoted(label) for label in losing])} of {_listed(titles)}.")
    fractions = int((analysis.cases["load_fraction"] > 0).sum())
    if fractions:
        sentences.append(
            f"{counted(fractions, 'case')} at a fraction of the closed loop's throughput are not compared: the rates "
            "themselves differ."
        )
    return sentences


def _listed(titles: Sequence[str]) -> str:
    more = [f"{counted(len(titles) - MOST_ALONE, 'more case')}"] if len(titles) > MOST_ALONE else []
    return "; ".join([*titles[:MOST_ALONE], *more])


def warnings(compared: Sequence[Compared]) -> list[str]:
    """Say what stands in the way of comparing these runs: unlike machines, unfinished runs, no pairs."""
    unlike = [fact for fact in LIKE if len({str(one.host.get(fact, "unknown")) for one in compared}) > 1]
    found = []
    if unlike:
        told = [
            f"{fact.replace('_', ' ')} ({joined([str(one.host.get(fact, 'unknown')) for one in compared])})"
            for fact in unlike
        ]
        found.append(
            f"The machines differ in {joined(told)}: a ratio compares machines as much as it compares servers."
        )
    found += [
        f"{quoted(one.label)} is unfinished: {one.trials:,} of {counted(one.trials_planned, 'trial')} are recorded."
        for one in compared
        if one.trials < one.trials_planned
    ]
    return [*found, NOT_PAIRED]


def differences(compared: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Give what is not the same of machine, interpreter and versions: a name, and the value of each run."""
    tables = [_facts(one) for one in compared]
    names = dict.fromkeys(name for table in tables for name in table)
    found = [(name, [table.get(name, "–") for table in tables]) for name in names]
    return [(name, values) for name, values in found if len(set(values)) > 1]


def _facts(one: Compared) -> dict[str, str]:
    host = {name: value for name, value in one.host.items() if name not in VOLATILE}
    found = {"interpreter of the servers": ", ".join(one.interpreters) or "–", "python": one.python or "–"}
    found |= _flat(host) | {f"version of {name}": version for name, version in one.versions.items()}
    return found | {"sweep": one.sweep, "made": one.created}


def shown(analysis: Analysis, most: int) -> dict[str, Any]:
    """What a report shows of a comparison, with so many rows at most; nothing where the run is none."""
    compared = analysis.run.manifest.compared
    if not compared:
        return {}
    every = effects(analysis)
    found = every
    if len(every) > most:  # those that say most
        told = sorted((it for it in every if it.verdict in (BETTER, WORSE)), key=_size, reverse=True)[:most]
        chosen = {id(it) for it in told}
        found = [it for it in every if id(it) in chosen]
    return {
        "headline": headline(analysis),
        "labels": [one.label for one in compared],
        "runs": [(one.label, one.run) for one in compared],
        "warnings": warnings(compared),
        "summaries": summaries(every),
        "columns": COLUMNS,
        "within": exact_percent(WITHIN),
        "rows": rows(found, analysis),
        "all_rows": len(every),
        "alone": alone(analysis),
        "differences": differences(compared),
    }


def _size(effect: Effect) -> float:
    return abs(math.log(effect.ratio.estimate)) if effect.ratio else 0.0


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found
