"""CPU time of the server per message, user and system, a panel a number of connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import points
from bench.figures.style import INK, QUIET, SYSTEM, USER, Look, columns_for, mark, name_panel, name_rows, panels
from bench.metrics import CASE, CPU, GROUP
from bench.words import digits, joined, split, title, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure

PARTS = (("cpu_user_us", "user: the interpreter", USER), ("cpu_system_us", "system: the kernel", SYSTEM))


def draw(estimates: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw stacked bars, the cheapest at the most connections on top. Takes the table of estimates."""
    from matplotlib.patches import Patch  # noqa: PLC0415

    totals = estimates[estimates["metric"] == "cpu_us"].merge(_parts(estimates), on=list(CASE), how="left")
    found = split(totals, GROUP)
    at_most = totals.sort_values(["connections", "value"]).drop_duplicates("strategy", keep="last")
    names = list(at_most.sort_values(["connections", "value"], ascending=[False, True])["strategy"])
    figure, axes = panels(
        len(found), columns_for(totals["connections"].nunique()), 0.26 * len(names) + 0.75, below_in=0.3
    )
    for panel, (group, rows) in zip(axes, found, strict=True):
        where = title(group, [other for other, _ in found], otherwise=("connections",))
        _bars(panel, rows, names, where)
        name_panel(panel, where)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    handles = [Patch(fc=color, lw=0, label=label) for _, label, color in PARTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _bars(axes: Axes, totals: pd.DataFrame, names: list[str], where: str) -> None:
    row = {name: place for place, name in enumerate(names)}
    widest = float(totals["max"].max())
    rows, left = totals["strategy"].map(row), totals["value"] * 0
    for metric, _, color in PARTS:
        part = totals[metric].fillna(0)
        _mark_all(axes.barh(rows, part, 0.68, left=left, color=color), totals, where)
        left += part
    unsplit = left == 0
    _mark_all(axes.barh(rows[unsplit], totals["value"][unsplit], 0.68, color=QUIET), totals[unsplit], where)
    for total, y, length in zip(totals.to_dict("records"), rows, left, strict=True):
        if total["n"] > 1:
            (spread,) = axes.plot([total["min"], total["max"]], [y, y], color=INK, lw=1.3, marker="|", ms=6)
            mark(spread, total["strategy"])
        end = max(length, total["max"])
        mark(axes.text(end + widest * 0.025, y, digits(total["value"]), va="center", fontsize=8.5), total["strategy"])
    for name in set(names) - set(totals["strategy"]):
        mark(axes.text(widest * 0.015, row[name], "not run", va="center", fontsize=8.5, color=QUIET), name)
    name_rows(axes, names)
    axes.set_xlim(0, widest * 1.16)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("µs per message")


def _mark_all(bars: BarContainer, totals: pd.DataFrame, where: str) -> None:
    for bar, total in zip(bars, totals.to_dict("records"), strict=True):
        mark(bar, total["strategy"], [_says(total, where)])


def _says(total: Mapping[Any, Any], where: str) -> str:
    parts = [f"{label.partition(':')[0]} {value_text(CPU, total[metric])}" for metric, label, _ in PARTS]
    return points.lines(
        points.place(total["strategy"], where),
        points.estimated(CPU, total),
        joined(parts) if total["cpu_user_us"] == total["cpu_user_us"] else "",
        points.trials(total["ids"]),
    )


def _parts(estimates: pd.DataFrame) -> pd.DataFrame:
    """A row a case, a column for each of PARTS; NaN where it was not measured."""
    names = [metric for metric, *_ in PARTS]
    rows = estimates[estimates["metric"].isin(names)]
    return rows.pivot(index=list(CASE), columns="metric", values="value").reindex(columns=names).reset_index()
