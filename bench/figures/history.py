"""A metric over the runs of a history: a panel for each case, commits along x, changes marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.figures.style import INK, QUIET, THEME, name_panel, panels, plain_numbers
from bench.history.trend import Trend, commit, is_worse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TICKS = 12


def draw(trends: Sequence[Trend]) -> Figure:
    """Draw trends of one metric, each on a scale of its own.

    The dark line is the median between two changes, the bar the interval of each run.
    """
    figure, all_axes = panels(len(trends), 2, 2.5, one_scale=False)
    for axes, trend in zip(all_axes, trends, strict=True):
        _panel(axes, trend)
    return figure


def _panel(axes: Axes, trend: Trend) -> None:
    from statistics import median  # noqa: PLC0415 - beside its one use

    metric = trend.metric
    scale = 1 / 2**20 if metric.unit == "bytes" else 1.0
    values = [point.estimate.value * scale for point in trend.points]
    places = list(range(len(values)))
    spread = [
        [max(0.0, value - point.estimate.low * scale) for value, point in zip(values, trend.points, strict=True)],
        [
            max(0.0, min(point.estimate.high * scale, 2 * value) - value)
            for value, point in zip(values, trend.points, strict=True)
        ],
    ]
    axes.errorbar(places, values, yerr=spread, fmt="o", ms=4, color=THEME["--user"][0], ecolor=QUIET, elinewidth=0.7)
    bounds = [0, *(change.at for change in trend.changes), len(values)]
    for start, end in pairwise(bounds):
        axes.plot([start - 0.4, end - 0.6], [median(values[start:end])] * 2, color=INK, lw=1.4)
    for change in trend.changes:
        worse = is_worse(trend, change)
        color = THEME["--failed"][0] if worse else INK
        axes.axvline(change.at - 0.5, color=color, lw=1, ls=(0, (3, 2)))
        axes.annotate(
            f"{100 * (change.ratio - 1):+.0f} % {'worse' if worse else 'better'}",
            (change.at - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -9),
            textcoords="offset points",
            color=color,
            fontsize=8,
        )
    step = -(-len(values) // MOST_TICKS)
    axes.set_xticks(
        places[::step], [commit(point.entry)[:7] for point in trend.points[::step]], rotation=60, fontsize=7
    )
    axes.set_ylim(0, max(values) * 1.25)
    unit = "MiB" if metric.unit == "bytes" else {"us": "µs"}.get(metric.unit, metric.unit)
    axes.set_ylabel(unit)
    plain_numbers(axes, "y")
    name_panel(axes, trend.case)
