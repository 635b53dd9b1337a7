"""A chart of the lab: lines over logarithmic axes, drawn from what an experiment yielded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import points as says
from bench.figures.style import Look, looks, mark, panels
from bench.lab.experiment import Chart, with_unit
from bench.rows import dicts
from bench.words import joined, quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["line", "x", "y", "x_is", "y_is"]


def rows(chart: Chart) -> pd.DataFrame:
    """Give a row for each point that logarithmic axes can show."""
    points = [
        (name, x, y, chart.x, chart.y) for name, line in chart.lines.items() for x, y in sorted(line) if x > 0 and y > 0
    ]
    return pd.DataFrame(points, columns=COLUMNS)


def message(chart: Chart) -> str:
    """Say where the lines end."""
    ends = sorted((max(line), name) for name, line in chart.lines.items() if line)
    parts = [f"{quoted(name)} {with_unit(y)} (at {x:,.0f} {chart.x})" for (x, y), name in ends]
    return f"{chart.y}: {joined(parts)}."


def draw(points: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw one panel. Takes what `rows` gives; the lines have looks of their own, for they are no strategies."""
    own = looks(points["line"])
    figure, (axes,) = panels(1, 1, 3.6)
    ends: dict[str, tuple[float, float]] = {}
    for name, line in points.groupby("line"):
        look = own[str(name)]
        style: dict[str, Any] = {"color": look.color, "ls": look.dashes, "marker": look.marker}
        (drawn,) = axes.plot(line["x"], line["y"], ms=5.5, lw=1.5, **style)
        mark(
            drawn,
            says=[
                says.lines(
                    str(name), f"{point['y_is']}: {with_unit(point['y'])}", f"at {point['x']:,g} {point['x_is']}"
                )
                for point in dicts(line)
            ],
        )
        ends[str(name)] = (line["x"].iloc[-1], line["y"].iloc[-1])
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set_xlabel(str(points["x_is"].iloc[0]))
    axes.set_ylabel(str(points["y_is"].iloc[0]))
    for name, (x, y) in ends.items():
        axes.annotate(name, (x, y), xytext=(0, 8), textcoords="offset points", ha="right", color=own[name].color)
    return figure
