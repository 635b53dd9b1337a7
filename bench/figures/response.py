"""Response time over connections: the median and p99, a line a strategy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import (
    UNMEASURED,
    Look,
    absent,
    count_axis,
    duration_axis,
    explain,
    legend,
    legend_height_in,
    mark,
    name_panel,
    panels,
    rising,
    scatter,
)
from bench.metrics import LATENCY, SETTING, Metric
from bench.rows import dicts
from bench.words import counted, duration_text, quoted, split, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = tuple(metric for metric in LATENCY if metric.name in ("p50_us", "p99_us"))
CENSORED = "censored"


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick p50 and p99 of each case, of the sum of its trials' histograms.

    Nothing where all was measured at one number of connections. Where rates were offered, the figure of latency over
    load shows them.
    """
    names = [metric.name for metric in SHOWN]
    found = cases.measured(analysis, *names, planned=analysis.load_points.empty)
    known = found[found["value"].notna()]
    if known["connections"].nunique() < 2:
        return found[:0]
    others = cases.without(found["doubts"], CENSORED)  # a percentile below the unfinished messages is as it is
    bounds = [CENSORED if bound else "" for bound in found["lower_bound"]]
    return found.assign(doubts=[", ".join(filter(None, both)) for both in zip(others, bounds, strict=True)])


def draw(found: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw for each setting a panel of the median and one of p99, on one scale. Takes what `rows` picks."""
    settings = [(setting, rows) for setting, rows in split(found, SETTING) if rows["value"].notna().any()]
    known = found[found["value"].notna()]
    names = sorted(known["strategy"].unique())
    figure, axes = panels(2 * len(settings), 2, min(6.0, max(3.4, 0.14 * len(names))), legend_height_in(names))
    for at, (setting, rows) in enumerate(settings):
        where = title(setting, [other for other, _ in settings])
        counts = sorted(rows["connections"].unique())
        gone = rows[rows["value"].isna()]
        for panel, metric in zip(axes[2 * at :], SHOWN, strict=False):
            own = rows[(rows["metric"] == metric.name) | rows["value"].isna()]
            _lines(panel, own.assign(where=where), looks, metric)
            without: Counter[int] = Counter()
            for row in dicts(gone.assign(where=where)):
                name, count = row["strategy"], row["connections"]
                look, says, place = looks.get(name, UNMEASURED), _says(row, metric), without[count]
                absent(panel, count, look, strategy=name, why=row["doubts"], says=says, place=place)
                without[count] += 1
            name_panel(panel, ", ".join(filter(None, (metric.title, where))))
            count_axis(panel, counts, "connections")
    duration_axis(axes[0], known["value"])
    axes[0].set_ylabel("latency")
    explain(figure, cases.reasons(found))
    legend(figure, names, looks)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, looks: Mapping[str, Look], metric: Metric) -> None:
    for name, line in rows.sort_values("connections").groupby("strategy"):
        look = looks.get(str(name), UNMEASURED)
        (drawn,) = axes.plot(line["connections"], line["value"], color=look.color, ls=look.dashes, lw=1.6)
        mark(drawn, str(name))
        known = line[line["value"].notna()]
        says = [_says(point, metric) for point in dicts(known)]
        at = (known["connections"], known["value"])
        scatter(axes, str(name), look, at, hollow=known["doubts"] != "", says=says, ms=5.5, mew=1.3)
        for bound in dicts(known[known["lower_bound"].astype(bool)]):
            rising(axes, (bound["connections"], bound["value"]), look, str(name))


def _says(point: Mapping[Any, Any], metric: Metric) -> str:
    known = not math.isnan(point["value"])
    return points.lines(
        points.place(point["strategy"], counted(point["connections"], "connection"), point["where"]),
        points.estimated(metric, point) if known else "",
        points.doubts(point),
        points.trials(point["ids"]),
    )


def message(found: pd.DataFrame) -> str:
    """Say where p99 lies at the most connections, from which strategy to which. Takes what `rows` picks."""
    found = found[(found["metric"] == "p99_us") & found["value"].notna()]
    if found.empty:
        return "There were too few messages to tell p99."
    most = found["connections"].max()
    ends = found[found["connections"] == most].sort_values(["value", "strategy"])
    low, high = ends.iloc[0], ends.iloc[-1]
    at = f"At {counted(most, 'connection')}"
    if len(ends) == 1:
        return f"{at} the p99 latency of {quoted(low['strategy'])} is {duration_text(low['value'])}."
    return (
        f"{at} p99 latency runs from {duration_text(low['value'])} ({quoted(low['strategy'])}) to "
        f"{duration_text(high['value'])} ({quoted(high['strategy'])})."
    )
