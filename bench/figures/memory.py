"""What a connection costs in memory: by how much the server's processes grow with each, a row a strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import points
from bench.figures.style import PAPER, QUIET, Look, explain, mark, name_panel, name_rows, panels
from bench.metrics import SETTING
from bench.rows import dicts
from bench.stats import theil_sen
from bench.words import counted, digits, quoted, split, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIB = 1024.0
LEAST_KIB = 0.1  # less than a page in 40 connections: drawn at the left edge
MOST_TRIALS = 200  # of a strategy and setting; all pairs of them are compared
COLUMNS = [*SETTING, "strategy", "kib", "low", "high", "fewest", "most", "mib_fewest", "mib_most", "doubts", "ids"]


def rows(analysis: Analysis) -> pd.DataFrame:
    """Give for each strategy and setting, measured at two numbers of connections or more, the slope of resident memory.

    `kib` a connection with its 95 % interval (theil_sen over the trials), and the medians in MiB at the fewest and the
    most connections. Resident memory is that at the window's end with all connections open, summed over the processes:
    a page that several of them share counts in each.
    """
    trials = analysis.trials
    good = trials[(trials["status"] == "ok") & (trials["rss_bytes"] > 0) & (trials["slo"] == "")]
    found = []
    for key, trials_of_it in good.groupby([*SETTING, "strategy"], sort=True):
        own = trials_of_it.sort_values(["repeat", "connections"])[:MOST_TRIALS]
        if own["connections"].nunique() < 2:
            continue
        kib, low, high, _ = theil_sen(own["connections"].tolist(), (own["rss_bytes"] / KIB).tolist())
        by_count = own.groupby("connections")["rss_bytes"].median() / KIB**2
        found.append(
            (
                *key,
                *(kib, low, high),
                *(int(by_count.index[0]), int(by_count.index[-1]), by_count.iloc[0], by_count.iloc[-1]),
                *("" if kib > LEAST_KIB else "none_seen", " ".join(own["id"])),
            )
        )
    return pd.DataFrame(found, columns=COLUMNS)


def draw(found: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a panel a setting, the strategy with the smallest connections on top. Takes what `rows` gives."""
    settings = split(found, SETTING)
    names = list(found.groupby("strategy")["kib"].median().sort_values(kind="stable").index)
    figure, axes = panels(len(settings), 2, 0.26 * len(names) + 0.9, one_scale=False)
    right = max(1.0, float(found["high"].max()), float(found["kib"].max()) * 1.2) * 1.3
    for panel, (setting, own) in zip(axes, settings, strict=True):
        where = title(setting, [other for other, _ in settings])
        panel.set_xscale("log")
        panel.set_xlim(LEAST_KIB * 0.7, right * 2)  # room for the last number
        there = {row["strategy"]: row for row in dicts(own.assign(where=where))}
        for y, name in enumerate(names):
            if name in there:
                _point(panel, y, there[name], looks[name])
            else:
                text = panel.text(LEAST_KIB * 1.1, y, "not measured", va="center", fontsize=8.5, color=QUIET)
                mark(text, name)
        name_rows(panel, names, lines=True)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        panel.set_xlabel("KiB of resident memory a connection")
        name_panel(panel, where)
    explain(figure, (), drawn=_handles(found))
    return figure


def _handles(found: pd.DataFrame) -> dict[str, Any]:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    handles: dict[str, Any] = {"95 % interval of the slope": Line2D([], [], color=QUIET, lw=1.3, marker="|", ms=7)}
    if found["doubts"].any():
        handles[f"hollow: less than {LEAST_KIB:g} KiB, or less memory at more connections"] = Line2D(
            [], [], color=QUIET, marker="o", mfc=PAPER, ls="", ms=6.5, mew=1.2
        )
    return handles


def _point(axes: Axes, y: float, row: Mapping[Any, Any], look: Look) -> None:
    low, high, at = (max(LEAST_KIB, row[name]) for name in ("low", "high", "kib"))
    (interval,) = axes.plot([low, high], [y, y], color=look.color, lw=1.3, marker="|", ms=6)
    mark(interval, row["strategy"])
    face = PAPER if row["doubts"] else look.color
    (drawn,) = axes.plot(at, y, marker=look.marker, color=look.color, mfc=face, ms=6.5, mew=1.3, clip_on=False)
    mark(drawn, row["strategy"], [_says(row)])
    value = f"{digits(row['kib'])} KiB" if not row["doubts"] else "none seen"
    text = axes.annotate(value, (high, y), xytext=(9, 0), textcoords="offset points", va="center", fontsize=8.5)
    mark(text, row["strategy"])


def _says(row: Mapping[Any, Any]) -> str:
    return points.lines(
        points.place(row["strategy"], row["where"]),
        f"{digits(row['kib'])} KiB a connection (95 % interval {digits(row['low'])} to {digits(row['high'])})",
        f"{row['mib_fewest']:.1f} MiB at {counted(row['fewest'], 'connection')}, {row['mib_most']:.1f} at "
        f"{row['most']:,}",
        points.trials(row["ids"]),
    )


def message(found: pd.DataFrame) -> str:
    """Name the smallest and the largest cost of a connection. Takes what `rows` gives."""
    found = found.sort_values(["kib", "strategy"])
    if found.empty:
        return "Memory was read at one number of connections only."
    low, high = found.iloc[0], found.iloc[-1]
    told = [f"{_kib(row['kib'])} ({quoted(row['strategy'])})" for row in ([low, high] if len(found) > 1 else [low])]
    return f"A connection takes {' to '.join(told)} of memory."


def _kib(value: float) -> str:
    return f"{digits(value)} KiB" if value > LEAST_KIB and not math.isnan(value) else "nothing that can be seen"
