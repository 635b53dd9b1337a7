"""The percentile curve of the latency, a panel a number of connections, on an axis that opens up the tail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import (
    QUIET,
    Look,
    columns_for,
    duration_axis,
    explain,
    legend,
    legend_height_in,
    mark,
    name_panel,
    panels,
    scatter,
)
from bench.metrics import GROUP
from bench.rows import dicts
from bench.words import counted, split, title

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = ((2, "50"), (10, "90"), (100, "99"), (1_000, "99.9"), (10_000, "99.99"), (100_000, "99.999"))
SERVICE_DASHES = (0, (1, 1.6))


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick the table of curves without the steps of searches, with `doubts` (of the whole curve) in a column.

    Unfinished messages are none of these: they make the far end of a curve a lower bound.
    """
    curves = analysis.curves[analysis.curves["slo"] == ""]
    flags = cases.doubts_by_ids(analysis)
    return curves.assign(doubts=cases.without(curves["ids"].map(flags), "censored"))


def draw(curves: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw the merged histogram of each case; where sends were planned, beside it the service time.

    Takes what `rows` picks.
    """
    found = split(curves, GROUP)
    names = sorted(curves["strategy"].unique())
    height_in = min(5.0, max(3.5, 0.12 * len(names)))
    columns = columns_for(curves["connections"].nunique())
    figure, axes = panels(len(found), columns, height_in, legend_height_in(names))
    for panel, (group, rows) in zip(axes, found, strict=True):
        where = title(group, [other for other, _ in found], otherwise=("connections",))
        _curves(panel, rows, looks, where)
        name_panel(panel, where)
    axes[0].set_ylabel("latency")
    unfinished = "censored" if curves["lower_bound"].astype(bool).any() else ""
    dotted = {"dotted: from the actual send": _service_handle()} if (curves["of"] == "service").any() else {}
    explain(figure, {*cases.reasons(curves), unfinished}, drawn=dotted)
    legend(figure, names, looks)
    return figure


def _service_handle() -> Artist:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    return Line2D([], [], color=QUIET, ls=SERVICE_DASHES, lw=1)


def _curves(axes: Axes, rows: pd.DataFrame, looks: Mapping[str, Look], where: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415

    for name, curve in rows[rows["of"] == "service"].groupby("strategy"):
        x = 1 / (1 - curve["p"])
        (line,) = axes.plot(x, curve["value_us"], color=looks[str(name)].color, ls=SERVICE_DASHES, lw=1)
        mark(line, str(name))
    for name, curve in rows[rows["of"] == "latency"].groupby("strategy"):
        look = looks[str(name)]
        x = 1 / (1 - curve["p"])
        hollow = (curve["doubts"] != "") | curve["lower_bound"].astype(bool)
        (line,) = axes.plot(x, curve["value_us"], color=look.color, ls=look.dashes, lw=1.5)
        mark(line, str(name))
        marked = x.round(3).isin([place for place, _ in TICKS])
        says = [_says(point, where) for point in dicts(curve[marked])]
        at = (x[marked], curve["value_us"][marked])
        scatter(axes, str(name), look, at, hollow=hollow[marked], says=says, mew=1.2, ms=5)
    axes.set_xscale("log")
    duration_axis(axes, rows["value_us"])
    furthest = float((1 / (1 - rows["p"])).max())
    shown = [(place, text) for place, text in TICKS if place <= furthest * 1.1]
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: dict(shown).get(round(value), ""))
    axes.set_xlabel("percentile")


def _says(point: Mapping[Any, Any], where: str) -> str:
    client = f"the client was the limit in {counted(point['client_bound'], 'trial')}" if point["client_bound"] else ""
    return points.lines(
        points.place(point["strategy"], where),
        points.latency(point["p"], point),
        client,
        points.doubts({"doubts": point["doubts"], "reason": ""}, but="client_bound"),
        points.trials(point["ids"]),
    )
