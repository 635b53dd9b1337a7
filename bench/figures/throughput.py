"""Messages per second over connections, a line a strategy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import (
    QUIET,
    UNMEASURED,
    Look,
    absent,
    count_axis,
    explain,
    label_ends,
    legend,
    legend_height_in,
    mark,
    name_panel,
    name_rows,
    panels,
    plain_numbers,
    scatter,
)
from bench.metrics import RATE, SETTING
from bench.rows import dicts
from bench.words import counted, split, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick throughputs that nobody planned, and the cases that have none because they failed."""
    return cases.measured(analysis, RATE.name, planned=False)


def draw(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a panel for each setting (transport, message size, ...). Takes what `rows` picks.

    Over a single number of connections there is no line to draw: then each strategy gets a row.
    """
    if rates[rates["value"].notna()]["connections"].nunique() == 1:
        return _draw_rows(rates, looks)
    return _draw_lines(rates, looks)


def _draw_lines(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    found = [(setting, rows) for setting, rows in split(rates, SETTING) if rows["value"].notna().any()]
    known = rates[rates["value"].notna()]
    names = sorted(known["strategy"].unique())
    if len(found) == 1:
        figure, axes = panels(1, 1, max(4.3, 0.21 * len(names) + 1))
    else:
        figure, axes = panels(len(found), 2 if len(found) == 4 else 3, 3.0, legend_height_in(names))
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found])
        _lines(panel, rows.assign(where=where), looks)
        name_panel(panel, where)
    axes[0].set_ylim(0, float(known["value"].max()) * 1.06)
    axes[0].set_ylabel("messages/s")
    explain(figure, cases.reasons(rates))
    if len(found) == 1:
        last = known.sort_values("connections").drop_duplicates("strategy", keep="last")
        label_ends(axes[0], {row["strategy"]: (row["connections"], row["value"]) for row in dicts(last)}, looks)
    else:
        legend(figure, names, looks)
    return figure


def _lines(axes: Axes, rates: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    without: Counter[int] = Counter()
    for name, own in rates.sort_values("connections").groupby("strategy"):
        look = looks.get(str(name), UNMEASURED)
        known = own[own["value"].notna()]
        (drawn,) = axes.plot(own["connections"], own["value"], color=look.color, ls=look.dashes, lw=1.7)
        mark(drawn, str(name))
        for point in dicts(own[own["value"].isna()]):
            count = point["connections"]
            says, place = _says(point), without[count]
            absent(axes, count, look, strategy=str(name), why=point["doubts"], says=says, place=place)
            without[count] += 1
        _points(axes, look, known, (known["connections"], known["value"]))
    plain_numbers(axes, "y")
    count_axis(axes, sorted(rates["connections"].unique()), "connections")


def _draw_rows(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    found = [(setting, rows) for setting, rows in split(rates, SETTING) if rows["value"].notna().any()]
    order = rates.groupby("strategy")["value"].max().sort_values(ascending=False, na_position="last")
    row = {str(name): place for place, name in enumerate(order.index)}
    figure, axes = panels(len(found), 3, 0.26 * len(row) + 0.9, one_scale=False)
    most = float(rates["value"].max())
    count = rates[rates["value"].notna()]["connections"].iloc[0]
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found])
        for name, own in rows[rows["connections"] == count].assign(where=where).groupby("strategy"):
            known, y = own[own["value"].notna()], row[str(name)]
            if known.empty:
                why = own["doubts"].iloc[0]
                mark(panel.text(most * 0.015, y, why, va="center", fontsize=8.5, color=QUIET), str(name))
            else:
                _points(panel, looks[str(name)], known, (known["value"], pd.Series(y, known.index)))
        name_rows(panel, list(row), lines=True)
        panel.set_xlim(0, most * 1.06)
        panel.set_xlabel(f"messages/s over {counted(count, 'connection')}")
        name_panel(panel, where)
        plain_numbers(panel, "x")
    explain(figure, cases.reasons(rates[rates["value"].notna()]))
    return figure


def _points(axes: Axes, look: Look, known: pd.DataFrame, at: tuple[pd.Series[Any], pd.Series[Any]]) -> None:
    """Draw the points of a strategy, hollow where they have a doubt."""
    if len(known):
        says = [_says(case) for case in dicts(known)]
        scatter(axes, str(known["strategy"].iloc[0]), look, at, hollow=known["doubts"] != "", says=says, ms=6, mew=1.4)


def _says(point: Mapping[Any, Any]) -> str:
    known = not math.isnan(point["value"])
    return points.lines(
        points.place(point["strategy"], counted(point["connections"], "connection"), point["where"]),
        points.estimated(RATE, point) if known else "",
        points.limit(point["client_bound"], point["trials"]),
        points.doubts(point, but="client_bound"),
        points.trials(point["ids"]),
    )
