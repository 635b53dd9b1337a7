"""Messages per second over connections, a line a strategy, with the spread over repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from bench.figures.style import PAPER, Look, count_axis, label_ends, legend, panels, plain_numbers
from bench.words import settings, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(estimates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a panel for each setting (transport, message size, ...). Takes the table of estimates."""
    rates = estimates[estimates["metric"] == "rate_hz"]
    found = settings(rates)
    names = rates["strategy"].nunique()
    if len(found) == 1:
        figure, axes = panels(1, 1, max(4.3, 0.21 * names + 1))
    else:
        figure, axes = panels(len(found), 3, 3.0)
    for panel, (setting, rows) in zip(axes, found, strict=True):
        _lines(panel, rows, looks)
        panel.set_title(title(setting, [other for other, _ in found]))
    axes[0].set_ylabel("messages/s")
    if len(found) == 1:
        ends = {
            str(name): (float(line["connections"].iloc[-1]), float(line["value"].iloc[-1]))
            for name, line in rates.sort_values("connections").groupby("strategy")
        }
        label_ends(axes[0], ends, looks)
    else:
        legend(figure, sorted(rates["strategy"].unique()), looks)
    return figure


def _lines(axes: Axes, rates: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    for name, line in rates.sort_values("connections").groupby("strategy"):
        look = looks[str(name)]
        x, y = line["connections"], line["value"]
        spread = [y - line["min"], line["max"] - y]
        axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=look.color, elinewidth=1, capsize=3)
        axes.plot(x, y, color=look.color, ls=look.dashes, lw=1.7)
        bound = line["client_bound"] > 0
        axes.plot(x[~bound], y[~bound], ls="", marker=look.marker, color=look.color, ms=6)
        axes.plot(x[bound], y[bound], ls="", marker=look.marker, color=look.color, mfc=PAPER, mew=1.5, ms=6.5)
    axes.set_ylim(0, float(rates["max"].max()) * 1.06)
    plain_numbers(axes, "y")
    count_axis(axes, sorted(rates["connections"].unique()), "connections")
