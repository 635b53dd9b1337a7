"""Every trial in the order of execution, by the median of its case: drift and outliers are seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import points
from bench.figures.style import (
    INK,
    QUIET,
    UNMEASURED,
    Look,
    absent,
    explain,
    legend,
    legend_height_in,
    panels,
    scatter,
)
from bench.metrics import CASE, RATE
from bench.rows import dicts
from bench.words import column_text, value_text, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick the good trials of cases that were repeated, and give each its throughput by its case's median.

    Columns: order, strategy, where, id, flags, status, reason, rate_hz, ratio. Trials that failed or could not be run
    come with them, their ratio NaN. Where sends are planned, throughput is the plan's: those are left out.
    """
    trials = analysis.trials
    good = trials[(trials["rate_hz"] > 0) & ~trials["planned"].astype(bool)]
    by_case = good.groupby(list(CASE), sort=False)["rate_hz"]
    good = good.assign(ratio=good["rate_hz"] / by_case.transform("median"))[by_case.transform("size") > 1]
    bad = trials[(trials["status"] != "ok") & bool(len(good))]
    columns = ["order", "strategy", "where", "id", "flags", "status", "reason", "rate_hz", "ratio"]
    differing = varying(trials[trials["id"].isin([*good["id"], *bad["id"]])])
    found = [
        {**row, "where": ", ".join(column_text(name, row[name]) for name in differing)}
        for row in (*dicts(good), *dicts(bad.assign(ratio=math.nan)))
    ]
    return pd.DataFrame(found, columns=columns)


def draw(trials: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a strip of points. Takes what `rows` gives."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    bad, trials = trials[trials["ratio"].isna()], trials[trials["ratio"].notna()]
    names = sorted(trials["strategy"].unique())
    figure, (axes,) = panels(1, 1, 3.2, legend_height_in(names))
    axes.axhline(0, color=QUIET, lw=1)
    for trial in dicts(bad):
        name, look = trial["strategy"], looks.get(trial["strategy"], UNMEASURED)
        absent(axes, trial["order"], look, strategy=name, why=trial["status"], says=_says(trial))
    for name, own in trials.groupby("strategy"):
        at = (own["order"], 100 * (own["ratio"] - 1))
        says = [_says(trial) for trial in dicts(own)]
        scatter(axes, str(name), looks[str(name)], at, hollow=own["flags"] != "", says=says, ms=5, mew=1.1)
    ordered = trials.sort_values("order")
    window = max(5, len(ordered) // 12)
    middle = ordered["ratio"].rolling(window, center=True, min_periods=window // 2).median()
    axes.plot(ordered["order"], 100 * (middle - 1), color=INK, lw=1.4)
    reach = max(2.0, 100 * float((trials["ratio"] - 1).abs().max()) * 1.1)
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g} %" if value else "0 %")
    axes.set_ylabel("throughput, from its case's median")
    axes.set_xlabel("trial, in the order of execution")
    flags = {flag for found in trials["flags"].unique() for flag in found.split(", ")}
    line = Line2D([], [], color=INK, lw=1.4)
    explain(figure, {*flags, *bad["status"]}, drawn={"running median": line})
    legend(figure, names, looks, lines=False)
    return figure


def _says(trial: Mapping[Any, Any]) -> str:
    if trial["status"] != "ok":
        why = f"{trial['status']}: {trial['reason'] or 'no reason was recorded'}"
        return points.lines(points.place(trial["strategy"], trial["where"]), why, points.trials(trial["id"]))
    return points.lines(
        points.place(trial["strategy"], trial["where"]),
        f"{value_text(RATE, trial['rate_hz'])}, {100 * (trial['ratio'] - 1):+.2f} % from the median of its case",
        points.flagged(trial["flags"]),
        points.trials(trial["id"]),
    )
