"""Comparisons: the strategies of each setting by each metric, within rounds, with one of three outcomes for each pair.

Better, equal within so many percent, or not decided: never a winner by noise. The statistics are in within_rounds.py,
the sentences in report text; nothing is measured here. Pure functions of the tables and the records of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import within_rounds
from bench.compare_runs import unlabelled
from bench.metrics import CASE, COMPARED, CONTESTED, RATE, Metric
from bench.quantile_resampling import SEED, Resampled, resampled
from bench.record import Record, Run
from bench.rows import dicts
from bench.stats import Interval
from bench.within_rounds import Bools, Fit, Floats

if TYPE_CHECKING:
    import pandas as pd

Outcome = Literal["better", "equal", "undecided"]


LEVEL = 0.95  # with which the intervals of one comparison hold together
FALSE_CLAIMS = 0.05  # chance of any "better" in a run of equals
LEAST_CHANCE = 1e-9  # that is told from none
WITHIN = 0.05  # what counts as equal, where a sweep doesn't say
MOST_LOOKS = 1_000_000
MOST_EXPONENT = 700.0  # whose power of e a float holds
GUESSED_ROUNDS = 3  # in which most is decided, where nothing is known of the noise


class Standing(NamedTuple):
    """One strategy's place in a comparison.

    `name` is how it is told from the others: the strategy, and the interpreter behind it ("epoll_lt on python3.13")
    where the setting has several. `value` is in the metric's unit: the geometric mean over the rounds, or the
    percentile of the merged histogram. `rounds` have a good value. `client_bound` counts those in which the client was
    the limit: what was measured is then no better than the truth. `lower_bound`: messages were unfinished, so that the
    percentile is only known to be no less. `tier`: 1 where nobody was shown to be better; else one more than the
    largest tier among those that were shown to be better.
    """

    name: str
    strategy: str
    python: str
    value: float
    rounds: int
    client_bound: int = 0
    lower_bound: bool = False
    tier: int = 1


class Pair(NamedTuple):
    """Two of a comparison; `ahead` has the better value of the two, `behind` the other.

    `ratio` is by what factor `ahead` is better (1 or more as an estimate), with limits that hold for all pairs of the
    comparison together; 0 and infinity where there is none. `outcome` is "better" (ahead is, shown at a level that
    holds for the whole run), "equal" (the limits lie within 1/(1+within) and 1+within) or "undecided". `more_rounds`:
    about how many more it would take to decide it, None where it is decided, or no number of rounds would (a bound).
    """

    ahead: str
    behind: str
    ratio: Interval
    outcome: Outcome
    more_rounds: int | None = None


@dataclass(frozen=True)
class Comparison:
    """The strategies of one setting by one metric, best value first, and all pairs of them, in order of the ranking.

    `group` is the setting (bench.metrics.GROUP without the interpreter), `spread` the standard deviation of one round's
    logarithm within rounds (NaN where it isn't known), `pooled` whether it is one for all. `level` is the confidence
    with which all intervals of the comparison hold together, `within` what counts as equal (0.05 is 5 %).
    """

    metric: Metric
    group: dict[str, Any]
    ranking: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    rounds: int
    within: float
    level: float
    spread: float
    pooled: bool

    def pair(self, one: str, other: str) -> Pair:
        """The pair of two names, whoever is ahead. Raises KeyError where there is none."""
        for pair in self.pairs:
            if {pair.ahead, pair.behind} == {one, other}:
                return pair
        raise KeyError((one, other))

    @property
    def best(self) -> Standing:
        """Who has the best value; whether that was shown is another matter."""
        return self.ranking[0]

    @property
    def with_best(self) -> tuple[Pair, ...]:
        """The comparisons of all others with the one that has the best value, in order of the ranking."""
        return tuple(pair for pair in self.pairs if self.best.name in (pair.ahead, pair.behind))

    @property
    def decided(self) -> bool:
        """Whether each comparison with the best is decided: it was shown better, or equal."""
        return all(pair.outcome != "undecided" for pair in self.with_best)

    @property
    def winner(self) -> str:
        """Who was shown to be better than each of the others; "" where nobody was, or there are no others."""
        pairs = self.with_best
        return self.best.name if pairs and all(pair.outcome == "better" for pair in pairs) else ""

    @property
    def tiers(self) -> tuple[tuple[Standing, ...], ...]:
        """The ranking in tiers by what was shown, the first one first; within each by value."""
        last = max((standing.tier for standing in self.ranking), default=0)
        return tuple(
            tuple(standing for standing in self.ranking if standing.tier == tier) for tier in range(1, last + 1)
        )


# --- one comparison, from the values of its rounds


class Contender(NamedTuple):
    """A row of a comparison's values: a strategy, and the interpreter behind it as the sweep names it."""

    strategy: str
    python: str = ""


@dataclass(frozen=True)
class Rules:
    """What a comparison's outcomes are held to.

    `families` is the number of comparisons in the run that have two strategies or more, `looks` how often the data
    are looked at: the chance of a false "better" is shared out to them (Bonferroni), and in each to all pairs (Tukey).
    `within` is how far from 1 a ratio may lie to count as equal, above 0 and below 1. Raises ValueError where one of
    them is not such a number.
    """

    families: int = 1
    looks: int = 1
    within: float = WITHIN

    def __post_init__(self) -> None:
        if self.families < 1 or self.looks < 1 or not 0 < self.within < 1:
            raise ValueError("families and looks are at least 1, and within lies between 0 and 1")

    @property
    def claim_level(self) -> float:
        """The confidence with which a comparison's intervals must hold together for a "better", short of certainty."""
        return 1 - max(LEAST_CHANCE, FALSE_CLAIMS / (self.families * self.looks))


USUAL = Rules()


def names_of(contenders: Sequence[Contender]) -> list[str]:
    """Name each by its strategy and, where they have more than one interpreter, that."""
    several = len({one.python for one in contenders}) > 1
    return [f"{one.strategy} on {one.python}" if several and one.python else one.strategy for one in contenders]


def from_values(
    metric: Metric,
    group: Mapping[str, Any],
    contenders: Sequence[Contender],
    values: Floats,
    *,
    rules: Rules = USUAL,
    client_bound: Bools | None = None,
) -> Comparison:
    """Compare by what each round gave, in the metric's unit: a row a contender, a column a round.

    A cell that is NaN, infinite or not above 0 is missing. `client_bound` says of each cell whether the client was the
    limit. The method is that of within_rounds.fit. Raises ValueError where the shapes don't match, or a contender has
    no value.
    """
    there = np.isfinite(values) & (values > 0)
    logs = np.log(np.where(there, values, 1.0))
    fit = within_rounds.fit(np.where(there, logs if metric.higher_is_better else -logs, math.nan))
    field = _field(
        metric, contenders, fit, there=there, client_bound=client_bound, unfinished=[False] * len(contenders)
    )
    return _judged(metric, group, field, rules)


def from_histograms(
    metric: Metric,
    group: Mapping[str, Any],
    contenders: Sequence[Contender],
    histograms: Sequence[Sequence[str]],
    *,
    rules: Rules = USUAL,
    client_bound: Bools | None = None,
    unfinished: Sequence[bool] = (),
    parts: Sequence[int] = (),
) -> Comparison:
    """Compare by a percentile of merged histograms (of ns; the metric is in us): a row a contender, a column a round.

    A cell that is "", or no histogram, is missing. `unfinished` says of each contender whether its percentile is only
    known to be no less. `parts` says of each round which part of the setting it is of, where that was too large to be
    up as a whole: histograms are merged within a part. The method is that of within_rounds.resampled. Raises ValueError
    as from_values does, and where the metric is no percentile.
    """
    if metric.quantile is None:
        raise ValueError(f"{metric.name} is no percentile")
    logs, present, worth = _merged(histograms, metric.quantile, parts or [0] * len(histograms[0]))
    fit = within_rounds.resampled(math.log(1e3) - logs[0], -logs[1:], present, worth)
    bounds = unfinished or [False] * len(contenders)
    field = _field(metric, contenders, fit, there=present, client_bound=client_bound, unfinished=bounds)
    return _judged(metric, group, field, rules)


def _merged(histograms: Sequence[Sequence[str]], quantile: float, parts: Sequence[int]) -> Resampled:
    """Merge within each part, and put the parts together by way of the rows that several of them have in common."""
    present = np.zeros((len(histograms), len(parts)), dtype=np.bool_)
    of_parts: list[Resampled] = []
    for part in sorted(set(parts)):
        columns = [at for at, other in enumerate(parts) if other == part]
        of_parts.append(resampled([[row[at] for at in columns] for row in histograms], quantile, SEED + len(of_parts)))
        present[:, columns] = of_parts[-1].present
    if len(of_parts) == 1:
        return of_parts[0]
    logs = within_rounds.joined(np.stack([part.logs for part in of_parts], axis=2))
    return Resampled(logs, present, np.sum([part.worth for part in of_parts], axis=0))


class _Field(NamedTuple):
    """All of a comparison, row by row. Locations are logarithms of what is better the larger it is.

    `client` counts the rounds that the client limited; `better` and `worse` are by how much the truth can be on either
    side of what was measured, because that is a bound.
    """

    contenders: Sequence[Contender]
    names: Sequence[str]
    fit: Fit
    rounds: NDArray[np.int64]
    client: NDArray[np.int64]
    unfinished: Sequence[bool]
    better: Floats
    worse: Floats
    all_rounds: int


def _field(
    metric: Metric,
    contenders: Sequence[Contender],
    fit: Fit,
    *,
    there: Bools,
    client_bound: Bools | None,
    unfinished: Sequence[bool],
) -> _Field:
    rounds = there.sum(axis=1)
    if not len(contenders) == len(there) == len(unfinished) or not rounds.all():
        raise ValueError("each contender has a row, and each row a value")
    client = np.zeros_like(rounds) if client_bound is None else (there & client_bound).sum(axis=1)
    # A saturated client keeps throughput down, and its delay is part of the times; CPU is measured all the same.
    bounds = client if metric is RATE or metric.quantile is not None else np.zeros_like(client)
    better, worse = within_rounds.room(fit, bounds, rounds), np.where(unfinished, math.inf, 0.0)
    all_rounds = int(there.any(axis=0).sum())
    return _Field(contenders, names_of(contenders), fit, rounds, client, unfinished, better, worse, all_rounds)


def _judged(metric: Metric, group: Mapping[str, Any], field: _Field, rules: Rules) -> Comparison:
    rows = sorted(range(len(field.names)), key=lambda row: (-field.fit.location[row], field.names[row]))
    pairs = tuple(_pair(field, ahead, behind, rules) for ahead, behind in combinations(rows, 2))
    tiers = _tiers([field.names[row] for row in rows], pairs)
    return Comparison(
        metric=metric,
        group=dict(group),
        ranking=tuple(_standing(metric, field, row, tiers[field.names[row]]) for row in rows),
        pairs=pairs,
        rounds=field.all_rounds,
        within=rules.within,
        level=LEVEL,
        spread=field.fit.spread,
        pooled=field.fit.pooled,
    )


def _standing(metric: Metric, field: _Field, row: int, tier: int) -> Standing:
    sign = 1 if metric.higher_is_better else -1
    return Standing(
        name=field.names[row],
        strategy=field.contenders[row].strategy,
        python=field.contenders[row].python,
        value=_exp(sign * float(field.fit.location[row])),
        rounds=int(field.rounds[row]),
        client_bound=int(field.client[row]),
        lower_bound=bool(field.unfinished[row]),
        tier=tier,
    )


def _tiers(ranking: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Give each name its tier: 1, or one more than the largest among those that were shown to be better."""
    better: dict[str, list[str]] = {name: [] for name in ranking}
    for pair in pairs:
        if pair.outcome == "better":
            better[pair.behind].append(pair.ahead)
    tiers: dict[str, int] = {}
    for name in ranking:  # whoever was shown to be better comes before
        tiers[name] = 1 + max((tiers[other] for other in better[name]), default=0)
    return tiers


def _pair(field: _Field, ahead: int, behind: int, rules: Rules) -> Pair:
    """Judge a pair of rows. The ratio is larger where one ahead is better than measured, or one behind worse."""
    names = field.names[ahead], field.names[behind]
    found = within_rounds.Difference(
        estimate=float(field.fit.location[ahead] - field.fit.location[behind]),
        error=float(field.fit.error[ahead, behind]),
        freedom=int(field.fit.freedom[ahead, behind]),
        rounds=int(field.fit.shared[ahead, behind]),
        rows=len(field.names),
        above=float(field.better[ahead] + field.worse[behind]),
        below=float(field.worse[ahead] + field.better[behind]),
    )
    low, high = within_rounds.limits(found, LEVEL)
    ratio = Interval(_exp(found.estimate), _exp(low), _exp(high), LEVEL)
    margin = math.log1p(rules.within)
    if -margin <= low and high <= margin:
        return Pair(*names, ratio, "equal")
    if within_rounds.limits(found, rules.claim_level)[0] > 0:
        return Pair(*names, ratio, "better")
    return Pair(*names, ratio, "undecided", _more_rounds(found, min(field.rounds[ahead], field.rounds[behind]), rules))


def _more_rounds(found: within_rounds.Difference, measured: int, rules: Rules) -> int | None:
    """Give about how many more rounds would decide a pair that was measured in so many."""
    if not found.rounds:
        return max(1, GUESSED_ROUNDS - measured)
    needed = within_rounds.rounds_needed(found, rules.claim_level, LEVEL, math.log1p(rules.within))
    # Of two that are told by way of others, it takes more rounds than those in common that would do as well.
    return None if needed is None else max(1, math.ceil((needed / found.rounds - 1) * measured))


def _exp(value: float) -> float:
    return math.exp(value) if value < MOST_EXPONENT else math.inf


# --- all comparisons of a run


def comparisons(
    run: Run, trials: pd.DataFrame, estimates: pd.DataFrame, *, within: float | None = None, looks: int | None = None
) -> list[Comparison]:
    """Compare the strategies of each setting by each of CONTESTED, in the order of the metrics, then of the settings.

    Takes the tables of bench.analyse. A round is what was measured on one host in one repeat, or in one block of that.
    Of several runs put together each is compared by itself: their rounds have nothing in common. `within` and `looks`
    are the sweep's own where they aren't given.
    """
    records = {record.id: record for record in run.records}
    cells = _cells(trials, records)
    groups = [(metric, *group) for metric in CONTESTED for group in _groups(run, estimates, metric, cells)]
    rules = Rules(
        families=max(1, sum(len(rows) > 1 for _, _, rows in groups)),
        looks=looks_of(run.manifest.sweep) if looks is None else looks,
        within=within_of(run.manifest.sweep) if within is None else within,
    )
    return [_of_rows(metric, group, rows, cells, rules) for metric, group, rows in groups]


def within_of(sweep: Mapping[str, Any]) -> float:
    """What counts as equal, by a manifest's sweep: WITHIN where that has no number between 0 and 1."""
    value = sweep.get("within")
    return value if isinstance(value, float) and 0 < value < 1 else WITHIN


def looks_of(sweep: Mapping[str, Any]) -> int:
    """How often the data were looked at, by a manifest's sweep: 1 where that has no such number."""
    value = sweep.get("looks")
    return value if isinstance(value, int) and 1 <= value <= MOST_LOOKS else 1


Row = Mapping[Any, Any]


class _Cell(NamedTuple):
    """A good trial: what the table of trials says of it, and its record."""

    row: Row
    record: Record


Round = tuple[str, int, int]  # host, repeat, block
Cells = Mapping[tuple[Any, ...], Mapping[Round, _Cell]]  # by case (CASE)


def _groups(run: Run, estimates: pd.DataFrame, metric: Metric, cells: Cells) -> list[tuple[dict[str, Any], list[Row]]]:
    """The estimates that are comparable with each other, by setting and, of several runs, by run."""
    wanted = (estimates["metric"] == metric.name) & (estimates["value"] > 0)
    # The steps of a search, and fractions of what each strategy can do, are at rates of their own: nothing to compare.
    wanted &= (estimates["slo"] == "") & (estimates["load_fraction"] == 0)
    if metric is RATE:
        wanted &= ~estimates["planned"].astype(bool)  # what was offered is what was asked for, not what can be served
    labels = [one.label for one in run.manifest.compared]

    def key(row: Row) -> tuple[Any, ...]:
        return (*(row[name] for name in COMPARED), _run_of(row["strategy"], labels))

    rows = sorted((row for row in dicts(estimates[wanted]) if _has_value(row, metric, cells)), key=key)
    return [(dict(zip(COMPARED, found, strict=False)), list(same)) for found, same in groupby(rows, key=key)]


def _run_of(strategy: str, labels: Sequence[str]) -> int:
    """Which of several runs a strategy is of, by its label; those without one are together."""
    try:
        return labels.index(unlabelled(strategy, labels)[1])
    except ValueError:
        return -1


def _cells(trials: pd.DataFrame, records: Mapping[str, Record]) -> Cells:
    names = ("host", "repeat", "id", "client_bound", *(metric.name for metric in CONTESTED))
    cells: dict[tuple[Any, ...], dict[Round, _Cell]] = {}
    for row in dicts(trials.loc[trials["status"] == "ok", [*CASE, *names]]):
        record = records[row["id"]]
        if "throttled" in record.flags:
            continue
        of_case = cells.setdefault(tuple(row[name] for name in CASE), {})
        of_case[row["host"], row["repeat"], record.trial.block] = _Cell(row, record)
    # As with turns: where every one was disturbed, all count.
    clean = {
        key: {at: cell for at, cell in own.items() if "disturbed" not in cell.record.flags}
        for key, own in cells.items()
    }
    return {key: clean[key] or own for key, own in cells.items()}


def _has_value(row: Row, metric: Metric, cells: Cells) -> bool:
    """Whether a case has a value in any of the rounds that count: its estimate may be of others alone."""
    of_case = cells.get(tuple(row[name] for name in CASE), {}).values()
    if metric.quantile is None:
        return any(cell.row[metric.name] > 0 for cell in of_case)
    return any(latency_hdr(cell.record, row["planned"]) for cell in of_case)


def _of_rows(metric: Metric, group: Mapping[str, Any], rows: Sequence[Row], cells: Cells, rules: Rules) -> Comparison:
    """Compare the cases of these estimates."""
    contenders = [Contender(row["strategy"], row["python"]) for row in rows]
    of_cases = [cells[tuple(row[name] for name in CASE)] for row in rows]
    rounds = sorted(set().union(*of_cases))
    table = [[own.get(at) for at in rounds] for own in of_cases]
    bound = np.array([[cell is not None and bool(cell.row["client_bound"]) for cell in row] for row in table])
    if metric.quantile is None:
        values = np.array([[cell.row[metric.name] if cell else math.nan for cell in row] for row in table])
        return from_values(metric, group, contenders, values, rules=rules, client_bound=bound)
    return from_histograms(
        metric,
        group,
        contenders,
        [
            [latency_hdr(cell.record, row["planned"]) if cell else "" for cell in own]
            for row, own in zip(rows, table, strict=True)
        ],
        rules=rules,
        client_bound=bound,
        unfinished=[bool(row["lower_bound"]) for row in rows],
        parts=[block for _, _, block in rounds],
    )


def latency_hdr(record: Record, planned: bool) -> str:
    """What a user waits, as a histogram: response times where sends were planned, else service times; "" for none."""
    load = record.load
    if load is None or record.status != "ok":
        return ""
    return load.response_hdr if planned else load.service_hdr
