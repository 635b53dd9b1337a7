"""Throughput within the window, a row a strategy, a line a trial: what drifted or stalled in mid-trial is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analyse import Analysis
from bench.figures import points
from bench.figures.style import HOLLOW, INK, QUIET, Look, explain, mark, name_rows, panels
from bench.record import Load
from bench.rows import by_key
from bench.words import counted, named, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TRIALS = 20  # of a strategy: the most uneven ones
FEW = 12  # strategies: rows of more are lower
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
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    names = sorted(intervals["strategy"].unique())
    reach = float(np.clip((intervals["ratio"] - 1).abs().max() * 1.1, 0.1, 1.0))  # half of a row's height
    figure, (axes,) = panels(1, 1, max(1.6, (0.5 if len(names) <= FEW else 0.3) * len(names) + 0.7))
    for row, name in enumerate(names):
        own = intervals[intervals["strategy"] == name]
        axes.axhline(row, color=QUIET, lw=0.7)
        heights = row - np.clip((own["ratio"] - 1) / (2 * reach), -0.5, 0.5)
        own = own.assign(height=heights)
        _trials(axes, name, own[~own["unsteady"]], color=looks[name].color, lw=0.9, alpha=0.6)
        _trials(axes, name, own[own["unsteady"]], color=INK, lw=1.6)
    name_rows(axes, names)
    axes.set_xlim(0, float(intervals["t_s"].max()) * 1.03)
    axes.set_xlabel("seconds into the window")
    axes.set_ylabel(f"each row: ±{percent(reach)}")
    if intervals["unsteady"].any():
        explain(figure, drawn={f"dark: {HOLLOW['unsteady']}": Line2D([], [], color=INK, lw=1.6)})
    return figure


def _trials(axes: Axes, name: str, part: pd.DataFrame, **style: Any) -> None:
    """Draw trials as one collection of lines: much faster than a line each."""
    from matplotlib.collections import LineCollection  # noqa: PLC0415 - slow to import

    t_s, heights, ratios = (by_key(part, ["id"], column) for column in ("t_s", "height", "ratio"))
    if not t_s:
        return
    drawn = LineCollection([list(zip(t_s[key], heights[key], strict=True)) for key in t_s], **style)
    unsteady = bool(part["unsteady"].any())
    mark(drawn, name, [_says(name, str(*key), own, unsteady) for key, own in ratios.items()])
    axes.add_collection(drawn)


def _says(name: str, key: str, ratios: Sequence[float], unsteady: bool) -> str:
    return points.lines(
        points.place(name),
        f"between {percent(min(ratios) - 1)} and +{percent(max(ratios) - 1)} of its mean",
        "unsteady" if unsteady else "",
        points.trials(key),
    )


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
