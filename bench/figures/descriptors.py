"""What one event costs as the number of watched descriptors grows: the figure that libevent and libev made known.

A panel for each number of active connections, of CPU per message and of latency, both axes logarithmic; the slope of
each line stands in the legend. Takes the estimates of the workload `idle`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.analyse import Analysis
from bench.figures import points as says
from bench.figures.style import PAPER, Look, explain, label, mark, name_panel, panels, plain_numbers, shorten
from bench.metrics import CPU, GROUP, LATENCY, Metric
from bench.rows import dicts
from bench.words import counted, digits, duration_text, joined, quoted, split, title, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEDIAN = LATENCY[0]
METRICS = (CPU, MEDIAN)
# What all points of a panel have in common; along x are the connections, silent ones included.
PANEL = tuple(name for name in GROUP if name != "silent")


def rows(analysis: Analysis) -> pd.DataFrame:
    """Give the estimates of panels in which one strategy at least has several numbers of descriptors."""
    found = analysis.estimates[
        analysis.estimates["metric"].isin([metric.name for metric in METRICS])
        & (analysis.estimates["workload"] == "idle")
        & (analysis.estimates["slo"] == "")
    ]
    watched = found["connections"].astype(int) + found["silent"].astype(int)
    found = found.assign(watched=watched)
    if found.empty:
        return found
    numbers = found.groupby([*PANEL, "strategy"])["watched"].transform("nunique")
    wide = numbers.groupby([found[name] for name in PANEL]).transform("max") > 1
    return found[wide].sort_values([*PANEL, "strategy", "watched"], ignore_index=True)


def slope(line: pd.DataFrame) -> float:
    """The exponent b of cost = a * descriptors**b, by least squares on the logarithms; NaN of a single point."""
    good = line[line["value"] > 0]
    if good["watched"].nunique() < 2:
        return math.nan
    return float(np.polyfit(np.log(good["watched"].astype(float)), np.log(good["value"].astype(float)), 1)[0])


def message(table: pd.DataFrame) -> str:
    """Say of each strategy how its CPU per message grows from the fewest descriptors to the most, in each panel.

    Takes what `rows` gives.
    """
    found = split(table[table["metric"] == CPU.name], PANEL)
    sentences = []
    for panel, lines in found:
        where = title(panel, [other for other, _ in found], otherwise=("connections",))
        parts = [
            (line["value"].iloc[-1] / line["value"].iloc[0], f"{quoted(str(name))} {_growth(line)}")
            for name, line in lines.groupby("strategy")
            if line["watched"].nunique() > 1
        ]
        if parts:
            told = joined([text for _, text in sorted(parts)])
            sentences.append(f"Active: {where}. CPU per message at the most descriptors by that at the fewest: {told}.")
    return " ".join(sentences)


def _growth(line: pd.DataFrame) -> str:
    first, last = line.iloc[0], line.iloc[-1]
    return f"{digits(last['value'] / first['value'])}× ({first['watched']:,} to {last['watched']:,})"


def draw(table: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a row of panels for each metric. Takes what `rows` gives."""
    settings = [setting for setting, _ in split(table, PANEL)]
    shown = [
        (metric, setting, lines)
        for metric in METRICS
        for setting, lines in split(table[table["metric"] == metric.name], PANEL)
    ]
    columns = min(3, len(settings))
    legend_rows = -(-table["strategy"].nunique() // _legend_columns(columns))
    figure, axes = panels(len(shown), columns, 3.0 + 0.18 * legend_rows, one_scale=False)
    for panel, (metric, setting, lines) in zip(axes, shown, strict=True):
        where = title(setting, settings, otherwise=("connections",))
        name_panel(panel, f"{_short(metric)}, active: {where}")
        _lines(panel, metric, lines, looks, where)
        _legend(panel, lines, looks, _legend_columns(columns))
    for metric in dict.fromkeys(metric for metric, *_ in shown):
        _scale([panel for panel, (of, *_) in zip(axes, shown, strict=True) if of is metric])
    explain(figure, ["client_bound"] if (table["client_bound"] > 0).any() else [])
    return figure


def _short(metric: Metric) -> str:
    return "CPU per message" if metric is CPU else "Median latency"


def _lines(axes: Axes, metric: Metric, lines: pd.DataFrame, looks: Mapping[str, Look], where: str) -> None:
    for name, line in lines.groupby("strategy"):
        look = looks[str(name)]
        (drawn,) = axes.plot(line["watched"], line["value"], color=look.color, ls=look.dashes, lw=1.6)
        mark(drawn, str(name))
        for point in dicts(line):
            _point(axes, metric, point, look, where)
    axes.set_xlabel("descriptors watched")


def _point(axes: Axes, metric: Metric, point: Mapping[Any, Any], look: Look, where: str) -> None:
    if point["n"] > 1 and not math.isnan(point["min"]):
        (bar,) = axes.plot([point["watched"]] * 2, [point["min"], point["max"]], color=look.color, lw=1)
        mark(bar, point["strategy"])
    (marker,) = axes.plot(
        point["watched"],
        point["value"],
        ls="",
        marker=look.marker,
        ms=5.5,
        color=look.color,
        mfc=PAPER if point["client_bound"] else look.color,
        mew=1.3,
    )
    told = says.lines(
        says.place(point["strategy"], f"{counted(point['watched'], 'descriptor')} watched", f"active: {where}"),
        f"{metric.title}: {value_text(metric, point['value'])}"
        + says.spread(metric, point["min"], point["max"], point["n"]),
        says.limit(point["client_bound"], point["trials"]),
        says.trials(point["ids"]),
    )
    mark(marker, point["strategy"], [told])


def _legend_columns(panels_in_a_row: int) -> int:
    """How many names with their slopes fit side by side under a panel."""
    return {1: 3, 2: 2}.get(panels_in_a_row, 1)


def _legend(axes: Axes, lines: pd.DataFrame, looks: Mapping[str, Look], columns: int) -> None:
    """Name the lines under the panel, each with its slope."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    names, handles = [], []
    for name, line in lines.groupby("strategy"):
        look = looks[str(name)]
        text = f"{shorten(str(name), 24)}  {_slope_text(slope(line))}"
        handles.append(Line2D([], [], color=look.color, marker=look.marker, ls=look.dashes, ms=5, label=text))
        names.append(str(name))
    shown = axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=2.4,
    )
    for name, handle, words in zip(names, shown.legend_handles, shown.get_texts(), strict=True):
        label(words, name)
        if handle is not None:
            label(handle, name)


def _slope_text(exponent: float) -> str:
    return "one point" if math.isnan(exponent) else f"slope {round(exponent, 2) + 0.0:+.2f}"  # + 0.0: no "-0.00"


def _scale(axes: Sequence[Axes]) -> None:
    """Give the panels of one metric the same logarithmic axes, so that they can be compared."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    for panel in axes:
        panel.set_xscale("log")
        panel.set_yscale("log")
    low, high = min(panel.get_ylim()[0] for panel in axes), max(panel.get_ylim()[1] for panel in axes)
    left, right = min(panel.get_xlim()[0] for panel in axes), max(panel.get_xlim()[1] for panel in axes)
    for panel in axes:
        panel.set_ylim(low, high)
        panel.set_xlim(left, right)
        panel.xaxis.set_major_locator(LogLocator())
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_locator(NullLocator())
        plain_numbers(panel, "x")
        panel.yaxis.set_major_formatter(lambda value, _: duration_text(value, "{:g}".format))
