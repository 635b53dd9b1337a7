"""Messages per second over connections, a line a strategy, with the spread over repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import points
from bench.figures.style import (
    PAPER,
    Look,
    count_axis,
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
from bench.words import counted, split, title

# Points of one number of connections stand side by side, so that no bar hides another: this many octaves in all.
ASIDE = 0.25

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(estimates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a panel for each setting (transport, message size, ...). Takes the table of estimates.

    Over a single number of connections there is no line to draw: then each strategy gets a row.
    """
    rates = estimates[estimates["metric"] == "rate_hz"]
    if rates["connections"].nunique() == 1:
        return _draw_rows(rates, looks)
    return _draw_lines(rates, looks)


def _draw_lines(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    found = split(rates, SETTING)
    names = sorted(rates["strategy"].unique())
    if len(found) == 1:
        figure, axes = panels(1, 1, max(4.3, 0.21 * len(names) + 1))
    else:
        figure, axes = panels(len(found), 2 if len(found) == 4 else 3, 3.0, legend_height_in(names))
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found])
        _lines(panel, rows, looks, where)
        name_panel(panel, where)
    axes[0].set_ylim(0, float(rates["max"].max()) * 1.06)
    axes[0].set_ylabel("messages/s")
    if len(found) == 1:
        last = rates.sort_values("connections").drop_duplicates("strategy", keep="last")
        label_ends(axes[0], {row["strategy"]: (row["connections"], row["value"]) for row in _dicts(last)}, looks)
    else:
        legend(figure, names, looks)
    return figure


def _lines(axes: Axes, rates: pd.DataFrame, looks: Mapping[str, Look], where: str) -> None:
    names = sorted(rates["strategy"].unique())
    for name, line in rates.sort_values("connections").groupby("strategy"):
        look = looks[str(name)]
        aside = 2 ** (ASIDE * (names.index(name) - (len(names) - 1) / 2) / len(names))
        (drawn,) = axes.plot(line["connections"] * aside, line["value"], color=look.color, ls=look.dashes, lw=1.7)
        mark(drawn, str(name))
        for point in _dicts(line.assign(where=where)):
            _point(axes, look, point, (point["connections"] * aside, point["value"]), "y")
    plain_numbers(axes, "y")
    count_axis(axes, sorted(rates["connections"].unique()), "connections")


def _draw_rows(rates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    found = split(rates, SETTING)
    order = rates.groupby("strategy")["value"].max().sort_values(ascending=False)
    row = {str(name): place for place, name in enumerate(order.index)}
    figure, axes = panels(len(found), 3, 0.26 * len(row) + 0.9)
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found])
        for point in _dicts(rows.assign(where=where)):
            _point(panel, looks[point["strategy"]], point, (point["value"], row[point["strategy"]]), "x")
        name_rows(panel, list(row))
        panel.set_xlim(0, float(rates["max"].max()) * 1.06)
        panel.set_xlabel(f"messages/s over {counted(rates['connections'].iloc[0], 'connection')}")
        name_panel(panel, where)
        plain_numbers(panel, "x")
    axes[0].set_ylim(len(row) - 0.4, -0.6)
    return figure


def _point(axes: Axes, look: Look, point: Mapping[Any, Any], at: tuple[float, float], along: str) -> None:
    """Draw one case: its marker, hollow where the client was the limit, and the range of its repeats."""
    spread = [[point["value"] - point["min"]], [point["max"] - point["value"]]] if point["n"] > 1 else None
    drawn = axes.errorbar(
        *at,
        xerr=spread if along == "x" else None,
        yerr=spread if along == "y" else None,
        marker=look.marker,
        ms=6,
        color=look.color,
        mfc=PAPER if point["client_bound"] else look.color,
        mew=1.4,
        elinewidth=1,
        capsize=3,
    )
    marker, caps, bars = drawn.lines
    for part in (*caps, *bars):
        mark(part, point["strategy"])
    mark(marker, point["strategy"], [_says(point)])


def _says(point: Mapping[Any, Any]) -> str:
    return points.lines(
        points.place(point["strategy"], counted(point["connections"], "connection"), point["where"]),
        points.estimated(RATE, point),
        points.limit(point["client_bound"], point["trials"]),
        points.trials(point["ids"]),
    )


def _dicts(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")
