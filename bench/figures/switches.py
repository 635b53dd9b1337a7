"""Context switches of the server per message within a sweep's own windows, a panel a number of connections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from bench.analyse import Analysis, medians
from bench.figures import bars, cases
from bench.figures.style import SERIES, Look
from bench.metrics import CASE, SWITCHES
from bench.rows import dicts
from bench.words import counted, digits, quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = bars.Kind(
    SWITCHES,
    (
        bars.Part("switches_voluntary", "voluntary: it slept", SERIES[3]),
        bars.Part("switches_involuntary", "involuntary: its CPU was taken", SERIES[8]),
    ),
    "context switches per message",
)


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick the switches per message of each case, with the median of each of its parts in a column."""
    totals = cases.measured(analysis, SWITCHES.name)
    if totals.empty:
        return totals
    keys = [tuple(row[name] for name in CASE) for row in dicts(totals)]
    parts = {}
    for part in KIND.parts:
        found = medians(analysis.trials, part.column)
        parts[part.column] = [found.get(key, math.nan) for key in keys]
    return totals.assign(doubts=cases.without(totals["doubts"], "client_bound"), **parts)


def draw(totals: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw stacked bars. Takes what `rows` picks."""
    return bars.draw(totals, KIND)


def message(found: pd.DataFrame) -> str:
    """Name the fewest and the most at the most connections. Takes what `rows` picks."""
    found = found[found["value"].notna()]
    if found.empty:
        return "They were not counted."
    most = found["connections"].max()
    ends = found[found["connections"] == most].sort_values(["value", "strategy"])
    low, high = ends.iloc[0], ends.iloc[-1]
    at = f"at {counted(most, 'connection')}"
    if len(ends) == 1:
        return f"{quoted(low['strategy'])}: {digits(low['value'])} context switches for a message {at}."
    return (
        f"From {digits(low['value'])} ({quoted(low['strategy'])}) to {digits(high['value'])} "
        f"({quoted(high['strategy'])}) context switches for a message {at}."
    )
