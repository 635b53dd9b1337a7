"""Throughput within the window, a row a strategy, a line a trial: what drifted or stalled in mid-trial is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analyse import Analysis
from bench.figures.style import INK, QUIET, Look, panels, shorten
from bench.record import Load
from bench.words import counted, named, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TRIALS = 20  # of a strategy: the most uneven ones
LEAST_PER_INTERVAL = 20  # messages: fewer vary by chance more than anything else


def rows(analysis: Analysis) -> pd.DataFrame:
    """Give the intervals of the good trials: strategy, id, unsteady, t_s (its middle), ratio (to the trial's mean).

    Trials with few messages an interval are left out, and the last interval where it is a shorter one.
    """
    found = [
        (record, record.load.interval_ns / 1e9, ratios)
        for record in analysis.run.records
        if record.status == "ok" and record.load and (ratios := _ratios(record.load)) is not None
    ]
    taken: Counter[str] = Counter()
    table: list[tuple[str, str, bool, float, float]] = []
    for record, interval_s, ratios in sorted(found, key=lambda it: (-float(it[2].std()), it[0].id)):
        name = record.trial.strategy
        taken[name] += 1
        if taken[name] <= MOST_TRIALS:
            unsteady = "unsteady" in record.flags
            table += [(name, record.id, unsteady, (i + 0.5) * interval_s, float(it)) for i, it in enumerate(ratios)]
    return pd.DataFrame(table, columns=["strategy", "id", "unsteady", "t_s", "ratio"])


def _ratios(load: Load) -> NDArray[np.float64] | None:
    whole = (load.closed_ns - load.opened_ns) // load.interval_ns if load.interval_ns > 0 else 0
    counts = np.asarray(load.intervals[:whole], dtype=np.float64)
    return counts / counts.mean() if len(counts) >= 3 and counts.mean() >= LEAST_PER_INTERVAL else None


def draw(intervals: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a row a strategy, its trials over each other. Takes what `rows` gives."""
    names = sorted(intervals["strategy"].unique())
    reach = float(np.clip((intervals["ratio"] - 1).abs().max() * 1.1, 0.1, 1.0))  # half of a row's height
    figure, (axes,) = panels(1, 1, max(1.6, 0.5 * len(names) + 0.7))
    for row, name in enumerate(names):
        own = intervals[intervals["strategy"] == name]
        axes.axhline(row, color=QUIET, lw=0.7)
        for unsteady in (False, True):
            x, y = _broken(own[own["unsteady"] == unsteady])
            heights = row - np.clip((np.array(y) - 1) / (2 * reach), -0.5, 0.5)
            color = INK if unsteady else looks[name].color
            axes.plot(x, heights, color=color, lw=1.6 if unsteady else 0.9, alpha=1 if unsteady else 0.6)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, float(intervals["t_s"].max()) * 1.03)
    axes.set_xlabel("seconds into the window")
    axes.set_ylabel(f"each row: ±{percent(reach)}")
    return figure


def _broken(part: pd.DataFrame) -> tuple[list[float], list[float]]:
    """All trials as one line that is broken between them: much faster to draw than a line each."""
    x: list[float] = []
    y: list[float] = []
    for _, trial in part.groupby("id"):
        x += [*trial["t_s"], np.nan]
        y += [*trial["ratio"], np.nan]
    return x, y


def message(analysis: Analysis) -> str:
    """Say how many trials drifted within their window."""
    good = analysis.trials[analysis.trials["status"] == "ok"]
    drifted = good[good["flags"].str.contains("unsteady")]
    if drifted.empty:
        return "No trial drifted within its window."
    return (
        f"{len(drifted):,} of {counted(len(good), 'trial')} drifted within the window, in throughput or response time: "
        f"{named(sorted(drifted['strategy'].unique()))}."
    )
