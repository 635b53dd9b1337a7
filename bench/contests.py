"""Contests: the strategies of each setting ranked by a metric, and which of them can't be told from the best.

Pure functions of the tables that analyse.py makes. What is said of a contest is in verdicts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from bench.metrics import CONTESTED, GROUP, RATE, Metric
from bench.rows import dicts
from bench.stats import Interval, blocked_p, blocked_ratio, holm

SIGNIFICANT = 0.05


class Standing(NamedTuple):
    """One strategy's place in a contest. `client_bound` counts its trials in which the client was the limit.

    `lower_bound`: messages were unfinished, so that the percentile is only known to be no less.
    """

    strategy: str
    value: float
    trials: int
    client_bound: int
    lower_bound: bool = False


@dataclass(frozen=True)
class Contest:
    """The strategies of one group, ranked by one metric, the best first.

    `ratio` is by what factor the best is better than the second, None where there is no second or no trial to
    compare. `level` holds those that can't be told apart from the best, in order of rank: the interval of the ratio
    contains 1, or Welch's test on the logarithms, adjusted (Holm) for all comparisons with a best by this metric in
    the run, is not significant. Of a run on several machines, trials are compared with those of the same one only.
    """

    metric: Metric
    group: dict[str, Any]
    ranking: tuple[Standing, ...]
    ratio: Interval | None
    level: tuple[str, ...]


def contests(trials: pd.DataFrame, estimates: pd.DataFrame) -> list[Contest]:
    """Rank the strategies of each group by each of CONTESTED, in the order of the metrics, then of the groups."""
    found: list[Contest] = []
    for metric in CONTESTED:
        values = _values(trials, metric)
        rankings = _rankings(estimates, metric)
        duels = [_duel(metric, values, key, ranking[0], other) for key, ranking in rankings for other in ranking[1:]]
        adjusted = iter(holm([p for _, p in duels]))
        ratios = iter(ratio for ratio, _ in duels)
        for key, ranking in rankings:
            against = [(other.strategy, next(ratios), next(adjusted)) for other in ranking[1:]]
            level = tuple(name for name, ratio, p in against if ratio is None or ratio.contains(1.0) or p > SIGNIFICANT)
            found.append(Contest(metric, key, ranking, against[0][1] if against else None, level))
    return found


def _group(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in GROUP)


def _values(trials: pd.DataFrame, metric: Metric) -> dict[tuple[Any, ...], dict[str, list[float]]]:
    """The values of each group and strategy, by the machine that they are from."""
    values: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in dicts(trials.loc[trials[metric.name] > 0, [*GROUP, "strategy", "host", metric.name]]):
        own = values.setdefault((*_group(row), row["strategy"]), {})
        own.setdefault(row["host"], []).append(row[metric.name])
    return values


def _rankings(estimates: pd.DataFrame, metric: Metric) -> list[tuple[dict[str, Any], tuple[Standing, ...]]]:
    wanted = (estimates["metric"] == metric.name) & (estimates["value"] > 0)
    # The steps of a search, and fractions of what each strategy can do, are at rates of their own: nothing to compare.
    wanted &= (estimates["slo"] == "") & (estimates["load_fraction"] == 0)
    if metric is RATE:
        wanted &= ~estimates["planned"].astype(bool)  # what was offered is what was asked for, not what can be served
    rows = dicts(estimates[wanted])
    rankings = []
    for key, group in groupby(sorted(rows, key=_group), key=_group):
        standings = [
            Standing(row["strategy"], row["value"], row["trials"], row["client_bound"], bool(row["lower_bound"]))
            for row in group
        ]
        standings.sort(key=lambda it: (-it.value if metric.higher_is_better else it.value, it.strategy))
        rankings.append((dict(zip(GROUP, key, strict=True)), tuple(standings)))
    return rankings


def _duel(
    metric: Metric,
    values: dict[tuple[Any, ...], dict[str, list[float]]],
    group: dict[str, Any],
    best: Standing,
    other: Standing,
) -> tuple[Interval | None, float]:
    a, b = (values.get((*group.values(), it.strategy), {}) for it in (best, other))
    blocks = [(a[host], b[host]) for host in sorted(a.keys() & b.keys())]
    if not blocks:
        return None, 1.0
    better = blocks if metric.higher_is_better else [(theirs, own) for own, theirs in blocks]
    return blocked_ratio(better), blocked_p(blocks)
