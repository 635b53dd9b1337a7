"""Every trial in the order of execution, by the median of its case: drift of the machine and outliers are seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import points
from bench.figures.style import INK, PAPER, QUIET, Look, legend, legend_height_in, mark, panels
from bench.metrics import CASE, RATE
from bench.words import column_text, value_text, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick the good trials of cases that were repeated, and give each its throughput by its case's median.

    Columns: order, strategy, where, id, flags, rate_hz, ratio. Where sends are planned, throughput is the plan's: those
    are left out.
    """
    good = analysis.trials[(analysis.trials["rate_hz"] > 0) & ~analysis.trials["planned"].astype(bool)]
    cases = good.groupby(list(CASE), sort=False)["rate_hz"]
    ratio = good["rate_hz"] / cases.transform("median")
    differing = varying(good)
    where = [", ".join(column_text(name, row[name]) for name in differing) for row in good.to_dict("records")]
    columns = ["order", "strategy", "where", "id", "flags", "rate_hz", "ratio"]
    return good.assign(ratio=ratio, where=where)[cases.transform("size") > 1][columns]


def draw(trials: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a strip of points. Takes what `rows` gives."""
    names = sorted(trials["strategy"].unique())
    figure, (axes,) = panels(1, 1, 3.2, legend_height_in(names))
    axes.axhline(0, color=QUIET, lw=1)
    for name, own in trials.groupby("strategy"):
        look = looks[str(name)]
        style: dict[str, Any] = {"marker": look.marker, "ms": 5, "ls": "", "color": look.color, "mew": 1.1}
        for flagged, part in own.groupby(own["flags"] != ""):
            (drawn,) = axes.plot(
                part["order"], 100 * (part["ratio"] - 1), mfc=PAPER if flagged else look.color, **style
            )
            mark(drawn, str(name), [_says(trial) for trial in part.to_dict("records")])
    ordered = trials.sort_values("order")
    window = max(5, len(ordered) // 12)
    middle = ordered["ratio"].rolling(window, center=True, min_periods=window // 2).median()
    axes.plot(ordered["order"], 100 * (middle - 1), color=INK, lw=1.4)
    reach = max(2.0, 100 * float((trials["ratio"] - 1).abs().max()) * 1.1)
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g} %" if value else "0 %")
    axes.set_ylabel("throughput, from its case's median")
    axes.set_xlabel("trial, in the order of execution")
    legend(figure, names, looks, lines=False)
    return figure


def _says(trial: Mapping[Any, Any]) -> str:
    return points.lines(
        points.place(trial["strategy"], trial["where"]),
        f"{value_text(RATE, trial['rate_hz'])}, {100 * (trial['ratio'] - 1):+.2f} % from the median of its case",
        points.flagged(trial["flags"]),
        points.trials(trial["id"]),
    )
