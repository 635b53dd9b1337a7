"""Messages per second over connections, a line a strategy, with the interval of the median over the repeats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import (
    PAPER,
    QUIET,
    UNMEASURED,
    Look,
    absent,
    band_handle,
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
)
from bench.metrics import RATE, SETTING
from bench.rows import dicts
from bench.words import counted, split, title

# Points of one number of connections stand side by side, so that no bar hides another: this many octaves in all.
ASIDE = 0.25
MOST_BANDS = 12  # more of them hide each other: then the bars alone show the intervals

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
    axes[0].set_ylim(0, float(known["high"].max()) * 1.06)
    axes[0].set_ylabel("messages/s")
    _explain(figure, rates, with_band=len(names) <= MOST_BANDS)
    if len(found) == 1:
        last = known.sort_values("connections").drop_duplicates("strategy", keep="last")
        label_ends(axes[0], {row["strategy"]: (row["connections"], row["value"]) for row in dicts(last)}, looks)
    else:
        legend(figure, names, looks)
    return figure


def _lines(axes: Axes, rates: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    names = sorted(rates["strategy"].unique())
    without: Counter[int] = Counter()
    for name, own in rates.sort_values("connections").groupby("strategy"):
        look = looks.get(str(name), UNMEASURED)
        aside = 2 ** (ASIDE * (names.index(name) - (len(names) - 1) / 2) / len(names))
        known = own[own["value"].notna()]
        x = own["connections"] * aside
        if len(names) <= MOST_BANDS and len(known) > 1 and (known["n"] > 1).any():
            mark(axes.fill_between(x, own["low"], own["high"], color=look.color, alpha=0.15, lw=0), str(name))
        (drawn,) = axes.plot(x, own["value"], color=look.color, ls=look.dashes, lw=1.7)
        mark(drawn, str(name))
        for point in dicts(own[own["value"].isna()]):
            count = point["connections"]
            says, place = _says(point), without[count]
            absent(axes, count, look, strategy=str(name), why=point["doubts"], says=says, place=place)
            without[count] += 1
        for _, points_of_it in known.groupby(known["doubts"] != ""):
            _points(axes, look, points_of_it, (points_of_it["connections"] * aside, points_of_it["value"]), "y")
    plain_numbers(axes, "y")
    count_axis(axes, sorted(rates["connections"].unique()), "connections")


def _draw_rows(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    found = [(setting, rows) for setting, rows in split(rates, SETTING) if rows["value"].notna().any()]
    order = rates.groupby("strategy")["value"].max().sort_values(ascending=False, na_position="last")
    row = {str(name): place for place, name in enumerate(order.index)}
    figure, axes = panels(len(found), 3, 0.26 * len(row) + 0.9, one_scale=False)
    most = float(rates["high"].max())
    count = rates[rates["value"].notna()]["connections"].iloc[0]
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found])
        for name, own in rows[rows["connections"] == count].assign(where=where).groupby("strategy"):
            known, y = own[own["value"].notna()], row[str(name)]
            if known.empty:
                why = own["doubts"].iloc[0]
                mark(panel.text(most * 0.015, y, why, va="center", fontsize=8.5, color=QUIET), str(name))
            else:
                _points(panel, looks[str(name)], known, (known["value"], pd.Series(y, known.index)), "x")
        name_rows(panel, list(row), lines=True)
        panel.set_xlim(0, most * 1.06)
        panel.set_xlabel(f"messages/s over {counted(count, 'connection')}")
        name_panel(panel, where)
        plain_numbers(panel, "x")
    _explain(figure, rates[rates["value"].notna()], with_band=False)
    return figure


def _explain(figure: Figure, rates: pd.DataFrame, with_band: bool) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    interval = points.repeated(rates["n"], rates["confidence"])
    bar = Line2D([], [], color=QUIET, lw=1, marker="|", ms=7)
    explain(figure, cases.reasons(rates), drawn={interval: band_handle() if with_band else bar} if interval else None)


def _points(
    axes: Axes, look: Look, cases_of_it: pd.DataFrame, at: tuple[pd.Series[float], pd.Series[float]], along: str
) -> None:
    """Draw cases of a strategy: the intervals of their medians and markers, hollow where all have a doubt."""
    repeated = cases_of_it["n"] > 1
    known = cases_of_it[["value", "low", "high"]].where(repeated)  # NaN, which is not drawn, for the others
    spread = [known["value"] - known["low"], known["high"] - known["value"]] if repeated.any() else None
    strategy = str(cases_of_it["strategy"].iloc[0])
    drawn = axes.errorbar(
        *at,
        ls="",
        xerr=spread if along == "x" else None,
        yerr=spread if along == "y" else None,
        marker=look.marker,
        ms=6,
        color=look.color,
        mfc=PAPER if cases_of_it["doubts"].any() else look.color,
        mew=1.4,
        elinewidth=1,
        capsize=3,
    )
    marker, caps, bars = drawn.lines
    for part in (*caps, *bars):
        mark(part, strategy)
    mark(marker, strategy, [_says(case) for case in dicts(cases_of_it)])


def _says(point: Mapping[Any, Any]) -> str:
    known = not math.isnan(point["value"])
    return points.lines(
        points.place(point["strategy"], counted(point["connections"], "connection"), point["where"]),
        points.estimated(RATE, point) if known else "",
        points.interval(RATE, point),
        points.limit(point["client_bound"], point["trials"]),
        points.doubts(point, but="client_bound"),
        points.trials(point["ids"]),
    )
