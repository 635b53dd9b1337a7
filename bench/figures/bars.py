"""What a message costs, as stacked bars: a panel a place, a row a strategy, a colour a part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import cases, points
from bench.figures.style import (
    PAPER,
    QUIET,
    columns_for,
    explain,
    mark,
    name_panel,
    name_rows,
    panels,
)
from bench.metrics import GROUP, Metric
from bench.rows import dicts
from bench.words import digits, joined, split, title, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Part:
    """A column of the table, and how it is drawn."""

    column: str
    label: str  # "user: the interpreter"
    color: str


@dataclass(frozen=True)
class Kind:
    """What the bars show: the metric that is their sum, its parts, and what is along x."""

    metric: Metric
    parts: tuple[Part, ...]
    unit: str


def draw(totals: pd.DataFrame, kind: Kind) -> Figure:
    """Draw the cheapest at the most connections on top.

    Takes cases as cases.measured gives them, with a column for each part (NaN where the total could not be split).
    """
    from matplotlib.patches import Patch  # noqa: PLC0415

    known = totals[totals["value"].notna()]
    found = [(group, rows) for group, rows in split(totals, GROUP) if rows["value"].notna().any()]
    names = _ranked(known) + sorted(set(totals["strategy"]) - set(known["strategy"]))
    columns = columns_for(known["connections"].nunique())
    figure, axes = panels(len(found), columns, 0.26 * len(names) + 0.75, below_in=0.3, one_scale=False)
    for panel, (group, rows) in zip(axes, found, strict=True):
        where = title(group, [other for other, _ in found], otherwise=("connections",))
        _bars(panel, rows.assign(where=where), names, kind)
        name_panel(panel, where)
    explain(figure, cases.reasons(known), shape="s")
    handles = [Patch(fc=part.color, lw=0, label=part.label) for part in kind.parts]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _ranked(known: pd.DataFrame) -> list[str]:
    at_most = known.sort_values(["connections", "value"]).drop_duplicates("strategy", keep="last")
    return list(at_most.sort_values(["connections", "value"], ascending=[False, True])["strategy"])


def _bars(axes: Axes, totals: pd.DataFrame, names: Sequence[str], kind: Kind) -> None:
    row = {name: place for place, name in enumerate(names)}
    absent, totals = totals[totals["value"].isna()], totals[totals["value"].notna()]
    widest = max(float(totals["value"].max()), 1e-9)
    rows, left = totals["strategy"].map(row), totals["value"] * 0
    for part in kind.parts:
        width = totals[part.column].fillna(0)
        _mark_all(axes.barh(rows, width, 0.68, left=left, color=part.color), totals, kind)
        left += width
    unsplit = totals[kind.parts[0].column].isna()
    _mark_all(axes.barh(rows[unsplit], totals["value"][unsplit], 0.68, color=QUIET), totals[unsplit], kind)
    for total, y, length in zip(dicts(totals), rows, left, strict=True):
        end = max(length, total["value"])
        mark(axes.text(end + widest * 0.025, y, digits(total["value"]), va="center", fontsize=8.5), total["strategy"])
    said = dict(zip(absent["strategy"], absent["doubts"], strict=True))
    there = set(totals["strategy"])
    for name in (name for name in names if name not in there):
        words = said.get(name, "not run")
        mark(axes.text(widest * 0.015, row[name], words, va="center", fontsize=8.5, color=QUIET), name)
    name_rows(axes, names)
    axes.set_xlim(0, widest * 1.16)
    axes.set_xlabel(kind.unit)


def _mark_all(bars: BarContainer, totals: pd.DataFrame, kind: Kind) -> None:
    """Say whose each bar is, and draw it hollow where its case has a doubt."""
    for bar, total in zip(bars, dicts(totals), strict=True):
        if total["doubts"]:
            bar.set(edgecolor=bar.get_facecolor(), linewidth=1.4)
            bar.set_facecolor(PAPER)
        mark(bar, total["strategy"], [_says(total, kind)])


def _says(total: Mapping[Any, Any], kind: Kind) -> str:
    parts = [
        f"{part.label.partition(':')[0]} {value_text(kind.metric, total[part.column])}"
        for part in kind.parts
        if not math.isnan(total[part.column])
    ]
    return points.lines(
        points.place(total["strategy"], total["where"]),
        points.estimated(kind.metric, total),
        joined(parts),
        points.doubts(total),
        points.trials(total["ids"]),
    )
