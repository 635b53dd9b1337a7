"""Throughput against p99 as the offered load rises: the hockey stick, a line a strategy, the Pareto front marked."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import points as says
from bench.figures.style import (
    INK,
    PAPER,
    QUIET,
    Look,
    duration_axis,
    explain,
    legend,
    legend_height_in,
    mark,
    name_panel,
    panels,
    plain_numbers,
    rising,
)
from bench.load_curve import PANEL
from bench.rows import dicts
from bench.words import counted, digits, duration_text, split, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(points: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a panel for each setting. Takes the table of load points."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    found = split(points, PANEL)
    names = sorted(points["strategy"].unique())
    alone = len(found) == 1
    figure, axes = panels(len(found), 1 if alone else 2, 5.0 if alone else 3.9, legend_height_in(names) + 0.1)
    for panel, (setting, rows) in zip(axes, found, strict=True):
        where = title(setting, [other for other, _ in found], otherwise=("connections",))
        _front(panel, rows)
        for name, curve in rows.groupby("strategy"):
            _curve(panel, curve, looks[str(name)], where)
        name_panel(panel, where)
        _scales(panel, rows["p99_us"])
    axes[0].set_ylabel("p99 latency")
    front = Line2D([], [], color=QUIET, lw=0, marker="o", ms=10, mfc="none", mec=INK, mew=0.8)
    doubts = {flag for flags in points["doubts"] for flag in flags.split(", ")}
    explain(figure, doubts, drawn={"the front: nothing serves as much with a lower p99": front})
    legend(figure, names, looks)
    return figure


def _front(axes: Axes, rows: pd.DataFrame) -> None:
    """A wide pale line under the points that no other one beats, and a ring round each."""
    front = rows[rows["front"]].sort_values("achieved_hz")
    axes.plot(front["achieved_hz"], front["p99_us"], color=QUIET, lw=7, alpha=0.18, solid_capstyle="round")
    axes.plot(front["achieved_hz"], front["p99_us"], ls="", marker="o", ms=12, mfc="none", mec=INK, mew=0.8)


def _curve(axes: Axes, curve: pd.DataFrame, look: Look, where: str) -> None:
    """The points in order of the rates offered, so that a line bends back where more load is served less well."""
    (line,) = axes.plot(curve["achieved_hz"], curve["p99_us"], color=look.color, ls=look.dashes, lw=1.5)
    mark(line, str(curve["strategy"].iloc[0]))
    style: dict[str, Any] = {"marker": look.marker, "ms": 6, "color": look.color, "mew": 1.3, "ls": ""}
    for point in dicts(curve):
        at = (point["achieved_hz"], point["p99_us"])
        (marker,) = axes.plot(*at, mfc=PAPER if point["doubts"] else look.color, **style)
        mark(marker, point["strategy"], [_says(point, where)])
        if point["lower_bound"]:
            rising(axes, at, look, point["strategy"])


def _says(point: Mapping[Any, Any], where: str) -> str:
    p99 = f"{'at least ' if point['lower_bound'] else ''}{duration_text(point['p99_us'])}"
    return says.lines(
        says.place(point["strategy"], where),
        f"{digits(point['achieved_hz'])} of {digits(point['offered_hz'])} messages/s served, in "
        f"{counted(point['ok'], 'trial')}",
        f"p99 latency: {p99} (95 % interval from {duration_text(point['p99_low_us'])}"
        + (f" to {duration_text(point['p99_high_us'])})" if isfinite(point["p99_high_us"]) else ")"),
        "on the front" if point["front"] else "",
        says.flagged(point["doubts"]),
        says.trials(point["ids"]),
    )


def _scales(axes: Axes, p99_us: pd.Series[float]) -> None:
    duration_axis(axes, p99_us)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 1.5)  # room for the arrows
    axes.set_xlim(left=0)
    plain_numbers(axes, "x")
    axes.set_xlabel("messages/s served")
