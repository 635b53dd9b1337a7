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
from bench.figures.style import PAPER, Look, label, mark, name_panel, panels, plain_numbers, shorten
from bench.metrics import CPU, GROUP, LATENCY, Metric
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


def message(analysis: Analysis) -> str:
    """Say of each strategy how its CPU per message grows from the fewest descriptors to the most, in each panel."""
    table = rows(analysis)
    table = table[table["metric"] == CPU.name]
    found = split(table, PANEL)
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
    found = split(table[table["metric"] == CPU.name], PANEL)
    settings = [setting for setting, _ in found]
    many = table["strategy"].nunique()
    columns = min(3, len(settings))
    shown = [(metric, setting) for metric in METRICS for setting in settings]
    figure, axes = panels(len(shown), columns, 3.1 + 0.17 * -(-many // (3 - min(columns, 2))), one_scale=False)
    for panel, (metric, setting) in zip(axes, shown, strict=True):
        here = table[table["metric"] == metric.name]
        for name, value in setting.items():
            here = here[here[name] == value]
        where = title(setting, settings, otherwise=("connections",)) or counted(setting["connections"], "connection")
        name_panel(panel, f"{_short(metric)}, active: {where}")
        _lines(panel, metric, here, looks, where)
    _share_scale(axes, len(settings))
    return figure


def _short(metric: Metric) -> str:
    return "CPU per message" if metric is CPU else "Median latency"


def _lines(axes: Axes, metric: Metric, lines: pd.DataFrame, looks: Mapping[str, Look], where: str) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    handles, names = [], []
    for name, line in lines.groupby("strategy"):
        look, strategy, exponent = looks[str(name)], str(name), slope(line)
        (drawn,) = axes.plot(line["watched"], line["value"], color=look.color, ls=look.dashes, lw=1.6)
        mark(drawn, strategy)
        for point in line.to_dict("records"):
            _point(axes, metric, point, look, where)
        text = f"{shorten(strategy, 24)}  {'one point' if math.isnan(exponent) else f'slope {exponent:+.2f}'}"
        handles.append(Line2D([], [], color=look.color, marker=look.marker, ls=look.dashes, ms=5, label=text))
        names.append(strategy)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_numbers(axes, "x")
    axes.yaxis.set_major_formatter(lambda value, _: duration_text(value, "{:g}".format))
    axes.set_xlabel("descriptors watched")
    _legend(axes, handles, names)


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


def _legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    shown = axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=2 if len(axes.figure.axes) <= 4 else 1,
        fontsize=8,
        frameon=False,
        handlelength=2.4,
    )
    for name, handle, text in zip(names, shown.legend_handles, shown.get_texts(), strict=True):
        label(text, name)
        if handle is not None:
            label(handle, name)


def _share_scale(axes: Sequence[Axes], of_each: int) -> None:
    """Give the panels of one metric the same axes, so that they can be compared."""
    for start in range(0, len(axes), of_each):
        row = axes[start : start + of_each]
        for panel in row:
            panel.set_ylim(min(other.get_ylim()[0] for other in row), max(other.get_ylim()[1] for other in row))
            panel.set_xlim(min(other.get_xlim()[0] for other in row), max(other.get_xlim()[1] for other in row))
